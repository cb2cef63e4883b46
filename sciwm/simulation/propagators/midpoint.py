"""Long strides that keep what Newton's motion keeps: the equations of a generating map, solved."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.models.programs.stride_program import CompiledStrideMap
from sciwm.simulation.propagators.map_propagator import MapPropagator
from sciwm.simulation.simulator import Evaluation, SimulatorError
from sciwm.simulation.velocities import sum_by_system

MEMORY = 5
"""Earlier guesses that the next one is made of."""

MOST_ROUNDS = 40
"""Of asking the map, before a stride counts as one that cannot be solved."""

HALVINGS = 3
"""Of a stride that cannot be solved, before its system is given up."""

EXACT = 0.8
"""Power of the precision to which guesses and answers must agree: 3e-13 in double, 3e-6 in single."""


@dataclass
class Solutions:
    """Strides that were tried, and of them those for which no solution was found."""

    taken: int = 0
    unsolved: int = 0


class MidpointPropagator(MapPropagator):
    """Strides of a `GeneratingMap`: what it tells of the middle must lead through that middle.

    Solved by Anderson's acceleration of the plain iteration (J. ACM 12, 547 (1965); type II of Fang &
    Saad, Numer. Linear Algebra Appl. 16, 197 (2009)), each system for itself. A stride that cannot be solved
    is taken as two of half its length, and so on; one that still cannot is never returned.

    Attributes:
        solutions: How many since it was made, by it and whatever `select` made of it.
    """

    def __init__(self, flow: CompiledStrideMap, stride: float):
        super().__init__(flow, stride)
        self.solutions = Solutions()

    def select(self, keep: Sequence[int]) -> "MidpointPropagator":
        chosen = MidpointPropagator(self.flow, self.stride)
        chosen.solutions = self.solutions
        return chosen

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation | None]:
        """See `Propagator`.

        Raises:
            SimulatorError: If a stride of some system cannot be solved, however short.
        """
        moved, solved = self.whole(state)
        parts = 1
        while not bool(solved.all()):
            if parts == 2**HALVINGS:
                system = int(torch.nonzero(~solved)[0])
                raise SimulatorError(
                    f"the equations of a stride of {self.stride:g} have no solution near, nor those of its "
                    f"{parts} parts; take shorter strides or colder systems",
                    system,
                )
            parts *= 2
            again, done = state, torch.ones_like(solved)
            for _ in range(parts):
                again, well = self._solved(again, self.stride / parts)
                done &= well
            taken = (done & ~solved)[state.batch][:, None]
            moved = state.moved(
                torch.where(taken, again.positions, moved.positions),
                torch.where(taken, again.velocities, moved.velocities),
            )
            solved |= done
        if parts > 1:
            warnings.warn(
                f"a stride of {self.stride:g} could not be solved, and was taken in {parts} parts",
                stacklevel=2,
            )
        return moved, None

    def whole(self, state: State) -> tuple[State, Tensor]:
        """The state after one whole stride, and (S,) whether it was found; others stay where they are."""
        moved, solved = self._solved(state, self.stride)
        self.solutions.taken += len(solved)
        self.solutions.unsolved += int((~solved).sum())
        return moved, solved

    def _solved(self, state: State, stride: float) -> tuple[State, Tensor]:
        """The state a stride later, and (S,) whether its equations were solved."""
        times = state.positions.new_full((state.n_systems,), stride)
        speeds = self.flow.model.speeds[state.numbers].to(state.positions)[:, None]
        # The middle in units of a usual stride and a usual speed, counted from the start.
        middle = torch.cat([0.5 * state.velocities / speeds, torch.zeros_like(state.velocities)], 1)
        solved = torch.zeros(state.n_systems, dtype=torch.bool, device=middle.device)
        lost = torch.zeros_like(solved)
        end = state
        guesses: list[Tensor] = []
        errors: list[Tensor] = []
        enough = torch.finfo(self._dtype).eps ** EXACT
        for _ in range(MOST_ROUNDS):
            seen = state.moved(
                state.positions + stride * speeds * middle[:, :3],
                state.velocities + speeds * middle[:, 3:],
            )
            cast = self._in_model_precision(seen)
            stray, gain = (
                one.to(state.positions) for one in self._changes(cast, times.to(self._dtype))
            )
            led = torch.cat([0.5 * (seen.velocities + stray), 0.5 * gain], 1) / speeds
            error = led - middle
            worst = error.new_zeros(state.n_systems).scatter_reduce(
                0, state.batch, error.abs().amax(1), "amax"
            )
            near = (worst <= enough) & ~solved & ~lost
            if bool(near.any()):
                taken = near[state.batch][:, None]
                positions = state.positions + stride * (seen.velocities + stray)
                end = state.moved(
                    torch.where(taken, positions, end.positions),
                    torch.where(taken, state.velocities + gain, end.velocities),
                )
                solved |= near
            lost |= ~torch.isfinite(worst)
            if bool((solved | lost).all()):
                break
            error = torch.where(lost[state.batch][:, None], 0.0, error)
            guesses, errors = [*guesses, middle][-MEMORY:], [*errors, error][-MEMORY:]
            middle = _next(guesses, errors, state)
        return end, solved

    @property
    def parameters(self) -> dict[str, str | float]:
        return {"integrator": "generating map", "dt": self.stride}


def _next(guesses: list[Tensor], errors: list[Tensor], state: State) -> Tensor:
    """(A, 6) the guess whose error would be least, were errors linear in guesses, moved on by that error."""
    if len(guesses) == 1:
        return guesses[0] + errors[0]
    steps = torch.stack([errors[-1] - one for one in errors[:-1]], dim=2)  # (A, 6, m)
    moves = torch.stack([guesses[-1] - one for one in guesses[:-1]], dim=2)
    products = sum_by_system(torch.einsum("aim,ain->amn", steps, steps).flatten(1), state)
    normal = products.unflatten(1, (steps.shape[2],) * 2)
    sought = sum_by_system(torch.einsum("aim,ai->am", steps, errors[-1]), state)
    scale = normal.diagonal(dim1=1, dim2=2).sum(1).clamp(min=torch.finfo(normal.dtype).tiny)
    ridge = 1e-14 * scale[:, None, None] * torch.eye(steps.shape[2]).to(normal)
    shares = torch.linalg.solve(normal + ridge, sought)[state.batch][:, None]
    corrected = (moves + steps) @ shares.transpose(1, 2)
    return guesses[-1] + errors[-1] - corrected[..., 0]

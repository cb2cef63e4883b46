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

EXACT = 3e-13
"""How well guesses and answers must agree, as shares of usual strides and speeds."""


SAME = 1e-8
"""The same, of two ways that are one."""


@dataclass
class Solutions:
    """Strides that were tried, and of them those for which no solution was found.

    Strides that were taken again, because another system of the batch stopped in them, count again.
    """

    taken: int = 0
    unsolved: int = 0


class MidpointPropagator(MapPropagator):
    """Strides of a `GeneratingMap`: what it tells of the middle must lead through that middle.

    Solved by Anderson's acceleration of the plain iteration (J. ACM 12, 547 (1965); type II of Fang &
    Saad, Numer. Linear Algebra Appl. 16, 197 (2009)), each system for itself, from the map's own first guess
    on. A stride that cannot be solved is taken as two of half its length, and so on, as long as those were
    trained; one that still cannot is never returned. Parts lead back only where they are needed both ways.

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
            parts *= 2
            if not self._trained(self.stride / parts):
                tried = "" if parts == 2 else f", nor those of its {parts // 2} parts"
                raise SimulatorError(
                    f"the equations of a stride of {self.stride:g} have no solution near{tried}; take "
                    "shorter strides, or start colder",
                    int(torch.nonzero(~solved)[0]),
                )
            again, done = state, ~solved
            for _ in range(parts):
                again, well = self._solved(again, self.stride / parts)
                done &= well
            taken = done[state.batch][:, None]
            moved = state.moved(
                torch.where(taken, again.positions, moved.positions),
                torch.where(taken, again.velocities, moved.velocities),
            )
            solved = solved | done
            if bool(done.any()):
                warnings.warn(
                    f"strides of {self.stride:g} could not be solved, and were taken in {parts} parts",
                    stacklevel=2,
                )
        return moved, None

    def _trained(self, stride: float) -> bool:
        try:
            self.flow.model.require_stride(stride)
        except ValueError:
            return False
        return True

    def whole(self, state: State) -> tuple[State, Tensor]:
        """The state after one whole stride, and (S,) whether it was found; others stay where they are."""
        moved, solved = self._solved(state, self.stride)
        self.solutions.taken += len(solved)
        self.solutions.unsolved += int((~solved).sum())
        return moved, solved

    def leads_back(self, start: State, end: State) -> Tensor:
        """(S,) whether from the end, with velocities turned round, a whole stride leads to the start."""
        found, solved = self._solved(end.moved(end.positions, -end.velocities), self.stride)
        speeds = self.flow.model.speeds[start.numbers].to(found.positions)[:, None]
        off = torch.cat(
            [
                (found.positions - start.positions) / (self.stride * speeds),
                (found.velocities + start.velocities) / speeds,
            ],
            dim=1,
        )
        return solved & (_worst(off, start) <= SAME)

    def _solved(self, state: State, stride: float) -> tuple[State, Tensor]:
        """The state a stride later, and (S,) whether its equations were solved."""
        state = self._in_model_precision(state)
        speeds = self.flow.model.speeds[state.numbers][:, None]
        times = state.positions.new_full((state.n_systems,), stride)
        straight = state.moved(state.positions + 0.5 * stride * state.velocities, state.velocities)
        stray, gain = self._changes(straight, -times)
        # The middle in units of a usual stride and a usual speed, counted from the start.
        middle = 0.5 * torch.cat([state.velocities + stray, gain], 1) / speeds
        solved = torch.zeros(state.n_systems, dtype=torch.bool, device=middle.device)
        lost = torch.zeros_like(solved)
        end = state
        guesses: list[Tensor] = []
        errors: list[Tensor] = []
        for _ in range(MOST_ROUNDS):
            seen = state.moved(
                state.positions + stride * speeds * middle[:, :3],
                state.velocities + speeds * middle[:, 3:],
            )
            stray, gain = self._changes(seen, times)
            led = torch.cat([0.5 * (seen.velocities + stray), 0.5 * gain], 1) / speeds
            error = led - middle
            worst = _worst(error, state)
            near = (worst <= EXACT) & ~solved & ~lost
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
            # One without bounds must not reach the table of neighbours of the others.
            gone = lost[state.batch][:, None]
            error, middle = torch.where(gone, 0.0, error), torch.where(gone, 0.0, middle)
            guesses, errors = [*guesses, middle][-MEMORY:], [*errors, error][-MEMORY:]
            middle = _next(guesses, errors, state)
        return end, solved

    @property
    def parameters(self) -> dict[str, str | float]:
        return {"integrator": "generating map", "dt": self.stride}


def _worst(values: Tensor, state: State) -> Tensor:
    """(S,) the largest size of (A, 6) values in each system."""
    sizes = values.abs().amax(1)
    return sizes.new_zeros(state.n_systems).scatter_reduce(0, state.batch, sizes, "amax")


def _next(guesses: list[Tensor], errors: list[Tensor], state: State) -> Tensor:
    """(A, 6) the guess whose error would be least, were errors linear in guesses, moved on by that error."""
    if len(guesses) == 1:
        return guesses[0] + errors[0]
    steps = torch.stack([errors[-1] - one for one in errors[:-1]], dim=2)  # (A, 6, m)
    moves = torch.stack([guesses[-1] - one for one in guesses[:-1]], dim=2)
    products = sum_by_system(torch.einsum("aim,ain->amn", steps, steps).flatten(1), state)
    normal = products.unflatten(1, (steps.shape[2],) * 2)
    sought = sum_by_system(torch.einsum("aim,ai->am", steps, errors[-1]), state)
    scale = normal.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-30)
    ridge = 1e-14 * scale[:, None, None] * torch.eye(steps.shape[2]).to(normal)
    shares = torch.linalg.solve(normal + ridge, sought)[state.batch][:, None]
    corrected = (moves + steps) @ shares.transpose(1, 2)
    return guesses[-1] + errors[-1] - corrected[..., 0]

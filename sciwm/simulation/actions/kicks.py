"""Forces from outside, around the strides of any motion."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.actions.action import Force, TimeWindow
from sciwm.simulation.propagators import Propagator
from sciwm.simulation.simulator import Evaluation
from sciwm.simulation.velocities import sum_by_system


class Kicked(Propagator):
    """A motion M under outer forces: K(t) M K(t + Δt), where K(t): v += Δt F(x, t) / 2m.

    This is of second order for every M of second order; around velocity Verlet and BAOAB it is those
    integrators themselves under the sum of all forces, since their strides begin and end with such kicks.
    It is reversible, and preserves volume, where M does. Both kicks are by what is done in the middle of the
    stride (see `During`). Energies stay those of M; what the outer forces have done is `State.work`, the sum
    of what each kick changed the kinetic energy by.

    Args:
        inner: M.
        forces: When which of them acts; at least one.
        still: Whether what is done stands still during a stride, which is then reversible also where springs
            move.
    """

    def __init__(self, inner: Propagator, forces: Sequence[TimeWindow], still: bool = False):
        self.inner = inner
        self.still = still
        self.stride = inner.stride
        self.always_watched = inner.always_watched
        self.conserves = inner.conserves.difference(*(one.action.breaks for one in forces))
        self._forces = forces

    @property
    def units(self) -> UnitSystem:
        return self.inner.units

    @property
    def temperature(self) -> float | Tensor | None:
        return self.inner.temperature

    def start(self, state: State) -> Evaluation | None:
        return self.inner.start(state)

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation | None]:
        time = index * self.stride
        middle, end = time + 0.5 * self.stride, time + self.stride
        if self.still:
            time = end = middle
        state = self._kicked(state, time, middle)
        moved, evaluation = self.inner.advance(state, evaluation, index)
        return self._kicked(moved, end, middle), evaluation

    def outside(self, state: State, evaluation: Evaluation | None) -> dict[int, str]:
        return self.inner.outside(state, evaluation)

    def outer_energy(self, state: State, index: int) -> Tensor:
        middle = (index + 0.5) * self.stride
        found = outer(self._forces, state, middle, middle)
        inner = self.inner.outer_energy(state, index)
        return inner + (state.positions.new_zeros(state.n_systems) if found is None else found[0])

    def select(self, keep: Sequence[int]) -> "Kicked":
        chosen = [
            TimeWindow(one.action.of(keep), *(_of(end, keep) for end in (one.begin, one.end)))
            for one in self._forces
        ]
        return Kicked(self.inner.select(keep), chosen, self.still)

    def held_at(self, temperature: float | Tensor) -> Self:
        return type(self)(self.inner.held_at(temperature), self._forces, self.still)

    @property
    def parameters(self) -> dict[str, str | float]:
        return self.inner.parameters

    @property
    def origin(self) -> tuple[str, str]:
        return self.inner.origin

    def _kicked(self, state: State, time: float, middle: float) -> State:
        """After the outer forces of a time have acted for half a stride, whose middle is given."""
        total = outer_forces(self._forces, state, time, middle)
        if total is None:
            return state
        gained = 0.5 * self.stride * self.units.acceleration * total / state.masses[:, None]
        mean = (state.velocities + 0.5 * gained).double()
        done = 0.5 * self.stride * sum_by_system((total.double() * mean).sum(-1), state)
        there = state.moved(state.positions, state.velocities + gained)
        there.work = done + (state.work if "work" in state.fields else 0.0)
        return there


def _of(value: float | Tensor, keep: Sequence[int]) -> float | Tensor:
    return value[list(keep)] if isinstance(value, Tensor) and value.dim() else value


def outer_forces(
    windows: Sequence[TimeWindow], state: State, time: float | Tensor, middle: float | Tensor
) -> Tensor | None:
    """(A, 3) forces from outside at a time; None where nothing is done.

    Args:
        windows: Of forces.
        time: Since the start of the run, or (S,) of each system.
        middle: Of the stride that the forces act in, which says what is done (see `During`).
    """
    found = outer(windows, state, time, middle)
    return None if found is None else found[1]


def outer(
    windows: Sequence[TimeWindow], state: State, time: float | Tensor, middle: float | Tensor
) -> tuple[Tensor, Tensor] | None:
    """(S,) energies and the (A, 3) forces that derive from them; see `outer_forces`."""
    taken = [(one, one.open(middle)) for one in windows]
    taken = [(one, led) for one, led in taken if bool(torch.as_tensor(led).any())]
    if not taken:
        return None
    energy = state.positions.new_zeros(state.n_systems)
    total = torch.zeros_like(state.positions)
    for one, led in taken:
        assert isinstance(one.action, Force)
        if isinstance(led, Tensor):
            since = torch.where(led, time - one.begin, 0.0)
            stored, acting = one.action.act(state, since.to(state.positions.device))
            there = led.to(state.batch.device)
            energy = energy + torch.where(there, stored, 0.0)
            total = total + torch.where(there[state.batch][:, None], acting, 0.0)
        else:
            stored, acting = one.action.act(state, time - one.begin)
            energy, total = energy + stored, total + acting
    return energy, state.within_dimensions(total)

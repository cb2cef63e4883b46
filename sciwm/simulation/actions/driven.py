"""Any propagator, while actions are taken on what it moves."""

import json
from collections.abc import Sequence

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.actions.action import Action, Change, Force, places
from sciwm.simulation.actions.frozen import Frozen
from sciwm.simulation.actions.schedule import TemperatureSchedule
from sciwm.simulation.propagators import CSVR, CellRescaling, Integrator, Propagator
from sciwm.simulation.simulator import Evaluation, Simulator
from sciwm.simulation.velocities import sum_by_system

HEAVY = 1e30
"""Masses of frozen particles, so that no force or noise moves them."""


class Driven(Propagator):
    """Moves a state by another propagator, with forces from outside, particles held, heat on a schedule.

    A stride M under outer forces is K(t) M K(t + Δt), where K(t): v += Δt F(x, t) / 2m. This is of second
    order for every M of second order; around velocity Verlet and BAOAB it is those integrators themselves
    under the sum of all forces, since their strides begin and end with such kicks. Energies stay those of
    the simulator, without the outer forces; what these have done is `State.work`, the sum of what each
    kick changed the kinetic energy by.

    Args:
        actions: With quantities resolved. `Change`s among them have been made (see `acted`).

    Raises:
        ValueError: If the temperature is to change and nothing holds it, or there are two schedules.
    """

    def __init__(self, propagator: Propagator, actions: Sequence[Action]):
        self.inner = propagator
        self.actions = list(actions)
        self.stride = propagator.stride
        self.conserves = propagator.conserves.difference(*(one.breaks for one in actions))
        self._forces = [one for one in actions if isinstance(one, Force)]
        self._frozen = sorted(
            {k for one in actions if isinstance(one, Frozen) for k in one.particles}
        )
        schedules = [one for one in actions if isinstance(one, TemperatureSchedule)]
        if len(schedules) > 1:
            raise ValueError(
                "one TemperatureSchedule is as much as a thermostat can follow; join them"
            )
        if schedules and propagator.temperature is None:
            raise ValueError(
                "a TemperatureSchedule needs a thermostat; give a temperature to begin with"
            )
        if self._frozen and (isinstance(propagator, (CSVR, CellRescaling))):
            raise ValueError(
                f"Frozen does not go with {propagator.parameters['integrator']}, which would count and "
                "move those particles too; use Langevin dynamics at constant volume"
            )
        self._schedule = schedules[0] if schedules else None
        self._held: tuple[float, Propagator] | None = None
        self._places: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    @property
    def units(self) -> UnitSystem:
        return self.inner.units

    @property
    def temperature(self) -> float | Tensor | None:
        """The hottest, where a schedule changes it."""
        return self.inner.temperature if self._schedule is None else self._schedule.hottest

    def start(self, state: State) -> Evaluation | None:
        return self.inner.start(state)

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation | None]:
        time = index * self.stride
        inner = self._at(time + 0.5 * self.stride)
        if not self._frozen:
            moved, evaluation = inner.advance(self._kicked(state, time), evaluation, index)
            return self._kicked(moved, time + self.stride), evaluation
        heavy, rows = self._held_back(state)
        moved = state.moved(state.positions, state.velocities)
        moved.masses = heavy
        moved, evaluation = inner.advance(self._kicked(moved, time), evaluation, index)
        moved = self._kicked(moved, time + self.stride)
        # As heavy as they are, noise moves them by the last digit of a small number.
        there = moved.moved(
            torch.where(rows, state.positions, moved.positions),
            torch.where(rows, state.velocities, moved.velocities),
        )
        there.masses = state.masses
        return there, evaluation

    def outside(self, state: State, evaluation: Evaluation | None) -> dict[int, str]:
        return self.inner.outside(state, evaluation)

    def select(self, keep: Sequence[int]) -> "Driven":
        return Driven(self.inner.select(keep), self.actions)

    @property
    def parameters(self) -> dict[str, str | float]:
        written = json.dumps([one.written() for one in self.actions])
        return self.inner.parameters | {"actions": written}

    @property
    def origin(self) -> tuple[str, str]:
        return self.inner.origin

    def _at(self, time: float) -> Propagator:
        """The propagator with the set-point of a time."""
        if self._schedule is None:
            return self.inner
        temperature = self._schedule.at(time)
        if self._held is None or self._held[0] != temperature:
            self._held = temperature, self.inner.held_at(temperature)
        return self._held[1]

    def _kicked(self, state: State, time: float) -> State:
        """After the outer forces of a time have acted for half a stride."""
        if not self._forces:
            return state
        total = torch.zeros_like(state.positions)
        for force in self._forces:
            total += force.act(state, time)[1]
        total = state.within_dimensions(total)
        gained = 0.5 * self.stride * self.units.acceleration * total / state.masses[:, None]
        mean = (state.velocities + 0.5 * gained).double()
        done = 0.5 * self.stride * sum_by_system((total.double() * mean).sum(-1), state)
        there = state.moved(state.positions, state.velocities + gained)
        there.work = state.work + done
        return there

    def _held_back(self, state: State) -> tuple[Tensor, Tensor]:
        """(A,) masses that nothing moves where particles are frozen, and (A, 1) which those are."""
        known = self._places
        if known is None or known[0] is not state.masses or known[1] is not state.batch:
            rows = torch.zeros_like(state.masses, dtype=torch.bool)
            rows[places(state, self._frozen).flatten()] = True
            heavy = torch.where(rows, HEAVY, state.masses)
            self._places = known = state.masses, state.batch, heavy, rows[:, None]
        return known[2], known[3]


def acted(
    propagator: Integrator | CellRescaling, state: State, actions: Sequence[Action]
) -> tuple[Propagator, State]:
    """What moves a state under actions, and where it starts; both as they are where there are none.

    `Change`s are made, particles to freeze are stopped, and the work done so far is zero.

    Args:
        actions: Quantities may be texts.

    Raises:
        ValueError: If an action cannot be taken on some system, or in this world.
    """
    if not actions:
        return propagator, state
    inner = propagator.inner if isinstance(propagator, CellRescaling) else propagator
    resolved = [one.resolved(propagator.units) for one in actions]
    for action in resolved:
        action.require_fitting(state)
        if isinstance(action, Change):
            require_charges_read(action, inner.simulator)
            streams = state.streams
            state = State.collate([action.apply(one) for one in state.systems()])
            state.stream = streams
    state = state.moved(state.positions, state.velocities)
    for action in resolved:
        if isinstance(action, Frozen):
            state.velocities = state.velocities.clone()
            state.velocities[places(state, action.particles).flatten()] = 0.0
    if any(isinstance(one, Force) for one in resolved):
        state.work = state.positions.new_zeros(state.n_systems, dtype=torch.float64)
    return Driven(propagator, resolved), state


def require_charges_read(change: Change, simulator: Simulator) -> None:
    """Raises ValueError if a change of charges would change nothing."""
    if change.reads_charges and not getattr(simulator, "reads_charges", True):
        raise ValueError(
            f"{type(change).__name__} is without effect on {type(simulator).__name__}, which finds charges "
            "itself; use Ionisation, or a model of charged particles"
        )

"""Any propagator, while actions are taken on what it moves."""

import itertools
import json
from collections.abc import Sequence

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.actions.action import Action, Change, Force, TimeWindow, places
from sciwm.simulation.actions.changes import HeavyHydrogens, MassChange
from sciwm.simulation.actions.frozen import Frozen
from sciwm.simulation.actions.kicks import Kicked
from sciwm.simulation.actions.schedule import TemperatureSchedule
from sciwm.simulation.propagators import (
    CSVR,
    GHMC,
    CellRescaling,
    Integrator,
    MappedMotion,
    MapPropagator,
    Propagator,
)
from sciwm.simulation.propagators.splitting import Splitting
from sciwm.simulation.simulator import Evaluation, Simulator

HEAVY = 1e30
"""Masses of frozen particles, so that no force or noise moves them."""


class Driven(Propagator):
    """Moves a state by another propagator, with forces from outside, particles held, heat on a schedule.

    Forces are `Kicked` around its strides; within GHMC they are around those of its motion, and what they
    derive from counts where strides are accepted.

    Args:
        actions: With quantities resolved. `Change`s among them have been made (see `acted`).

    Raises:
        ValueError: If the temperature is to change and nothing holds it, or there are two schedules.
    """

    def __init__(self, propagator: Propagator, actions: Sequence[Action]):
        self._given = propagator
        self.actions = list(actions)
        self.stride = propagator.stride
        self.always_watched = propagator.always_watched
        windows = [window for one in actions for window in one.windows()]
        self.conserves = propagator.conserves.difference(*(one.action.breaks for one in windows))
        forces = [one for one in windows if isinstance(one.action, Force)]
        self.inner = _kicked(propagator, forces) if forces else propagator
        self._frozen = sorted(
            {k for one in actions if isinstance(one, Frozen) for k in one.particles}
        )
        schedules = [one for one in windows if isinstance(one.action, TemperatureSchedule)]
        if any(_overlap(*pair) for pair in itertools.combinations(schedules, 2)):
            raise ValueError(
                "one TemperatureSchedule at a time is as much as a thermostat can follow; join them"
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
        self._schedules = schedules
        self._held: tuple[float | Tensor, Propagator] | None = None
        self._places: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    @property
    def units(self) -> UnitSystem:
        return self.inner.units

    @property
    def temperature(self) -> float | Tensor | None:
        """The hottest, where a schedule changes it."""
        hottest = self.inner.temperature
        for one in self._schedules:
            assert isinstance(one.action, TemperatureSchedule)
            hottest = torch.maximum(*map(_double, (hottest, one.action.hottest)))
        return float(hottest) if isinstance(hottest, Tensor) and not hottest.dim() else hottest

    def start(self, state: State) -> Evaluation | None:
        return self.inner.start(state)

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation | None]:
        inner = self._at((index + 0.5) * self.stride)
        if not self._frozen:
            return inner.advance(state, evaluation, index)
        heavy, rows = self._held_back(state)
        moved = state.moved(state.positions, state.velocities)
        moved.masses = heavy
        moved, evaluation = inner.advance(moved, evaluation, index)
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
        return Driven(self._given.select(keep), [one.of(keep) for one in self.actions])

    @property
    def parameters(self) -> dict[str, str | float]:
        written = json.dumps([one.written() for one in self.actions])
        return self.inner.parameters | {"actions": written}

    @property
    def origin(self) -> tuple[str, str]:
        return self.inner.origin

    def _at(self, time: float) -> Propagator:
        """The propagator with the set-point of a time."""
        temperature = self.inner.temperature
        for one in self._schedules:
            assert isinstance(one.action, TemperatureSchedule)
            led = one.open(time)
            if isinstance(led, Tensor):
                its = _double(one.action.at(torch.where(led, time - one.begin, 0.0)))
                temperature = torch.where(led, its, _double(temperature))
            elif led:
                temperature = one.action.at(time - one.begin)
        if not self._schedules or temperature is self.inner.temperature:
            return self.inner
        assert temperature is not None
        if self._held is None or not torch.equal(*map(_double, (self._held[0], temperature))):
            self._held = temperature, self.inner.held_at(temperature)
        return self._held[1]

    def _held_back(self, state: State) -> tuple[Tensor, Tensor]:
        """(A,) masses that nothing moves where particles are frozen, and (A, 1) which those are."""
        known = self._places
        if known is None or known[0] is not state.masses or known[1] is not state.batch:
            rows = torch.zeros_like(state.masses, dtype=torch.bool)
            rows[places(state, self._frozen).flatten()] = True
            heavy = torch.where(rows, HEAVY, state.masses)
            self._places = known = state.masses, state.batch, heavy, rows[:, None]
        return known[2], known[3]


def _double(value: float | Tensor | None) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def _overlap(first: TimeWindow, second: TimeWindow) -> bool:
    """Whether both are taken at some time, in some system."""
    begin = torch.maximum(*map(_double, (first.begin, second.begin)))
    end = torch.minimum(*map(_double, (first.end, second.end)))
    return bool((begin < end).any())


def acted(
    propagator: Propagator, state: State, actions: Sequence[Action]
) -> tuple[Propagator, State]:
    """What moves a state under actions, and where it starts; both as they are where there are none.

    `Change`s are made, particles to freeze are stopped, and the work done so far is zero.

    Args:
        actions: Quantities may be texts.

    Raises:
        ValueError: If an action cannot be taken on some system, in this world, or by this motion.
    """
    if not actions:
        return propagator, state
    motion = innermost(propagator)
    simulator = None if isinstance(motion, MapPropagator) else motion.simulator
    resolved = [one.resolved(propagator.units) for one in actions]
    for action in resolved:
        if isinstance(motion, (MapPropagator, MappedMotion)):
            require_masses_kept(action)
        if isinstance(action, Change):
            action.require_fitting(state)
            if simulator is not None:
                require_charges_read(action, simulator)
            streams = state.streams
            systems = enumerate(state.systems())
            state = State.collate([action.of([s]).apply(one) for s, one in systems])
            state.stream = streams
    # What is done all the time is done to those who are there then.
    resolved = [one.beside(simulator, state) for one in resolved]
    for action in resolved:
        if not isinstance(action, Change):
            action.require_fitting(state)
    state = state.moved(state.positions, state.velocities)
    for action in resolved:
        if isinstance(action, Frozen):
            state.velocities = state.velocities.clone()
            state.velocities[places(state, action.particles).flatten()] = 0.0
    windows = [window for one in resolved for window in one.windows()]
    if any(isinstance(one.action, Force) for one in windows):
        state.work = state.positions.new_zeros(state.n_systems, dtype=torch.float64)
    return Driven(propagator, resolved), state


def _kicked(propagator: Propagator, forces: Sequence[TimeWindow]) -> Propagator:
    """A propagator under outer forces."""
    if isinstance(propagator, GHMC):
        return propagator.around(Kicked(propagator.motion, forces, still=True))
    return Kicked(propagator, forces)


def innermost(propagator: Propagator) -> Integrator | MapPropagator:
    """What moves things within thermostats and barostats.

    Raises:
        TypeError: If actions do not know such a motion.
    """
    if isinstance(propagator, CellRescaling):
        return innermost(propagator.inner)
    if isinstance(propagator, Splitting):
        return innermost(propagator.motion)
    if not isinstance(propagator, (Integrator, MapPropagator)):
        raise TypeError(f"actions are not taken on {type(propagator).__name__}")
    return propagator


def require_masses_kept(action: Action) -> None:
    """Raises ValueError if an action gives particles masses that a flow map never learned of."""
    if isinstance(action, (MassChange, HeavyHydrogens, Frozen)):
        raise ValueError(
            f"{type(action).__name__} gives particles another mass, and a map moves those of its "
            "training only; move by a force field"
        )


def require_charges_read(change: Change, simulator: Simulator) -> None:
    """Raises ValueError if a change of charges would change nothing."""
    if change.reads_charges and not getattr(simulator, "reads_charges", True):
        raise ValueError(
            f"{type(change).__name__} is without effect on {type(simulator).__name__}, which finds charges "
            "itself; use Ionisation, or a model of charged particles"
        )

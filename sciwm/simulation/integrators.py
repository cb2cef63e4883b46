"""Integrators: how a state moves under a simulator's forces.

Each step costs one evaluation and is a pure function of the state, its evaluation and the index of
the step: taking a step twice gives the same numbers. Accelerations are units.acceleration F / m.
"""

import abc
import copy
import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.simulation.simulator import Evaluation, Simulator
from sciwm.simulation.thermostats import OrnsteinUhlenbeck, VelocityRescaling

MOST_STEPS = 1e12
"""In one simulation: beyond, no computer comes to the end."""

_LABELS = ("energy", "forces", "stress", "pairs", "shifts")
"""Fields that belong to the positions they were computed at."""


class Integrator(abc.ABC):
    """One time step after another, for every system of a state at once."""

    dt: float
    """Physical time per step, in the units' time."""

    @property
    @abc.abstractmethod
    def temperature(self) -> float | Tensor | None:
        """What it holds the systems at, one or (S,); None where energy is conserved instead."""

    @abc.abstractmethod
    def step(
        self, simulator: Simulator, state: State, evaluation: Evaluation, index: int
    ) -> tuple[State, Evaluation]:
        """The state one step later and its evaluation.

        Args:
            evaluation: The simulator's at `state`.
            index: Steps taken before this one; it addresses the random numbers.

        Raises:
            SimulatorError: If the energy of some system cannot be had after the step.
        """

    @abc.abstractmethod
    def select(self, keep: Sequence[int]) -> "Integrator":
        """The same for those systems only, each with the random numbers it had."""

    @property
    @abc.abstractmethod
    def parameters(self) -> dict[str, str | float]:
        """What a reader of the trajectory must know to repeat it."""


class VelocityVerlet(Integrator):
    """Newton's equations: symplectic, reversible, second order (Swope et al.,
    J. Chem. Phys. 76, 637 (1982), equations 6 and 8).

    v½ = v + Δt a(x) / 2,  x' = x + Δt v½,  v' = v½ + Δt a(x') / 2

    | symbol | variable                    |
    |--------|-----------------------------|
    | Δt     | `dt`                        |
    | x, v   | positions, velocities       |
    | a Δt/2 | `impulse` × forces / masses |
    """

    temperature = None

    def __init__(self, dt: float):
        self.dt = _checked_step(dt)

    def step(
        self, simulator: Simulator, state: State, evaluation: Evaluation, index: int
    ) -> tuple[State, Evaluation]:
        impulse = 0.5 * self.dt * simulator.units.acceleration
        half = _kicked(state, impulse, evaluation)
        state = moved(state, torch.add(state.positions, half, alpha=self.dt), half)
        evaluation = simulator.evaluate(state)
        state.velocities = _kicked(state, impulse, evaluation)
        return state, evaluation

    def select(self, keep: Sequence[int]) -> "VelocityVerlet":
        return self

    @property
    def parameters(self) -> dict[str, str | float]:
        return {"integrator": "velocity Verlet", "dt": self.dt}


class Langevin(Integrator):
    """Langevin dynamics by the BAOAB splitting, whose positions are canonical to a higher order
    than other splittings' (Leimkuhler & Matthews, Appl. Math. Res. eXpress 2013, 34, section 2.2).

    B: v += Δt a / 2;  A: x += Δt v / 2;  O: friction and noise over Δt;  then A, then B with the
    accelerations at the new positions.

    | symbol | variable      |
    |--------|---------------|
    | Δt     | `dt`          |
    | γ      | `friction`    |
    | T      | `temperature` |

    Args:
        dt: In the units' time.
        temperature: One for all systems, or (S,).
        friction: Inverse time, in the units' time.
    """

    def __init__(self, dt: float, temperature: float | Tensor, friction: float, seed: int = 0):
        self.dt = _checked_step(dt)
        self._seed = seed
        self._thermostat = OrnsteinUhlenbeck(temperature, friction, seed)

    @property
    def temperature(self) -> float | Tensor:
        return self._thermostat.temperature

    def step(
        self, simulator: Simulator, state: State, evaluation: Evaluation, index: int
    ) -> tuple[State, Evaluation]:
        impulse = 0.5 * self.dt * simulator.units.acceleration
        velocities = _kicked(state, impulse, evaluation)
        positions = state.positions + 0.5 * self.dt * velocities
        state = moved(state, positions, velocities)
        velocities = self._thermostat.apply(state, self.dt, simulator.units, index)
        state.positions = positions + 0.5 * self.dt * velocities
        state.velocities = velocities
        evaluation = simulator.evaluate(state)
        state.velocities = _kicked(state, impulse, evaluation)
        return state, evaluation

    def select(self, keep: Sequence[int]) -> "Langevin":
        chosen = copy.copy(self)
        chosen._thermostat = self._thermostat.select(keep)
        return chosen

    @property
    def parameters(self) -> dict[str, str | float]:
        return {
            "integrator": "Langevin BAOAB",
            "dt": self.dt,
            "temperature": _described(self.temperature),
            "friction": self._thermostat.friction,
            "seed": self._seed,
        }


class CSVR(Integrator):
    """Velocity Verlet with canonical sampling through velocity rescaling (Bussi, Donadio &
    Parrinello 2007): canonical, and far gentler on the motion than friction.

    Args:
        dt: In the units' time.
        temperature: One for all systems, or (S,).
        time_constant: How fast the kinetic energy relaxes, in the units' time.
    """

    def __init__(self, dt: float, temperature: float | Tensor, time_constant: float, seed: int = 0):
        self.dt = _checked_step(dt)
        self._seed = seed
        self._newton = VelocityVerlet(dt)
        self._thermostat = VelocityRescaling(temperature, time_constant, seed)

    @property
    def temperature(self) -> float | Tensor:
        return self._thermostat.temperature

    def step(
        self, simulator: Simulator, state: State, evaluation: Evaluation, index: int
    ) -> tuple[State, Evaluation]:
        state, evaluation = self._newton.step(simulator, state, evaluation, index)
        state.velocities = self._thermostat.apply(state, self.dt, simulator.units, index)
        return state, evaluation

    def select(self, keep: Sequence[int]) -> "CSVR":
        chosen = copy.copy(self)
        chosen._thermostat = self._thermostat.select(keep)
        return chosen

    @property
    def parameters(self) -> dict[str, str | float]:
        return {
            "integrator": "velocity Verlet with CSVR",
            "dt": self.dt,
            "temperature": _described(self.temperature),
            "time_constant": self._thermostat.time_constant,
            "seed": self._seed,
        }


def moved(state: State, positions: Tensor, velocities: Tensor | None = None) -> State:
    """The state elsewhere; labels and neighbour pairs of the old positions are left behind."""
    there = copy.copy(state)
    fields = there.stores[0]
    for key in _LABELS:
        if key in fields:
            del fields[key]
    fields["positions"] = positions
    if velocities is not None:
        fields["velocities"] = velocities
    return there


def select(state: State, systems: Sequence[int]) -> State:
    """Those systems of a state, in ascending order, without labels and neighbour pairs."""
    kept = torch.zeros(state.n_systems, dtype=torch.bool, device=state.batch.device)
    kept[list(systems)] = True
    rows = kept[state.batch]
    chosen = State(batch=(torch.cumsum(kept, 0) - 1)[state.batch[rows]])
    for key, value in state.to_dict().items():
        if isinstance(value, Tensor) and key not in (*_LABELS, "batch", "ptr"):
            chosen[key] = value[rows] if len(value) == len(rows) else value[kept]
    return chosen


def _kicked(state: State, impulse: float, evaluation: Evaluation) -> Tensor:
    """(A, 3) velocities after the forces have acted.

    Args:
        impulse: For how long, times the units' acceleration.
    """
    forces = evaluation.forces.to(state.velocities)
    return torch.addcdiv(state.velocities, forces, state.masses[:, None], value=impulse)


def steps_within(time: float, dt: float) -> int:
    """The whole number of steps nearest to a time; warns where they do not make it up.

    Raises:
        ValueError: If that is no step at all, or more than can be counted.
    """
    _checked_step(dt)
    if not dt / 2 < time < MOST_STEPS * dt:
        raise ValueError(
            f"a simulation of {time:g} by time steps of {dt:g} has no steps, or more than anyone can "
            "wait for; give a time that is longer than a step"
        )
    steps = round(time / dt)
    if abs(steps * dt - time) > 1e-6 * time:
        warnings.warn(
            f"{time:g} is no multiple of the time step {dt:g}: {steps} steps are taken, which are "
            f"{steps * dt:g}",
            stacklevel=2,
        )
    return steps


def _checked_step(dt: float) -> float:
    if not 0 < dt < math.inf:
        raise ValueError(f"the time step must be positive, got {dt=}; to go back, turn velocities")
    return dt


def _described(temperature: float | Tensor) -> str | float:
    if isinstance(temperature, Tensor):
        return " ".join(f"{value:g}" for value in temperature.flatten().tolist())
    return temperature

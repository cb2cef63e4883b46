"""Integrators: how a state moves under a simulator's forces.

Each step costs one evaluation and is a pure function of the state, its evaluation and the index of
the step: taking a step twice gives the same numbers. Accelerations are units.acceleration F / m.
"""

import abc
import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.simulation.simulator import Evaluation, Simulator

MOST_STEPS = 1e12
"""In one simulation: beyond, no computer comes to the end."""


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


def kicked(state: State, impulse: float, evaluation: Evaluation) -> Tensor:
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
    checked_step(dt)
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


def checked_step(dt: float) -> float:
    if not 0 < dt < math.inf:
        raise ValueError(f"the time step must be positive, got {dt=}; to go back, turn velocities")
    return dt


def described(temperature: float | Tensor) -> str | float:
    if isinstance(temperature, Tensor):
        return " ".join(f"{value:g}" for value in temperature.flatten().tolist())
    return temperature

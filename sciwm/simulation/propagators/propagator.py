"""What moves a state on: integrators on a simulator's forces, and whatever learns to do so."""

import abc
import warnings
from collections.abc import Sequence
from typing import Literal, Self

from torch import Tensor

from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.simulator import Evaluation

Conserved = Literal["energy", "momentum", "angular momentum"]
"""What motion may keep; angular momentum only where a system does not repeat."""

MOST_STRIDES = 1e12
"""In one simulation: beyond, no computer comes to the end."""


class Propagator(abc.ABC):
    """Moves every system of a state by one stride of time, again and again.

    A stride is a pure function of the state, its evaluation and the index of the stride: taken twice
    it gives the same numbers. How a system moves does not depend on which others share the state.

    Attributes:
        stride: Physical time that one call moves by, in the units' time.
        conserves: What stays constant, but for round-off and the error of the stride.
        always_watched: Whether `outside` is asked after every stride and not at frames only, because a
            stride is as long as many steps.
    """

    stride: float
    conserves: frozenset[Conserved]
    always_watched: bool = False

    @property
    @abc.abstractmethod
    def units(self) -> UnitSystem:
        """Of the states it moves."""

    @property
    @abc.abstractmethod
    def temperature(self) -> float | Tensor | None:
        """What it holds the systems at, one or (S,); None where it holds none."""

    @abc.abstractmethod
    def start(self, state: State) -> Evaluation | None:
        """What the first stride needs to know of a state; None where energies play no part.

        Raises:
            SimulatorError: If the energy of some system cannot be had.
        """

    @abc.abstractmethod
    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation | None]:
        """The state one stride later, and its evaluation where there is one.

        Args:
            evaluation: As `start` or the stride before gave it.
            index: Strides taken before this one; it addresses the random numbers and tells the time.

        Raises:
            SimulatorError: If some system cannot be moved.
        """

    @abc.abstractmethod
    def outside(self, state: State, evaluation: Evaluation | None) -> dict[int, str]:
        """Systems where it should not be trusted, each with the reason."""

    def outer_energy(self, state: State, index: int) -> Tensor | float:
        """(S,) that forces from outside derive from, as they are in the middle of this stride."""
        return 0.0

    @abc.abstractmethod
    def select(self, keep: Sequence[int]) -> "Propagator":
        """The same for those systems only."""

    def held_at(self, temperature: float | Tensor) -> Self:
        """The same with its thermostat at another temperature, and the same random numbers.

        Raises:
            ValueError: If it has none.
        """
        raise ValueError(f"{type(self).__name__} has no thermostat to set to {temperature}")

    @property
    @abc.abstractmethod
    def parameters(self) -> dict[str, str | float]:
        """What a reader of the trajectory must know to repeat it, beside the origin of its forces."""

    @property
    @abc.abstractmethod
    def origin(self) -> tuple[str, str]:
        """The kind of simulator or model that moves things, and a digest of it; empty where it has none."""


def strides_within(time: float, stride: float) -> int:
    """The whole number of strides nearest to a time; warns where they do not make it up.

    Raises:
        ValueError: If that is none at all, or more than can be counted.
    """
    require_stride(stride)
    if not stride / 2 < time < MOST_STRIDES * stride:
        raise ValueError(
            f"a simulation of {time:g} by time steps of {stride:g} has no steps, or more than anyone "
            "can wait for; give a time that is longer than a step"
        )
    count = round(time / stride)
    if abs(count * stride - time) > 1e-6 * time:
        warnings.warn(
            f"{time:g} is no multiple of the time step {stride:g}: {count} steps are taken, which are "
            f"{count * stride:g}",
            stacklevel=2,
        )
    return count


def require_stride(dt: float) -> float:
    """The time step itself.

    Raises:
        ValueError: If it is not positive and finite.
    """
    if not 0 < dt < float("inf"):
        raise ValueError(f"the time step must be positive, got {dt=}; to go back, turn velocities")
    return dt

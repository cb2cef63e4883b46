"""Collective variables: single numbers that tell where a system stands, and what became of it in a motion."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from sciwm.core.frame import Array
from sciwm.core.properties import PROPERTIES
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.actions.action import places
from sciwm.simulation.internal_coordinates import angle, distance, torsion
from sciwm.simulation.simulator import Evaluation, Simulator, SimulatorError
from sciwm.simulation.velocities import temperature

When = Literal["end", "mean", "least", "most", "change"]

AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True, kw_only=True)
class CollectiveVariable(ABC):
    """A number that every system has at each moment.

    Attributes:
        when: Which of the numbers of a motion counts: the last, their mean, the smallest or largest, or the
            last less the first. All but the last two words leave the start out.
    """

    when: When = "end"

    def __post_init__(self) -> None:
        if self.when not in get_args(When):
            raise ValueError(f"when is {self.when!r}; use one of {', '.join(get_args(When))}")

    @abstractmethod
    def of(self, state: State, evaluation: Evaluation | None, simulator: Simulator) -> Tensor:
        """(S,) its values now.

        Args:
            evaluation: Energies there.
            simulator: What moves the systems.

        Raises:
            SimulatorError: If that does not tell what this is about.
        """

    @abstractmethod
    def unit(self, units: UnitSystem) -> str:
        """Of the values; empty for plain numbers."""

    def require_fitting(self, state: State) -> None:
        """Raises ValueError if some system has no such number."""
        return

    def continuous(self, path: Array) -> Array:
        """(T, ...) values without jumps that are none."""
        return path

    def over(self, path: Array) -> Array:
        """(S,) what counts of (T, S) values, of which the first are those of the start.

        Not a number where only these are known and they do not count.
        """
        if self.when == "change":
            return np.asarray(path[-1] - path[0])
        if self.when == "end":
            return np.asarray(path[-1])
        if len(path) == 1:
            return np.full(path.shape[1:], np.nan)
        if self.when == "mean":
            return np.asarray(path[1:].mean(axis=0))
        return np.asarray(path[1:].min(axis=0) if self.when == "least" else path[1:].max(axis=0))

    def derivatives(self, path: Array) -> Array:
        """(T, S) of what counts by the (T, S) values; see `over`."""
        found = np.zeros_like(path)
        if self.when == "mean":
            found[1:] = 1.0 / (len(path) - 1)
        elif self.when in ("least", "most"):
            best = path[1:].argmin(axis=0) if self.when == "least" else path[1:].argmax(axis=0)
            found[1 + best, np.arange(path.shape[1])] = 1.0
        else:
            found[-1] = 1.0
        if self.when == "change":
            found[0] -= 1.0
        return found


@dataclass(frozen=True)
class OfParticles(CollectiveVariable, ABC):
    """A number that some particles of a system make up; no periodic image is looked for.

    Attributes:
        particles: By their number in the system, from 0 on.
    """

    size: ClassVar[int | None] = None
    """How many; None for any number of them."""

    particles: list[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        count = len(self.particles) if self.size is None else self.size
        if len(self.particles) != count or len(set(self.particles)) != count or not count:
            raise ValueError(
                f"{type(self).__name__} is of {count or 'some'} different particles, got {self.particles}"
            )

    def require_fitting(self, state: State) -> None:
        fewest = int(state.counts.min())
        for one in self.particles:
            if not 0 <= one < fewest:
                raise ValueError(
                    f"{type(self).__name__} is of particle {one}, but a system has {fewest} "
                    f"(0 to {fewest - 1}); name one of those"
                )

    def points(self, state: State) -> Tensor:
        """(S, n, 3)."""
        return state.positions[places(state, self.particles)]


@dataclass(frozen=True)
class Distance(OfParticles):
    """Between two particles."""

    size = 2

    def of(self, state: State, evaluation: Evaluation | None, simulator: Simulator) -> Tensor:
        return distance(self.points(state))[0]

    def unit(self, units: UnitSystem) -> str:
        return units.length


@dataclass(frozen=True)
class Angle(OfParticles):
    """At the second of three particles, in degrees."""

    size = 3

    def of(self, state: State, evaluation: Evaluation | None, simulator: Simulator) -> Tensor:
        return torch.rad2deg(angle(self.points(state))[0])

    def unit(self, units: UnitSystem) -> str:
        return "deg"


@dataclass(frozen=True)
class Torsion(OfParticles):
    """Of four particles, in degrees: from -180 to 180 at the end, and without jumps on the way there."""

    size = 4

    def of(self, state: State, evaluation: Evaluation | None, simulator: Simulator) -> Tensor:
        return torch.rad2deg(torsion(self.points(state))[0])

    def continuous(self, path: Array) -> Array:
        return np.unwrap(path, axis=0, period=360.0)

    def over(self, path: Array) -> Array:
        return super().over(path if self.when == "end" else self.continuous(path))

    def derivatives(self, path: Array) -> Array:
        return super().derivatives(path if self.when == "end" else self.continuous(path))

    def unit(self, units: UnitSystem) -> str:
        return "deg"


@dataclass(frozen=True)
class AlongAxis(OfParticles, ABC):
    """A mean of some particles along an axis.

    Attributes:
        axis: x, y or z.
    """

    axis: Literal["x", "y", "z"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axis not in AXES:
            raise ValueError(f"axis is {self.axis!r}; use x, y or z")

    def mean(self, vectors: Tensor, state: State) -> Tensor:
        """(S,) of (A, 3) vectors."""
        return vectors[places(state, self.particles)][:, :, AXES[self.axis]].mean(dim=1)


@dataclass(frozen=True)
class Place(AlongAxis):
    """Mean coordinate of some particles along an axis."""

    def of(self, state: State, evaluation: Evaluation | None, simulator: Simulator) -> Tensor:
        return self.mean(state.positions, state)

    def unit(self, units: UnitSystem) -> str:
        return units.length


@dataclass(frozen=True)
class Velocity(AlongAxis):
    """Mean velocity of some particles along an axis."""

    def of(self, state: State, evaluation: Evaluation | None, simulator: Simulator) -> Tensor:
        return self.mean(state.velocities, state)

    def unit(self, units: UnitSystem) -> str:
        return units.velocity


@dataclass(frozen=True)
class PotentialEnergy(CollectiveVariable):
    """Of the simulator, without the forces from outside."""

    def of(self, state: State, evaluation: Evaluation | None, simulator: Simulator) -> Tensor:
        if evaluation is None:
            raise SimulatorError("what moves the systems has no energies, so none can be measured")
        return evaluation.energy

    def unit(self, units: UnitSystem) -> str:
        return units.energy


@dataclass(frozen=True)
class KineticTemperature(CollectiveVariable):
    """Twice the kinetic energy over k and the number of velocity components."""

    def of(self, state: State, evaluation: Evaluation | None, simulator: Simulator) -> Tensor:
        return temperature(state, simulator.units)

    def unit(self, units: UnitSystem) -> str:
        return units.temperature


@dataclass(frozen=True)
class Work(CollectiveVariable):
    """What forces from outside have done on a system so far."""

    def of(self, state: State, evaluation: Evaluation | None, simulator: Simulator) -> Tensor:
        return state.work if "work" in state.fields else state.positions.new_zeros(state.n_systems)

    def unit(self, units: UnitSystem) -> str:
        return units.energy


@dataclass(frozen=True)
class Property(CollectiveVariable):
    """What a simulator tells of a system beside its energy; of a vector, its length.

    Attributes:
        name: Such as "dipole" or "gap".
    """

    name: str

    def __post_init__(self) -> None:
        super().__post_init__()
        known = [key for key, one in PROPERTIES.items() if not one.per_atom]
        if self.name not in known:
            raise ValueError(
                f"{self.name!r} is no property of a system; there are {', '.join(known)}"
            )

    def of(self, state: State, evaluation: Evaluation | None, simulator: Simulator) -> Tensor:
        observe = getattr(simulator, "observe", None)
        if observe is None:
            raise SimulatorError(f"{type(simulator).__name__} does not tell the {self.name}")
        found: Tensor = observe(state, [self.name])[self.name]
        return found.flatten(1).norm(dim=1) if found.dim() > 1 else found

    def unit(self, units: UnitSystem) -> str:
        return PROPERTIES[self.name].unit


COLLECTIVE_VARIABLES: dict[str, type[CollectiveVariable]] = {
    kind.__name__: kind
    for kind in (
        Angle,
        Distance,
        KineticTemperature,
        Place,
        PotentialEnergy,
        Property,
        Torsion,
        Velocity,
        Work,
    )
}
"""By the name that a file calls them by."""

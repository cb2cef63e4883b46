"""What can be done to a system that is simulated: the kinds of actions, and how they are written down.

An action is a frozen dataclass of plain numbers and texts. Quantities may be texts with a unit, such as
"1 eV/Å²", or numbers in the units of the world they meet; `resolved` makes them numbers.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.core.units import UnitSystem, parse_quantity
from sciwm.simulation.propagators.propagator import Conserved


@dataclasses.dataclass(frozen=True)
class Quantity:
    """Marks a number in the units of the world, or a text with a unit, of a kind of `QUANTITIES`."""

    kind: str


PARTICLES = "particles"
"""Marks numbers of particles in a system, from 0 on."""

Particles = Annotated[list[int], PARTICLES]
Time = Annotated[float | str, Quantity("time")]
Rate = Annotated[float | str, Quantity("rate")]
Length = Annotated[float | str, Quantity("length")]
Velocity = Annotated[float | str, Quantity("velocity")]
Energy = Annotated[float | str, Quantity("energy")]
ForceSize = Annotated[float | str, Quantity("force")]
FieldSize = Annotated[float | str, Quantity("field")]
Stiffness = Annotated[float | str, Quantity("stiffness")]
Charge = Annotated[float | str, Quantity("charge")]
Mass = Annotated[float | str, Quantity("mass")]
Temperature = Annotated[float | str, Quantity("temperature")]


@dataclasses.dataclass(frozen=True)
class Action:
    """Something done to every system of a state.

    Attributes:
        breaks: What it takes from what motion conserves.
    """

    breaks: ClassVar[frozenset[Conserved]] = frozenset()

    def resolved(self, units: UnitSystem) -> Self:
        """The same with every quantity as a number in these units.

        Raises:
            UnitError: If a text is no quantity of its kind.
        """
        changes = {}
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            kind = next((mark.kind for mark in _marks(hint) if isinstance(mark, Quantity)), None)
            if kind is not None and getattr(self, name) is not None:
                changes[name] = _number(getattr(self, name), kind, units, name)
        return dataclasses.replace(self, **changes)

    def require_fitting(self, state: State) -> None:
        """Raises ValueError if it cannot be done to some system of a state."""
        fewest = int(state.counts.min())
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            for number in getattr(self, name) if PARTICLES in _marks(hint) else []:
                if not 0 <= number < fewest:
                    system = int(state.counts.argmin())
                    raise ValueError(
                        f"{type(self).__name__} acts on particle {number}, but system {system} has "
                        f"{fewest} (0 to {fewest - 1}); name one of those"
                    )

    def written(self) -> dict[str, Any]:
        """As job files have it: its name, and what it was given."""
        content = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        return {type(self).__name__: content}


@dataclasses.dataclass(frozen=True)
class Force(Action, ABC):
    """Forces on particles that come from outside, with the energy they derive from.

    A subclass is used with its quantities resolved.
    """

    breaks = frozenset({"energy", "momentum", "angular momentum"})

    @abstractmethod
    def act(self, state: State, time: float) -> tuple[Tensor, Tensor]:
        """(S,) energies and (A, 3) forces at a time since the start of the run."""


@dataclasses.dataclass(frozen=True)
class Change(Action, ABC):
    """Another system to start from: who is there, or what they are."""

    @abstractmethod
    def apply(self, system: State) -> State:
        """The changed state of one system."""

    reads_charges: ClassVar[bool] = False
    """Whether it is without effect where a simulator does not read the charges of particles."""


def places(state: State, numbers: Sequence[int]) -> Tensor:
    """(S, n) where the particles of these numbers are among the A of all systems."""
    counts = state.counts
    first = torch.cumsum(counts, 0) - counts
    return first[:, None] + torch.as_tensor(numbers, device=first.device)


def number(value: float | str) -> float:
    """A quantity that is resolved already."""
    assert not isinstance(value, str), "actions are resolved before they act"
    return value


def _marks(hint: Any) -> list[Any]:
    """What an annotation is marked with, inside lists and unions too."""
    if get_origin(hint) is Annotated:
        return list(hint.__metadata__)
    return [mark for one in get_args(hint) for mark in _marks(one)]


def _number(value: Any, kind: str, units: UnitSystem, name: str) -> Any:
    if isinstance(value, list):
        return [_number(one, kind, units, name) for one in value]
    if isinstance(value, str):
        return parse_quantity(value, kind, units)
    if not math.isfinite(value):
        raise ValueError(f"{name} of an action must be finite, got {value}")
    return float(value)

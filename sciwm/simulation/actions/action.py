"""What can be done to a system that is simulated: the kinds of actions, and how they are written down.

An action is a frozen dataclass of plain numbers and texts. Quantities may be texts with a unit, such as
"1 eV/Å²", or numbers in the units of the world they meet; `resolved` makes them numbers. In place of a
number there may be (S,) numbers, one for each system of the state that is acted on: so a batch of systems is
acted on differently at once.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.core.units import PLAIN, UnitSystem, parse_quantity
from sciwm.simulation.propagators.propagator import Conserved
from sciwm.simulation.simulator import Simulator


@dataclasses.dataclass(frozen=True)
class Quantity:
    """Marks a number in the units of the world, or a text with a unit, of a kind of `QUANTITIES`."""

    kind: str


PARTICLES = "particles"
"""Marks numbers of particles in a system, from 0 on."""

Particles = Annotated[list[int], PARTICLES]
Value = float | str | Tensor
"""A number, a text with a unit, or (S,) numbers."""

Time = Annotated[Value, Quantity("time")]
Rate = Annotated[Value, Quantity("rate")]
Length = Annotated[Value, Quantity("length")]
Velocity = Annotated[Value, Quantity("velocity")]
Energy = Annotated[Value, Quantity("energy")]
ForceSize = Annotated[Value, Quantity("force")]
FieldSize = Annotated[Value, Quantity("field")]
Stiffness = Annotated[Value, Quantity("stiffness")]
Charge = Annotated[Value, Quantity("charge")]
Mass = Annotated[Value, Quantity("mass")]
Temperature = Annotated[Value, Quantity("temperature")]
PlainNumber = Annotated[Value, Quantity(PLAIN)]
"""A number that has no unit in `QUANTITIES`, such as an angle."""


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
        for name, hint in hints_of(type(self)).items():
            kind = kind_of(hint)
            if kind is not None and getattr(self, name) is not None:
                changes[name] = _number(getattr(self, name), kind, units, name)
        return dataclasses.replace(self, **changes)

    def require_fitting(self, state: State) -> None:
        """Raises ValueError if it cannot be done to some system of a state."""
        fewest = int(state.counts.min())
        for name, hint in hints_of(type(self)).items():
            for number in getattr(self, name) if PARTICLES in _marks(hint) else []:
                if not 0 <= number < fewest:
                    system = int(state.counts.argmin())
                    raise ValueError(
                        f"{type(self).__name__} acts on particle {number}, but system {system} has "
                        f"{fewest} (0 to {fewest - 1}); name one of those"
                    )

    def beside(self, simulator: Simulator | None, state: State) -> Self:
        """The same, which knows what it needs of the simulator that it acts beside, if there is one."""
        return self

    def of(self, systems: Sequence[int]) -> Self:
        """What is done to some of the systems."""
        return self.replaced(lambda value: value[list(systems)] if value.dim() else value)

    def replaced(self, change: Callable[[Tensor], Any]) -> Self:
        """The same with something else in place of each (S,) numbers."""
        found = {f.name: _deep(getattr(self, f.name), change) for f in dataclasses.fields(self)}
        return dataclasses.replace(self, **found)

    def written(self) -> dict[str, Any]:
        """As job files have it: its name, and what it was given."""
        content = {}
        for field in dataclasses.fields(self):
            if field.metadata.get("found"):
                continue
            value = _plain(getattr(self, field.name))
            if value != field.default:
                content[field.name] = value
        return {type(self).__name__: content}

    def windows(self) -> list["TimeWindow"]:
        """When what is done: always, but for what is there to say so."""
        return [TimeWindow(self)]


@dataclasses.dataclass(frozen=True, eq=False)
class TimeWindow:
    """An action and when it is taken.

    Attributes:
        begin: Since the start of the run; also what the action takes for its own start.
        end: When it is over.
    """

    action: Action
    begin: float | Tensor = 0.0
    end: float | Tensor = math.inf

    def open(self, time: float | Tensor) -> bool | Tensor:
        """Whether it is taken then; (S,) where that, or the time, differs between systems."""
        return (self.begin <= time) & (time < self.end)


@dataclasses.dataclass(frozen=True)
class Force(Action, ABC):
    """Forces on particles that come from outside, with the energy they derive from.

    A subclass is used with its quantities resolved.
    """

    breaks = frozenset({"energy", "momentum", "angular momentum"})

    @abstractmethod
    def act(self, state: State, time: float | Tensor) -> tuple[Tensor, Tensor]:
        """(S,) energies and (A, 3) forces at a time, or (S,) times, since the action began."""


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


def number(value: Value) -> float:
    """A quantity that is resolved already, and the same for all systems."""
    assert not isinstance(value, str), "actions are resolved before they act"
    return float(value)


def per_system(value: Value | float, state: State) -> Tensor:
    """(S,) a quantity that is resolved already, or one for each system."""
    assert not isinstance(value, str), "actions are resolved before they act"
    if not isinstance(value, Tensor):
        return state.positions.new_full((state.n_systems,), value)
    return value.to(state.positions).expand(state.n_systems)


def exact(value: Value | float, state: State) -> Tensor:
    """The same in double precision."""
    assert not isinstance(value, str), "actions are resolved before they act"
    number = torch.as_tensor(value, dtype=torch.float64, device=state.positions.device)
    return number.expand(state.n_systems)


def vectors(values: Sequence[Value], state: State) -> Tensor:
    """(S, n) of n such quantities."""
    if any(isinstance(one, Tensor) for one in values):
        return torch.stack([per_system(one, state) for one in values], dim=-1)
    return state.positions.new_tensor(values).expand(state.n_systems, len(values))


def numbers_of(value: Value) -> list[float]:
    """What is known of a quantity before it is resolved: nothing of a text."""
    if isinstance(value, str):
        return []
    return value.detach().flatten().tolist() if isinstance(value, Tensor) else [value]


_HINTS: dict[type[Action], dict[str, Any]] = {}
"""Planners ask for them again and again."""


def hints_of(kind: type[Action]) -> dict[str, Any]:
    """What the fields of an action are annotated with."""
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind, include_extras=True)
    return _HINTS[kind]


def kind_of(hint: Any) -> str | None:
    """The kind of quantity that an annotated field of an action holds; None if it holds none."""
    return next((mark.kind for mark in _marks(hint) if isinstance(mark, Quantity)), None)


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
    if not all(map(math.isfinite, numbers_of(value))):
        raise ValueError(f"{name} of an action must be finite, got {value}")
    return value if isinstance(value, Tensor) else float(value)


def _deep(value: Any, change: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, list):
        return [_deep(one, change) for one in value]
    if isinstance(value, Action):
        return value.replaced(change)
    return change(value) if isinstance(value, Tensor) else value


def _plain(value: Any) -> Any:
    """As YAML and JSON hold it."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, Action):
        return value.written()
    return value.tolist() if isinstance(value, Tensor) else value

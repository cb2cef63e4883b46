"""What a planner may choose: numbers in actions, or one of several things to do, stage after stage.

A plan is (stages, size) numbers from 0 to 1, whatever they stand for.
"""

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sciwm.core.bounds import require_counts
from sciwm.core.units import UnitError, UnitSystem, parse_quantity, unit_of
from sciwm.simulation.actions.action import Action, hints_of, kind_of
from sciwm.simulation.actions.during import During

_RANGE = re.compile(r"\s*(?P<low>.+?)\s*\.\.\s*(?P<high>.+?)\s*")
_BARE = re.compile(r"[+-]?[\d.]+(?:[eE][+-]?\d+)?")


@dataclasses.dataclass(frozen=True)
class Range:
    """What a number may be chosen from, in the units of the world.

    Attributes:
        name: Of the action and what it is of it, such as "ConstantForce force[0]".
        unit: Of the numbers; empty for plain ones.
    """

    name: str
    low: float
    high: float
    unit: str

    def at(self, share: Tensor) -> Tensor:
        """The number that is so far on the way from low, 0, to high, 1."""
        return self.low + (self.high - self.low) * share


class Controls(ABC):
    """What there is to choose in each of some stages of equal length.

    Attributes:
        stages: How many.
        size: Numbers that are chosen in each.
        units: Of what is chosen.
    """

    stages: int
    size: int
    units: UnitSystem

    @property
    def shape(self) -> tuple[int, int]:
        """(stages, size)."""
        return self.stages, self.size

    def actions(self, plans: Tensor, length: float) -> list[Action]:
        """What each of S plans does to the system of its number.

        Args:
            plans: (S, stages, size).
            length: Of a stage, in the units' time.
        """
        stages = range(self.stages)
        return [one for k in stages for one in self.stage_actions(plans[:, k], k, length)]

    @abstractmethod
    def stage_actions(self, chosen: Tensor, stage: int, length: float) -> list[Action]:
        """What is done in one stage.

        Args:
            chosen: (S, size) in it.
            stage: From 0.
            length: As for `actions`.
        """

    @abstractmethod
    def written(self) -> Any:
        """What there is to choose, as JSON holds it; the number of stages aside."""

    @abstractmethod
    def described(self, plan: Tensor) -> list[dict[str, str]]:
        """What a plan, (stages, size), does in each stage: values by what they are of."""


class Knobs(Controls):
    """Actions in which some numbers are ranges, such as `force: ["-0.5 .. 0.5 eV/Å", 0, 0]`.

    With several stages, the actions are taken in each with numbers of its own and begin anew.

    Args:
        actions: At least one number of them is a range.
        units: That bare numbers are in.

    Attributes:
        ranges: What is chosen, in the order of a plan's numbers.

    Raises:
        ValueError: If there is nothing to choose, or a range cannot be read, or an end of one cannot be.
    """

    def __init__(self, actions: Sequence[Action], stages: int, units: UnitSystem):
        require_counts(stages=stages)
        self.stages = stages
        self._templates = list(actions)
        self.units = units
        self.ranges: list[Range] = []

        def note(one: Range) -> float:
            self.ranges.append(one)
            return one.low

        # Also shows whether both ends make sense.
        done = [_chosen(one, units, note) for one in self._templates]
        for one in self._templates:
            _chosen(one, units, lambda each: each.high)
        if stages > 1:
            During(0.0, 1.0, done)
        self.size = len(self.ranges)
        if not self.ranges:
            raise ValueError(
                'there is nothing to choose; write a range for some number of an action, such as "-1 .. 1"'
            )

    def stage_actions(self, chosen: Tensor, stage: int, length: float) -> list[Action]:
        values = iter(chosen.unbind(dim=1))

        def take(one: Range) -> Tensor:
            return one.at(next(values))

        done = [_chosen(one, self.units, take) for one in self._templates]
        if self.stages == 1:
            return done
        return [During(stage * length, (stage + 1) * length, done)]

    def written(self) -> Any:
        return [one.written() for one in self._templates]

    def described(self, plan: Tensor) -> list[dict[str, str]]:
        return [
            {
                one.name: f"{float(one.at(value)):.4g} {one.unit}".strip()
                for one, value in zip(self.ranges, row, strict=True)
            }
            for row in plan
        ]


class Menu(Controls):
    """Named things to do, one of which is chosen for each stage: heat, pull, wait, quench.

    Args:
        choices: Actions by name; an empty list is to wait.

    Raises:
        ValueError: If there is no choice.
    """

    size = 1

    def __init__(self, choices: Mapping[str, Sequence[Action]], stages: int, units: UnitSystem):
        require_counts(stages=stages)
        if len(choices) < 2:
            raise ValueError(f"a menu has two things to choose from, or more; got {list(choices)}")
        self.stages, self.units = stages, units
        self.names = list(choices)
        self._choices = [
            [_chosen(one, units, _nothing_to_choose) for one in choice]
            for choice in choices.values()
        ]
        for choice in self._choices:
            During(0.0, 1.0, choice)

    def chosen(self, plans: Tensor) -> Tensor:
        """(S, stages) the number of each choice."""
        return (plans[..., 0] * len(self.names)).long().clamp(0, len(self.names) - 1)

    def stage_actions(self, chosen: Tensor, stage: int, length: float) -> list[Action]:
        numbers = self.chosen(chosen)
        found: list[Action] = []
        for number, choice in enumerate(self._choices):
            taken = numbers == number
            if choice and bool(taken.any()):
                begin = stage * length * taken.double()
                # Nothing is open from zero to zero.
                found.append(During(begin, (stage + 1) * length * taken.double(), choice))
        return found

    def written(self) -> Any:
        done = [[one.written() for one in choice] for choice in self._choices]
        return dict(zip(self.names, done, strict=True))

    def described(self, plan: Tensor) -> list[dict[str, str]]:
        return [{"what": self.names[int(one)]} for one in self.chosen(plan)]


def written(controls: Controls, plan: Tensor, length: float) -> list[dict[str, Any]]:
    """One plan as a file of actions holds it (see `read_actions`)."""
    return [
        one.replaced(lambda value: value.item()).written()
        for one in controls.actions(plan[None], length)
    ]


def _nothing_to_choose(one: Range) -> float:
    raise ValueError(f"{one.name} is a range, but a menu has its choices by name; give a number")


def _chosen(action: Action, units: UnitSystem, choose: Callable[[Range], Any]) -> Action:
    """The action with numbers in the units, and what is chosen in place of ranges."""
    changes: dict[str, Any] = {}
    hints = hints_of(type(action))
    for field in dataclasses.fields(action):
        value, kind = getattr(action, field.name), kind_of(hints[field.name])
        name = f"{type(action).__name__} {field.name}"
        if isinstance(action, During) and field.name == "actions":
            changes[field.name] = [_chosen(one, units, choose) for one in value]
        elif kind is not None and value is not None:
            changes[field.name] = _value(value, kind, units, name, choose)
    return dataclasses.replace(action, **changes).resolved(units)


def _value(
    value: Any, kind: str, units: UnitSystem, name: str, choose: Callable[[Range], Any]
) -> Any:
    if isinstance(value, list):
        return [_value(v, kind, units, f"{name}[{k}]", choose) for k, v in enumerate(value)]
    if not isinstance(value, str) or ".." not in value:
        return value
    return choose(_range(value, kind, units, name))


def _range(text: str, kind: str, units: UnitSystem, name: str) -> Range:
    match = _RANGE.fullmatch(text)
    try:
        if match is None:
            raise UnitError("it has no two ends")
        low, high = match["low"], match["high"]
        unit = re.sub(_BARE, "", high, count=1).strip()
        if _BARE.fullmatch(low):
            low = f"{low} {unit}"  # said once, after both
        elif not unit:
            raise UnitError(f"{low!r} has a unit, and {high!r} has none")
        least, most = (parse_quantity(one, kind, units) for one in (low, high))
    except ValueError as error:
        raise ValueError(
            f'{name} is {text!r}, which is no range: {error}; write one as "-0.5 .. 0.5 eV/Å"'
        ) from error
    if not least < most:
        raise ValueError(f"{name} is {text!r}: a range goes from the smaller number to the larger")
    return Range(name, least, most, unit_of(kind, units))

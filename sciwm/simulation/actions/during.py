"""Actions that are taken for some of the time."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.actions.action import Action, Force, Time, TimeWindow, numbers_of
from sciwm.simulation.actions.schedule import TemperatureSchedule
from sciwm.simulation.simulator import Simulator


@dataclass(frozen=True)
class During(Action):
    """Forces from outside, or the temperature of the thermostat, from one time to another.

    A time step belongs to the window in which its middle lies. What is done counts its own time from
    `begin` on.

    Attributes:
        begin: Since the start of the run.
        end: When it is over.
        actions: What is done.
    """

    begin: Time
    end: Time
    actions: list[Action]

    def __post_init__(self) -> None:
        for one in self.actions:
            if not isinstance(one, (Force, TemperatureSchedule, During)):
                raise ValueError(
                    f"{type(one).__name__} is done at the start or throughout, and not for some of the time; "
                    "take it out of During"
                )
        begins, ends = numbers_of(self.begin), numbers_of(self.end)
        if len(begins) == len(ends) and any(a > b for a, b in zip(begins, ends, strict=True)):
            raise ValueError(f"During ends at {self.end}, before it begins at {self.begin}")

    def resolved(self, units: UnitSystem) -> Self:
        found = super().resolved(units)
        inside = [one.resolved(units) for one in self.actions]
        return type(self)(found.begin, found.end, inside)

    def beside(self, simulator: Simulator | None, state: State) -> Self:
        return replace(self, actions=[one.beside(simulator, state) for one in self.actions])

    def require_fitting(self, state: State) -> None:
        for one in self.actions:
            one.require_fitting(state)

    def windows(self) -> list[TimeWindow]:
        found = []
        assert not isinstance(self.begin, str)
        assert not isinstance(self.end, str)
        for inside in (window for one in self.actions for window in one.windows()):
            end = _earliest(self.begin + inside.end, self.end)
            found.append(TimeWindow(inside.action, self.begin + inside.begin, end))
        return found


def _earliest(first: float | Tensor, second: float | Tensor) -> float | Tensor:
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return torch.minimum(torch.as_tensor(first), torch.as_tensor(second))
    return min(first, second)

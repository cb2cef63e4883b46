"""The temperature of a thermostat as a function of time: to heat, to anneal, to quench."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciwm.simulation.actions.action import (
    Action,
    Temperature,
    Time,
    Value,
    number,
    numbers_of,
)


@dataclass(frozen=True)
class TemperatureSchedule(Action):
    """Set-points between which the temperature goes along straight lines, and outside which it stays.

    Attributes:
        times: Since the start of the run, in ascending order.
        temperatures: One for each.
    """

    breaks = frozenset({"energy"})

    times: list[Time]
    temperatures: list[Temperature]

    def __post_init__(self) -> None:
        if not self.times or len(self.times) != len(self.temperatures):
            raise ValueError(
                f"a schedule needs as many times as temperatures, got {len(self.times)} and "
                f"{len(self.temperatures)}"
            )
        known = [one for one in self.times if not isinstance(one, str)]
        for early, late in itertools.pairwise(known):
            if not bool(torch.as_tensor(early < late).all()):
                raise ValueError(f"times of a schedule must ascend, got {self.times}")
        for one in self.temperatures:
            if not all(value > 0 for value in numbers_of(one)):
                raise ValueError(f"temperatures of a schedule must be positive, got {one}")

    def at(self, time: float | Tensor) -> float | Tensor:
        """The set-point then; (S,) where that differs between systems."""
        if not any(isinstance(one, Tensor) for one in (time, *self.times, *self.temperatures)):
            known = np.array(self.times, float), np.array(self.temperatures, float)
            return float(np.interp(time, *known))
        times, temperatures = _rows(self.times), _rows(self.temperatures)
        value = temperatures[0]
        for k in range(1, len(times)):
            share = ((time - times[k - 1]) / (times[k] - times[k - 1])).clamp(0.0, 1.0)
            value = value + share * (temperatures[k] - temperatures[k - 1])
        return value

    @property
    def hottest(self) -> float | Tensor:
        """The highest set-point, or (S,) each system's."""
        if any(isinstance(one, Tensor) for one in self.temperatures):
            return torch.stack(torch.broadcast_tensors(*_rows(self.temperatures))).amax(0)
        return max(map(number, self.temperatures))


def _rows(values: list[Value]) -> list[Tensor]:
    return [torch.as_tensor(one, dtype=torch.float64) for one in values]

"""The temperature of a thermostat as a function of time: to heat, to anneal, to quench."""

from dataclasses import dataclass

import numpy as np

from sciwm.simulation.actions.action import Action, Temperature, Time


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
        numbers = [one for one in self.times if not isinstance(one, str)]
        if len(numbers) == len(self.times) and numbers != sorted(set(numbers)):
            raise ValueError(f"times of a schedule must ascend, got {self.times}")
        for one in self.temperatures:
            if not isinstance(one, str) and not one > 0:
                raise ValueError(f"temperatures of a schedule must be positive, got {one}")

    def at(self, time: float) -> float:
        """The set-point then."""
        return float(
            np.interp(time, np.array(self.times, float), np.array(self.temperatures, float))
        )

    @property
    def hottest(self) -> float:
        return max(map(float, self.temperatures))

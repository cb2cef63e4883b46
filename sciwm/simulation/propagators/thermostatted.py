"""What propagators with a thermostat share."""

import copy
from abc import ABC
from collections.abc import Sequence
from typing import Self

from torch import Tensor

from sciwm.simulation.propagators.propagator import Propagator
from sciwm.simulation.thermostats import OrnsteinUhlenbeck, VelocityRescaling


class Thermostatted(Propagator, ABC):
    """A propagator whose velocities a thermostat changes."""

    _thermostat: OrnsteinUhlenbeck | VelocityRescaling

    @property
    def temperature(self) -> float | Tensor:
        return self._thermostat.temperature

    def held_at(self, temperature: float | Tensor) -> Self:
        chosen = copy.copy(self)
        chosen._thermostat = self._thermostat.held_at(temperature)
        return chosen

    def select(self, keep: Sequence[int]) -> Self:
        chosen = copy.copy(self)
        chosen._thermostat = self._thermostat.select(keep)
        return chosen

"""A thermostat around any motion."""

import copy
from abc import ABC
from collections.abc import Sequence
from typing import Self

from torch import Tensor

from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.propagators.integrator import temperature_text
from sciwm.simulation.propagators.propagator import Conserved, Propagator
from sciwm.simulation.propagators.thermostatted import Thermostatted
from sciwm.simulation.simulator import Evaluation
from sciwm.simulation.thermostats import OrnsteinUhlenbeck


class Splitting(Thermostatted, ABC):
    """Friction and noise over half a stride, a stride of the motion, and friction and noise again.

    Args:
        motion: What is held at the temperature.
        temperature: One for all systems, or (S,).
        friction: Inverse time, in the units' time.
        seed: Of the noise, together with each system's `State.streams`.
    """

    _thermostat: OrnsteinUhlenbeck
    conserves: frozenset[Conserved] = frozenset()

    def __init__(
        self, motion: Propagator, temperature: float | Tensor, friction: float, seed: int = 0
    ):
        self.motion = motion
        self.stride = motion.stride
        self.always_watched = motion.always_watched
        self._thermostat = OrnsteinUhlenbeck(temperature, friction, seed)

    @property
    def units(self) -> UnitSystem:
        return self.motion.units

    @property
    def origin(self) -> tuple[str, str]:
        return self.motion.origin

    def start(self, state: State) -> Evaluation | None:
        return self.motion.start(state)

    def outside(self, state: State, evaluation: Evaluation | None) -> dict[int, str]:
        return self.motion.outside(state, evaluation)

    def select(self, keep: Sequence[int]) -> Self:
        chosen = super().select(keep)
        chosen.motion = self.motion.select(keep)
        return chosen

    def around(self, motion: Propagator) -> Self:
        """The same thermostat, with the same random numbers, around another motion of equal stride."""
        chosen = copy.copy(self)
        chosen.motion = motion
        return chosen

    def _disturbed(self, state: State, number: int) -> State:
        """The state after friction and noise over half a stride, the noise being that of a number."""
        half = 0.5 * self.stride
        velocities = self._thermostat.apply(state, half, self.units, number)
        return state.moved(state.positions, velocities)

    @property
    def parameters(self) -> dict[str, str | float]:
        inner = self.motion.parameters
        return inner | {
            "integrator": f"{self.name} around {inner['integrator']}",
            "temperature": temperature_text(self.temperature),
            "friction": self._thermostat.friction,
            "seed": self._thermostat.seed,
        }

    name: str
    """As trajectories name it."""


class LangevinSplitting(Splitting):
    """Langevin dynamics around any motion: OBABO where that is velocity Verlet (Bussi & Parrinello,
    Phys. Rev. E 75, 056707 (2007)). Its averages are as right as the motion's energy is constant."""

    name = "Langevin"

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation | None]:
        state = self._disturbed(state, 2 * index)
        state, evaluation = self.motion.advance(state, evaluation, index)
        return self._disturbed(state, 2 * index + 1), evaluation

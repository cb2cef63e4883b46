"""Newton's equations with a thermostat that rescales."""

import copy
from collections.abc import Sequence

from torch import Tensor

from sciwm.core.state import State
from sciwm.simulation.propagators.integrator import Integrator, checked_step, described
from sciwm.simulation.propagators.verlet import VelocityVerlet
from sciwm.simulation.simulator import Evaluation, Simulator
from sciwm.simulation.thermostats import VelocityRescaling


class CSVR(Integrator):
    """Velocity Verlet with canonical sampling through velocity rescaling (Bussi, Donadio &
    Parrinello 2007): canonical, and far gentler on the motion than friction.

    Args:
        dt: In the units' time.
        temperature: One for all systems, or (S,).
        time_constant: How fast the kinetic energy relaxes, in the units' time.
    """

    def __init__(self, dt: float, temperature: float | Tensor, time_constant: float, seed: int = 0):
        self.dt = checked_step(dt)
        self._seed = seed
        self._newton = VelocityVerlet(dt)
        self._thermostat = VelocityRescaling(temperature, time_constant, seed)

    @property
    def temperature(self) -> float | Tensor:
        return self._thermostat.temperature

    def step(
        self, simulator: Simulator, state: State, evaluation: Evaluation, index: int
    ) -> tuple[State, Evaluation]:
        state, evaluation = self._newton.step(simulator, state, evaluation, index)
        state.velocities = self._thermostat.apply(state, self.dt, simulator.units, index)
        return state, evaluation

    def select(self, keep: Sequence[int]) -> "CSVR":
        chosen = copy.copy(self)
        chosen._thermostat = self._thermostat.select(keep)
        return chosen

    @property
    def parameters(self) -> dict[str, str | float]:
        return {
            "integrator": "velocity Verlet with CSVR",
            "dt": self.dt,
            "temperature": described(self.temperature),
            "time_constant": self._thermostat.time_constant,
            "seed": self._seed,
        }

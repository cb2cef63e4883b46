"""Newton's equations with a thermostat that rescales velocities."""

from torch import Tensor

from sciwm.core.state import State
from sciwm.simulation.propagators.integrator import Integrator, temperature_text
from sciwm.simulation.propagators.propagator import Conserved
from sciwm.simulation.propagators.thermostatted import Thermostatted
from sciwm.simulation.propagators.verlet import VelocityVerlet
from sciwm.simulation.simulator import Evaluation, Simulator
from sciwm.simulation.thermostats import VelocityRescaling


class CSVR(Thermostatted, Integrator):
    """Velocity Verlet with canonical sampling through velocity rescaling (Bussi, Donadio &
    Parrinello 2007): canonical, and far gentler on the motion than friction.

    Args:
        dt: In the units' time.
        temperature: One for all systems, or (S,).
        time_constant: How fast the kinetic energy relaxes, in the units' time.
        seed: Of the noise, together with each system's `State.streams`.
    """

    _thermostat: VelocityRescaling
    conserves: frozenset[Conserved] = frozenset({"momentum", "angular momentum"})

    def __init__(
        self,
        simulator: Simulator,
        dt: float,
        temperature: float | Tensor,
        time_constant: float,
        seed: int = 0,
    ):
        super().__init__(simulator, dt)
        self._newton = VelocityVerlet(simulator, dt)
        self._thermostat = VelocityRescaling(temperature, time_constant, seed)

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation]:
        state, evaluation = self._newton.advance(state, evaluation, index)
        state.velocities = self._thermostat.apply(state, self.stride, self.units, index)
        return state, evaluation

    @property
    def parameters(self) -> dict[str, str | float]:
        return {
            "integrator": "velocity Verlet with CSVR",
            "dt": self.stride,
            "temperature": temperature_text(self.temperature),
            "time_constant": self._thermostat.time_constant,
            "seed": self._thermostat.seed,
        }

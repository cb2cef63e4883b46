"""Langevin dynamics."""

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.simulation.propagators.integrator import Integrator, temperature_text
from sciwm.simulation.propagators.propagator import Conserved
from sciwm.simulation.propagators.thermostatted import Thermostatted
from sciwm.simulation.simulator import Evaluation, Simulator
from sciwm.simulation.thermostats import OrnsteinUhlenbeck


class Langevin(Thermostatted, Integrator):
    """Langevin dynamics by the BAOAB splitting, whose positions are canonical to a higher order
    than other splittings' (Leimkuhler & Matthews, Appl. Math. Res. eXpress 2013, 34, section 2.2).

    B: v += Δt a / 2;  A: x += Δt v / 2;  O: friction and noise over Δt;  then A, then B with the
    accelerations at the new positions.

    | symbol | variable      |
    |--------|---------------|
    | Δt     | `stride`      |
    | γ      | `friction`    |
    | T      | `temperature` |

    Args:
        dt: In the units' time.
        temperature: One for all systems, or (S,).
        friction: Inverse time, in the units' time.
        seed: Of the noise, together with each system's `State.streams`.
    """

    _thermostat: OrnsteinUhlenbeck
    conserves: frozenset[Conserved] = frozenset()

    def __init__(
        self,
        simulator: Simulator,
        dt: float,
        temperature: float | Tensor,
        friction: float,
        seed: int = 0,
    ):
        super().__init__(simulator, dt)
        self._thermostat = OrnsteinUhlenbeck(temperature, friction, seed)

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation]:
        half = 0.5 * self.stride
        state = state.moved(state.positions, self.kicked(state, evaluation))
        positions = torch.add(state.positions, state.velocities, alpha=half)
        velocities = self._thermostat.apply(state, self.stride, self.units, index)
        state.positions = positions.add_(velocities, alpha=half)
        state.velocities = velocities
        evaluation = self.simulator.evaluate(state)
        state.velocities = self.kicked(state, evaluation)
        return state, evaluation

    @property
    def parameters(self) -> dict[str, str | float]:
        return {
            "integrator": "Langevin BAOAB",
            "dt": self.stride,
            "temperature": temperature_text(self.temperature),
            "friction": self._thermostat.friction,
            "seed": self._thermostat.seed,
        }

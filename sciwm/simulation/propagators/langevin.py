"""Langevin dynamics."""

import copy
from collections.abc import Sequence

from torch import Tensor

from sciwm.core.state import State, moved
from sciwm.simulation.propagators.integrator import Integrator, checked_step, described, kicked
from sciwm.simulation.simulator import Evaluation, Simulator
from sciwm.simulation.thermostats import OrnsteinUhlenbeck


class Langevin(Integrator):
    """Langevin dynamics by the BAOAB splitting, whose positions are canonical to a higher order
    than other splittings' (Leimkuhler & Matthews, Appl. Math. Res. eXpress 2013, 34, section 2.2).

    B: v += Δt a / 2;  A: x += Δt v / 2;  O: friction and noise over Δt;  then A, then B with the
    accelerations at the new positions.

    | symbol | variable      |
    |--------|---------------|
    | Δt     | `dt`          |
    | γ      | `friction`    |
    | T      | `temperature` |

    Args:
        dt: In the units' time.
        temperature: One for all systems, or (S,).
        friction: Inverse time, in the units' time.
    """

    def __init__(self, dt: float, temperature: float | Tensor, friction: float, seed: int = 0):
        self.dt = checked_step(dt)
        self._seed = seed
        self._thermostat = OrnsteinUhlenbeck(temperature, friction, seed)

    @property
    def temperature(self) -> float | Tensor:
        return self._thermostat.temperature

    def step(
        self, simulator: Simulator, state: State, evaluation: Evaluation, index: int
    ) -> tuple[State, Evaluation]:
        impulse = 0.5 * self.dt * simulator.units.acceleration
        velocities = kicked(state, impulse, evaluation)
        positions = state.positions + 0.5 * self.dt * velocities
        state = moved(state, positions, velocities)
        velocities = self._thermostat.apply(state, self.dt, simulator.units, index)
        state.positions = positions + 0.5 * self.dt * velocities
        state.velocities = velocities
        evaluation = simulator.evaluate(state)
        state.velocities = kicked(state, impulse, evaluation)
        return state, evaluation

    def select(self, keep: Sequence[int]) -> "Langevin":
        chosen = copy.copy(self)
        chosen._thermostat = self._thermostat.select(keep)
        return chosen

    @property
    def parameters(self) -> dict[str, str | float]:
        return {
            "integrator": "Langevin BAOAB",
            "dt": self.dt,
            "temperature": described(self.temperature),
            "friction": self._thermostat.friction,
            "seed": self._seed,
        }

"""A propagator: Newton's equations with friction and no noise, which cools a system down."""

import math
from collections.abc import Sequence

from sciwm.core.state import State
from sciwm.simulation.propagators import VelocityVerlet
from sciwm.simulation.propagators.integrator import Integrator
from sciwm.simulation.propagators.propagator import Conserved
from sciwm.simulation.simulator import Evaluation, Simulator


class Damped(Integrator):
    """A step of velocity Verlet, then v' = v exp(-γ Δt).

    | symbol | variable   |
    |--------|------------|
    | Δt     | `stride`   |
    | γ      | `friction` |

    Args:
        dt: In the units' time.
        friction: Inverse time, in the units' time.
    """

    conserves: frozenset[Conserved] = frozenset()
    temperature = None

    def __init__(self, simulator: Simulator, dt: float, friction: float):
        super().__init__(simulator, dt)
        if not 0 <= friction < math.inf:
            raise ValueError(f"{friction=} must be zero or above, and finite")
        self.friction = friction
        self._newton = VelocityVerlet(simulator, dt)

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation]:
        """A pure function of its arguments: taken twice it gives the same numbers."""
        state, evaluation = self._newton.advance(state, evaluation, index)
        state.velocities = state.velocities * math.exp(-self.friction * self.stride)
        return state, evaluation

    def select(self, keep: Sequence[int]) -> "Damped":
        """It holds nothing of single systems."""
        return self

    @property
    def parameters(self) -> dict[str, str | float]:
        """Written into every trajectory, and asked for when one is continued."""
        return {"integrator": "damped", "dt": self.stride, "friction": self.friction}

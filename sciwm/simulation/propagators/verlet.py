"""Newton's equations in steps."""

from collections.abc import Sequence

import torch

from sciwm.core.state import State, moved
from sciwm.simulation.propagators.integrator import Integrator, checked_step, kicked
from sciwm.simulation.simulator import Evaluation, Simulator


class VelocityVerlet(Integrator):
    """Newton's equations: symplectic, reversible, second order (Swope et al.,
    J. Chem. Phys. 76, 637 (1982), equations 6 and 8).

    v½ = v + Δt a(x) / 2,  x' = x + Δt v½,  v' = v½ + Δt a(x') / 2

    | symbol | variable                    |
    |--------|-----------------------------|
    | Δt     | `dt`                        |
    | x, v   | positions, velocities       |
    | a Δt/2 | `impulse` × forces / masses |
    """

    temperature = None

    def __init__(self, dt: float):
        self.dt = checked_step(dt)

    def step(
        self, simulator: Simulator, state: State, evaluation: Evaluation, index: int
    ) -> tuple[State, Evaluation]:
        impulse = 0.5 * self.dt * simulator.units.acceleration
        half = kicked(state, impulse, evaluation)
        state = moved(state, torch.add(state.positions, half, alpha=self.dt), half)
        evaluation = simulator.evaluate(state)
        state.velocities = kicked(state, impulse, evaluation)
        return state, evaluation

    def select(self, keep: Sequence[int]) -> "VelocityVerlet":
        return self

    @property
    def parameters(self) -> dict[str, str | float]:
        return {"integrator": "velocity Verlet", "dt": self.dt}

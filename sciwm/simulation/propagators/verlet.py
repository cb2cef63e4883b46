"""Newton's equations, step by step."""

from collections.abc import Sequence

import torch

from sciwm.core.state import State
from sciwm.simulation.propagators.integrator import Integrator
from sciwm.simulation.propagators.propagator import Conserved
from sciwm.simulation.simulator import Evaluation


class VelocityVerlet(Integrator):
    """Newton's equations: symplectic, reversible, second order (Swope et al.,
    J. Chem. Phys. 76, 637 (1982), equations 6 and 8).

    v½ = v + Δt a(x) / 2,  x' = x + Δt v½,  v' = v½ + Δt a(x') / 2

    | symbol | variable                    |
    |--------|-----------------------------|
    | Δt     | `stride`                    |
    | x, v   | positions, velocities       |
    | a Δt/2 | `impulse` × forces / masses |
    """

    conserves: frozenset[Conserved] = frozenset({"energy", "momentum", "angular momentum"})
    temperature = None

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation]:
        half = self.kicked(state, evaluation)
        state = state.moved(torch.add(state.positions, half, alpha=self.stride), half)
        evaluation = self.simulator.evaluate(state)
        state.velocities = self.kicked(state, evaluation)
        return state, evaluation

    def select(self, keep: Sequence[int]) -> "VelocityVerlet":
        return self

    @property
    def parameters(self) -> dict[str, str | float]:
        return {"integrator": "velocity Verlet", "dt": self.stride}

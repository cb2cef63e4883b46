"""Softened Coulomb forces between the particles of a system."""

import torch

from sciwm.core.state import State
from sciwm.core.units import REDUCED, UnitSystem
from sciwm.models.dynamics.pair_potential import PairPotential
from sciwm.models.dynamics.potential import Potential
from sciwm.models.encoders.radial import InverseMultiquadricBasis
from sciwm.simulation.simulator import Evaluation

SOFTENING = 0.5


class SoftenedCoulomb:
    """U = Σ q p / √(r² + s²) over the pairs of each system, all of which have as many particles.

    Args:
        softening: s.
    """

    units: UnitSystem = REDUCED

    def __init__(self, softening: float = SOFTENING):
        self.softening = softening

    @property
    def fingerprint(self) -> str:
        """Tells it from all others."""
        return f"{type(self).__name__} {vars(self)}"

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        """Energies and forces."""
        systems = state.n_systems
        x = state.positions.reshape(systems, -1, 3)
        q = state.charges.reshape(systems, -1)
        arms = x[:, :, None] - x[:, None]
        distance = (arms.square().sum(-1) + self.softening**2).sqrt()
        products = q[:, :, None] * q[:, None] * (1 - torch.eye(x.shape[1]).to(x))
        pull = products / distance**3
        energy = 0.5 * (products / distance).sum((1, 2))
        return Evaluation(energy, (pull[..., None] * arms).sum(2).reshape(-1, 3))

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        """Nowhere."""
        return {}


def pair_law(types: int) -> Potential:
    """A pair potential that has learned nothing yet."""
    return PairPotential(InverseMultiquadricBasis(size=16, narrowest=0.01, widest=10.0), types)

"""The learned pair interaction: a sum over pairs of functions of distance.

For particle systems whose interaction is known to be pairwise. Two particles of types s and t and
charges q and p interact by u(r) = f_st(r) + q p g_st(r): the part that the charges carry is bilinear
in them, which is the superposition principle, so a model trained on some charges and some number of
particles holds for others.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from sciwm.core.state import MAX_NUMBER
from sciwm.models.domain import Domain
from sciwm.models.dynamics.potential import Potential
from sciwm.models.encoders.radial import RadialBasis
from sciwm.models.geometry import Geometry
from sciwm.models.statistics import Statistics


class PairPotential(Potential):
    """Pair energies expanded in a radial basis, with coefficients learned for each pair of types.

    Args:
        basis: Functions of distance; it owns the cutoff.
        types: Particle types run from 0 to types - 1.
        unit_system: "molecular" or "reduced".
    """

    def __init__(self, basis: RadialBasis, types: int = 1, unit_system: str = "reduced"):
        super().__init__()
        if not 1 <= types <= MAX_NUMBER + 1:
            raise ValueError(f"types must lie in 1..{MAX_NUMBER + 1}, got {types}")
        self.basis = basis
        self.types = types
        self.unit_system = unit_system
        self.cutoff = basis.cutoff
        self.domain = Domain()
        # Zero to start with: particles that do not interact move straight on, the null model.
        self.neutral = nn.Parameter(torch.zeros(types, types, basis.size))
        self.charged = nn.Parameter(torch.zeros(types, types, basis.size))

    def adapt(self, statistics: Statistics) -> None:
        if max(statistics.species, default=0) >= self.types:
            raise ValueError(
                f"the data holds particle type {max(statistics.species)} but types={self.types}; "
                f"set types: {max(statistics.species) + 1}"
            )
        self.domain.adapt(statistics)

    def energy(self, geometry: Geometry) -> Tensor:
        species = geometry.numbers
        kind = (species[:, None] * self.types + species[geometry.sender]).flatten()
        # Averaging over the order of the pair makes u_st = u_ts.
        neutral = 0.5 * (self.neutral + self.neutral.transpose(0, 1)).flatten(0, 1)
        charged = 0.5 * (self.charged + self.charged.transpose(0, 1)).flatten(0, 1)
        product = geometry.charges[:, None] * geometry.charges[geometry.sender]
        shape = (*product.shape, -1)
        coefficients = embedding(kind, neutral).view(shape)
        coefficients = coefficients + product[..., None] * embedding(kind, charged).view(shape)
        pair = (coefficients * self.basis(geometry.distance)).sum(-1)
        return 0.5 * torch.where(geometry.real, pair, 0.0).sum(dim=1)

    def offsets(self, numbers: Tensor) -> Tensor:
        return torch.zeros(len(numbers), dtype=torch.float64, device=numbers.device)

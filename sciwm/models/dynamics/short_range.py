"""Where training data ends, at short distance and at none: what holds there by construction.

Training sees molecules near their rest and says nothing of atoms that collide, so a learned energy is
arbitrary there and may have holes of any depth. Adding a repulsion does not close them. Here, instead, an
atom with a neighbour well inside the closest approach of their elements in training is taken out of what
is learned: its learned energy fades to that of a free atom, its neighbours no longer see it, and the
screened repulsion of nuclei takes over, by the same switch. Whatever is learned, energies are then
bounded below.

Bonds are counted, and each is worth the mean bond of the training data (about 4 eV in organic molecules),
or by element what explains best how energies there depend on composition, so that one that breaks in a
simulation costs what bonds cost, rather than what a network extrapolates. An atom counts no more bonds than
the fewest that its element usually had in training: as long as atoms are bound as they were there, the count
is constant and pulls at nothing.
"""

import numpy as np
import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from sciwm.core.frame import Array
from sciwm.core.state import MAX_NUMBER
from sciwm.models.domain import Domain
from sciwm.models.dynamics.bonding import bond_weight, saturated
from sciwm.models.dynamics.repulsion import screened_repulsion
from sciwm.models.encoders.radial import switch
from sciwm.models.geometry import Geometry
from sciwm.models.statistics import Statistics

INNER, OUTER = 0.85, 0.95
"""Shares of the closest approach in training at which nothing and all of what was learned counts. Frames
that were not trained on come hardly nearer than the second. What is learned can fall by 15 eV between 0.94
and 0.88, along bonds of carbon and hydrogen in a model of thousands of molecules: 0.8 left holes there."""

APART = 1.7
"""Closest approach, in sums of covalent radii, of elements that never met in training: no bond is so long."""

TOUCHING = 2.5
"""Sums of covalent radii at which atoms without a bond touch: that training saw two elements from further off
only says nothing of a collision there."""

MANY_BONDS = 1000.0
"""What no atom has."""

UNUSUAL = 0.001
"""Share of an element's atoms in training that may have fewer bonds than are counted. One bond that was
pulled apart, or carbon monoxide among thousands of molecules, would else leave too few bonds to account for
the energy of all."""


class ShortRange(nn.Module):
    """Collisions, repulsion and bonds of the atoms of a molecule or material, in eV and Å.

    Args:
        cutoff: Of the model.
    """

    radii: Tensor
    enough: Tensor

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        # Of each element, the fewest bonds that an atom usually had in training.
        self.register_buffer("enough", torch.full((MAX_NUMBER + 1,), MANY_BONDS))
        radii = torch.tensor(covalent_radii, dtype=torch.get_default_dtype())
        self.register_buffer("radii", radii, persistent=False)

    def contacts(self, geometry: Geometry, domain: Domain) -> Tensor:
        """(A, K) from 0, a distance that training knows, to 1, a collision."""
        closest, reach = domain.closest_of(geometry), self._reach(geometry)
        known = torch.where(closest > 0, closest.minimum(TOUCHING * reach), APART * reach)
        ratio = geometry.distance / known.clamp(max=self.cutoff)
        return torch.where(geometry.real, switch(ratio, INNER, OUTER), 0.0)

    def adapt(self, statistics: Statistics) -> None:
        """Takes over how many bonds atoms have in training data, beside that which it knows."""
        for number, bonds in statistics.bonds.items():
            fewest = float(np.quantile(bonds, UNUSUAL, method="lower"))
            self.enough[number] = min(fewest, float(self.enough[number]))

    def mean_bonds(self, statistics: Statistics) -> Array:
        """(T,) half of the bonds of a particle of each type in the data, as they are counted here."""
        halves = np.zeros(MAX_NUMBER + 1)
        for number, bonds in statistics.bonds.items():
            count = torch.from_numpy(bonds).to(self.enough)
            halves[number] = 0.5 * float(saturated(count, self.enough[number]).mean())
        return halves

    def repulsion(self, geometry: Geometry, contacts: Tensor) -> Tensor:
        """(A,) half of the repulsion of every pair that collides on each particle."""
        pair = contacts * screened_repulsion(geometry)
        return 0.5 * torch.where(geometry.real, pair, 0.0).sum(dim=1)

    def bonds(self, geometry: Geometry, domain: Domain, contacts: Tensor) -> Tensor:
        """(A,) half of the bonds of each particle; elements that never met in training have none."""
        weight = bond_weight(geometry.distance, self._reach(geometry), self.cutoff)
        known = geometry.real & (domain.closest_of(geometry) > 0)
        count = torch.where(known, weight * (1.0 - contacts), 0.0).sum(dim=1)
        return 0.5 * saturated(count, self.enough[geometry.numbers])

    def _reach(self, geometry: Geometry) -> Tensor:
        """(A, K) sums of covalent radii."""
        radius = self.radii[geometry.numbers]
        return radius[:, None] + radius[geometry.sender]


def presence(contacts: Tensor) -> Tensor:
    """(A,) from 1 for an atom that collides with none to 0 for one that does."""
    # Squared, so that one collision counts for more than many slight ones in dense matter.
    return switch(contacts.square().sum(dim=1), 0.0, 1.0)

"""Where training data ends, at short distance and at none: what holds there by construction.

Training sees molecules near their rest and says nothing of atoms that collide, so a learned energy is
arbitrary there and may have holes of any depth. Adding a repulsion does not close them. Here, instead, an
atom with a neighbour well inside the closest approach of their elements in training is taken out of what
is learned: its learned energy fades to that of a free atom, its neighbours no longer see it, and the
screened repulsion of nuclei takes over, by the same switch. Whatever is learned, energies are then
bounded below.

Bonds are counted, each worth the mean bond of the training data (4.2 eV in ethanol). A bond that breaks
in a simulation then costs what bonds cost, rather than what a network extrapolates.
"""

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from sciwm.models.bonding import bond_weight
from sciwm.models.domain import CLOSER, Domain
from sciwm.models.geometry import Geometry
from sciwm.models.radial import switch
from sciwm.models.repulsion import screened_repulsion

INNER, OUTER = 0.6, CLOSER
"""Shares of the closest approach in training at which nothing and all of what was learned counts. Whatever is
inside the domain is untouched: held-back frames come a little nearer than those that were trained on."""

APART = 1.7
"""Closest approach, in sums of covalent radii, of elements that never met in training: no bond is so long."""


class ShortRange(nn.Module):
    """Collisions, repulsion and bonds of the atoms of a molecule or material, in eV and Å.

    Args:
        cutoff: Of the model.
    """

    radii: Tensor

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        radii = torch.tensor(covalent_radii, dtype=torch.get_default_dtype())
        self.register_buffer("radii", radii, persistent=False)

    def contacts(self, geometry: Geometry, domain: Domain) -> Tensor:
        """(A, K) from 0, a distance that training knows, to 1, a collision."""
        closest = domain.closest_of(geometry)
        apart = (APART * self._reach(geometry)).clamp(max=self.cutoff)
        ratio = geometry.distance / torch.where(closest > 0, closest, apart)
        return torch.where(geometry.real, switch(ratio, INNER, OUTER), 0.0)

    def pair_energy(
        self, geometry: Geometry, domain: Domain, contacts: Tensor, bond_energy: Tensor
    ) -> Tensor:
        """(A,) half of the repulsion and bonding of every pair on each particle.

        Elements that never met in training have no bonds.
        """
        bonds = bond_weight(geometry.distance, self._reach(geometry), self.cutoff)
        bonds = torch.where(domain.closest_of(geometry) > 0, bonds * (1.0 - contacts), 0.0)
        pair = contacts * screened_repulsion(geometry) - bond_energy * bonds
        return 0.5 * torch.where(geometry.real, pair, 0.0).sum(dim=1)

    def _reach(self, geometry: Geometry) -> Tensor:
        """(A, K) sums of covalent radii."""
        radius = self.radii[geometry.numbers]
        return radius[:, None] + radius[geometry.sender]


def presence(contacts: Tensor) -> Tensor:
    """(A,) from 1 for an atom that collides with none to 0 for one that does."""
    return switch(contacts.sum(dim=1), 0.0, 1.0)

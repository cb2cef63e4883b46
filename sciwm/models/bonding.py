"""How much of a bond two atoms a distance apart have."""

from torch import Tensor

from sciwm.models.radial import switch

WHOLE, BROKEN = 1.2, 2.0
"""Distances, in sums of covalent radii, up to which a pair is a whole bond and from which it is none. Bonds
vibrate below the first, where the weight is constant; atoms with a common neighbour are near the second."""


def bond_weight(distance: Tensor, radii: Tensor, cutoff: float) -> Tensor:
    """From 1 for bonded atoms to 0 for others, with two continuous derivatives.

    Args:
        radii: Sums of covalent radii.
        cutoff: Distance beyond which there are no bonds, however large the atoms.
    """
    stop = (BROKEN * radii).clamp(max=cutoff)
    return switch(distance, WHOLE / BROKEN * stop, stop)

"""How many bonds an atom has, as a smooth function of where its neighbours are."""

import torch
from torch import Tensor

from sciwm.models.encoders.radial import switch

WHOLE, BROKEN = 1.2, 1.8
"""Distances, in sums of covalent radii, up to which a pair is a whole bond and from which it is none."""

EASING = 0.5
"""Bonds over which another one counts ever less, before it counts nothing."""


def bond_weight(distance: Tensor, radii: Tensor, cutoff: float) -> Tensor:
    """From 1 for bonded atoms to 0 for others, with two continuous derivatives.

    Args:
        radii: Sums of covalent radii.
        cutoff: Distance beyond which there are no bonds, however large the atoms.
    """
    stop = (BROKEN * radii).clamp(max=cutoff)
    return switch(distance, WHOLE / BROKEN * stop, stop)


def saturated(bonds: Tensor, enough: Tensor) -> Tensor:
    """The number of bonds while they are few, and a constant from `enough` on, with three derivatives.

    Args:
        bonds: Sums of bond weights.
        enough: Number from which on a further bond changes nothing.
    """
    width = enough.clamp(max=EASING)
    t = ((bonds - enough + width) / width.clamp(min=1e-6)).clamp(0.0, 1.0)
    # Beside them the integral of 1 - `envelope(t, p=3)`, which rises from 0 to 1.
    few = bonds - width * t**4 * (2.5 - t * (3.0 - t))
    return torch.where(bonds < enough, few, enough - 0.5 * width)

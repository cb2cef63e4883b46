"""Short-range repulsion between nuclei, for distances of which a model has no data."""

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from sciwm.core.units import BOHR, HARTREE
from sciwm.models.encoders.radial import envelope
from sciwm.models.geometry import Geometry

# The universal screening function φ(x) of Ziegler, Biersack and Littmark (1985), eq. 2-64.
_WEIGHTS = (0.18175, 0.50986, 0.28022, 0.02817)
_RATES = (3.19980, 0.94229, 0.40290, 0.20162)
_SCREENING_LENGTH = 0.88534  # bohr
_REACH = 0.7


def screened_repulsion(geometry: Geometry) -> Tensor:
    """(A, K) the ZBL potential of every pair, in eV for distances in Å."""
    z = geometry.numbers.to(geometry.distance.dtype)
    zi, zj = z[:, None], z[geometry.sender]
    r = geometry.distance
    x = r * (zi**0.23 + zj**0.23) / (_SCREENING_LENGTH * BOHR)
    screening = sum(w * torch.exp(-rate * x) for w, rate in zip(_WEIGHTS, _RATES, strict=True))
    return HARTREE * BOHR * zi * zj / r * screening


class ScreenedNuclearRepulsion(nn.Module):
    """The ZBL potential, switched off smoothly at 0.7 sums of covalent radii, as older models have it.

    What was learned is not switched off where this is switched on, so extrapolation can outweigh it:
    `ShortRange` has taken its place.
    """

    radii: Tensor

    def __init__(self) -> None:
        super().__init__()
        radii = torch.tensor(covalent_radii, dtype=torch.get_default_dtype())
        self.register_buffer("radii", radii, persistent=False)

    def forward(self, geometry: Geometry) -> Tensor:
        """(A,) half of every pair's energy on each particle."""
        radius = _REACH * self.radii[geometry.numbers]
        reach = radius[:, None] + radius[geometry.sender]
        pair = screened_repulsion(geometry) * envelope(geometry.distance / reach)
        return 0.5 * torch.where(geometry.real, pair, 0.0).sum(dim=1)

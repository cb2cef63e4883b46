"""Short-range repulsion: what keeps a learned energy from collapsing where it has no data."""

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from sciwm.core.units import BOHR, HARTREE
from sciwm.models.geometry import Geometry
from sciwm.models.radial import envelope

# The universal screening function φ(x) of Ziegler, Biersack and Littmark (1985), eq. 2-64.
_WEIGHTS = (0.18175, 0.50986, 0.28022, 0.02817)
_RATES = (3.19980, 0.94229, 0.40290, 0.20162)
_SCREENING_LENGTH = 0.88534  # bohr
_REACH = 0.7


class ScreenedNuclearRepulsion(nn.Module):
    """The ZBL potential, switched off smoothly at 0.7 sums of covalent radii.

    That is just inside the shortest bonds (N≡N is 0.77, C=O 0.86 of the sum): further out, the steep
    potential would have to be unlearned. Below, it outweighs anything a model extrapolates. In eV and Å.
    """

    radii: Tensor

    def __init__(self) -> None:
        super().__init__()
        radii = torch.tensor(covalent_radii, dtype=torch.get_default_dtype())
        self.register_buffer("radii", radii, persistent=False)

    def forward(self, geometry: Geometry) -> Tensor:
        """(A,) half of every pair's energy on each particle."""
        z = geometry.numbers.to(geometry.distance.dtype)
        zi, zj = z[:, None], z[geometry.sender]
        radius = _REACH * self.radii[geometry.numbers]
        reach = radius[:, None] + radius[geometry.sender]
        r = geometry.distance
        x = r * (zi**0.23 + zj**0.23) / (_SCREENING_LENGTH * BOHR)
        screening = sum(w * torch.exp(-rate * x) for w, rate in zip(_WEIGHTS, _RATES, strict=True))
        pair = HARTREE * BOHR * zi * zj / r * screening * envelope(r / reach)
        return 0.5 * torch.where(geometry.real, pair, 0.0).sum(dim=1)

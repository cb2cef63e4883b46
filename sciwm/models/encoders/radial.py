"""Functions of distance alone: how strongly two particles a distance r apart see each other."""

import abc
import math

import torch
from torch import Tensor, nn

from sciwm.core.bounds import require_counts, require_not_negative


def envelope(x: Tensor, p: int = 6) -> Tensor:
    """A polynomial that falls from 1 at x = 0 to 0 at x = 1 with two vanishing derivatives there.

    DimeNet (Gasteiger 2020, arXiv:2003.03123), equation 8. Zero beyond x = 1.
    """
    a = (p + 1) * (p + 2) / 2
    b = p * (p + 2)
    c = p * (p + 1) / 2
    x = x.clamp(max=1.0)
    return 1 - x**p * (a - x * (b - c * x))


def switch(x: Tensor, start: Tensor | float, stop: Tensor | float) -> Tensor:
    """From 1 at `start` to 0 at `stop`, with two continuous derivatives."""
    return envelope(((x - start) / (stop - start)).clamp(min=0.0), p=3)


class RadialBasis(nn.Module, abc.ABC):
    """A fixed set of functions of distance in which models expand what they learn.

    Attributes:
        cutoff: Distance from which all functions are zero; may be infinite.
        size: Number of functions.
    """

    cutoff: float
    size: int

    @abc.abstractmethod
    def forward(self, r: Tensor) -> Tensor:
        """(...) distances to (..., size) values."""


class BesselBasis(RadialBasis):
    """Spherical Bessel functions sin(nπr/r_c)/r under a C² envelope (arXiv:2003.03123, eq. 7).

    Args:
        cutoff: Distance beyond which particles do not see each other.
        size: Number of functions; more resolve shorter distances.
        decay: The n-th function is n^-decay as large as the first, their mean square staying as it
            is: weights that are learned at equal speed then vary slowly with distance (the smoothness
            prior of ACE, Witt et al. 2023, J. Chem. Phys. 159, 164101, section II.E).
    """

    frequencies: Tensor
    amplitudes: Tensor

    def __init__(self, cutoff: float = 5.0, size: int = 8, decay: float = 0.0):
        super().__init__()
        if not 0 < cutoff < math.inf:
            raise ValueError(f"cutoff must be positive and finite, got {cutoff}")
        require_counts(size=size)
        require_not_negative(decay=decay)
        self.cutoff = cutoff
        self.size = size
        self.decay = decay
        n = torch.arange(1, size + 1)
        amplitudes = n ** -float(decay)  # a whole number would make whole numbers
        self.register_buffer("frequencies", n * (math.pi / cutoff), persistent=False)
        amplitudes = amplitudes / amplitudes.square().mean().sqrt()
        self.register_buffer("amplitudes", amplitudes, persistent=False)

    def forward(self, r: Tensor) -> Tensor:
        r = r[..., None]
        # The factor brings the functions to unit size, whatever the cutoff.
        scale = envelope(r / self.cutoff) * (math.sqrt(self.cutoff) / r)
        return torch.sin(self.frequencies * r) * (self.amplitudes * scale)


class InverseMultiquadricBasis(RadialBasis):
    """Softened Coulomb potentials 1/sqrt(r² + σ²) of geometrically spaced widths σ.

    For particles that see each other at any distance: every function is finite at contact, and the
    first decays as 1/r (Hardy's multiquadrics, J. Geophys. Res. 76, 1905 (1971)). The others are
    differences of neighbours in width: they span the same space, but each acts at a distance of its
    own, which makes fitting well conditioned. With a finite cutoff the envelope of `BesselBasis` is
    applied.

    Args:
        cutoff: Distance from which the functions are zero; infinite keeps the 1/r tail.
        size: Number of widths.
        narrowest, widest: The smallest and largest σ.
    """

    widths: Tensor

    def __init__(
        self,
        cutoff: float = math.inf,
        size: int = 16,
        narrowest: float = 0.01,
        widest: float = 10.0,
    ):
        super().__init__()
        if not 0 < narrowest < widest:
            raise ValueError(f"need 0 < narrowest < widest, got {narrowest} and {widest}")
        if not cutoff > 0:
            raise ValueError(f"cutoff must be positive, got {cutoff}")
        if size < 1:
            raise ValueError(f"a basis has at least one function, got {size=}")
        self.cutoff = cutoff
        self.size = size
        self.narrowest = narrowest
        self.widest = widest
        widths = torch.logspace(math.log10(narrowest), math.log10(widest), size)
        self.register_buffer("widths", widths, persistent=False)

    def forward(self, r: Tensor) -> Tensor:
        softened = torch.rsqrt(r[..., None].square() + self.widths.square())
        values = torch.cat([softened[..., :1], softened[..., :-1] - softened[..., 1:]], dim=-1)
        if math.isfinite(self.cutoff):
            values = values * envelope(r / self.cutoff)[..., None]
        return values

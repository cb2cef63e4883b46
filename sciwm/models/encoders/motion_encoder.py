"""Perception of motion: positions and velocities become equivariant features on every particle.

As `encoder.Encoder`, with velocities beside species: each particle starts from its own as a vector
feature. So receivers have tensors from the start: messages carry the features of both ends of a bond as
they are seen along it, and what a particle is itself is coupled with what arrives.
"""

import torch
from torch import Tensor, nn

from sciwm.core.state import MAX_NUMBER
from sciwm.models.encoders.radial import BesselBasis, RadialBasis
from sciwm.models.encoders.sizes import require_sizes
from sciwm.models.encoders.spherical import (
    DegreeLinear,
    SelfProduct,
    SphericalHarmonics,
    degree_of_component,
    degree_slices,
)
from sciwm.models.geometry import Geometry


class MotionEncoder(nn.Module):
    """Message passing on spherical tensors that begin with velocities.

    Args:
        cutoff: How far a particle sees in one layer.
        channels: Features per degree and component.
        lmax: Highest degree of features and messages.
        layers: Rounds of message passing.
        basis_size: Radial functions.
        waves: Pairs of sine and cosine of the stride that features are conditioned on.
    """

    neighbour_count: Tensor

    def __init__(
        self,
        cutoff: float = 6.0,
        channels: int = 48,
        lmax: int = 2,
        layers: int = 2,
        basis_size: int = 8,
        waves: int = 8,
    ):
        super().__init__()
        require_sizes(
            cutoff, lmax=lmax, layers=layers, channels=channels, basis_size=basis_size, waves=waves
        )
        self.cutoff = cutoff
        self.channels = channels
        self.lmax = lmax
        self.layers = layers
        self.basis_size = basis_size
        self.waves = waves
        self.basis: RadialBasis = BesselBasis(cutoff, basis_size)
        self.harmonics = SphericalHarmonics(lmax)
        self.species = nn.Embedding(MAX_NUMBER + 1, channels)
        self.momentum = nn.Embedding(MAX_NUMBER + 1, channels)
        self.charge = nn.Parameter(torch.randn(2, channels))
        self.duration = nn.Linear(2 * waves, 2 * channels)
        self.interactions = nn.ModuleList(
            MotionInteraction(lmax, channels, basis_size) for _ in range(layers)
        )
        self.register_buffer("neighbour_count", torch.tensor(10.0))

    def forward(self, geometry: Geometry, velocities: Tensor, duration: Tensor) -> Tensor:
        """(A, M, C) features of all degrees.

        Args:
            velocities: (A, 3) in units of usual ones.
            duration: (A,) share of the longest stride.
        """
        harmonics = self.harmonics(geometry.direction)
        basis = self.basis(geometry.distance)
        norm = self.neighbour_count.rsqrt()
        angles = torch.pi * duration[:, None] * self._frequencies(duration)
        shift, scale = self.duration(torch.cat([angles.sin(), angles.cos()], dim=1)).chunk(2, dim=1)
        carried = torch.stack(
            [geometry.charges, geometry.total_charge[geometry.batch] / 10.0], dim=-1
        )
        scalars = self.species(geometry.numbers) + carried @ self.charge + shift
        moving = velocities[:, :, None] * (self.momentum(geometry.numbers) * (1 + scale))[:, None]
        higher = scalars.new_zeros(scalars.shape[0], (self.lmax + 1) ** 2 - 4, self.channels)
        features = torch.cat([scalars[:, None], moving, higher], dim=1)
        for interaction in self.interactions:
            features = interaction(features, geometry, harmonics, basis, norm)
        return features

    def _frequencies(self, like: Tensor) -> Tensor:
        return torch.arange(1, self.waves + 1, dtype=like.dtype, device=like.device)


class MotionInteraction(nn.Module):
    """One round: project both ends of a bond, weigh by distance, gather, couple with oneself, update.

    Args:
        lmax: Highest degree.
        channels: Features per component.
        basis_size: Radial functions.
    """

    degrees: Tensor
    sums: Tensor

    def __init__(self, lmax: int, channels: int, basis_size: int):
        super().__init__()
        self.lmax = lmax
        self.channels = channels
        degreed = lmax + 1
        self.theirs = DegreeLinear(lmax, channels, channels)
        self.ours = DegreeLinear(lmax, channels, channels)
        self.radial = nn.Parameter(
            torch.randn(basis_size, 2 * degreed * channels) / (2 * basis_size * degreed) ** 0.5
        )
        self.own = DegreeLinear(lmax, channels, channels)
        self.gathered = DegreeLinear(lmax, channels, channels)
        self.product = SelfProduct(lmax, channels, channels)
        degrees = degree_of_component(lmax)
        sums = torch.nn.functional.one_hot(degrees).T / (2 * torch.arange(degreed) + 1)[:, None]
        self.register_buffer("degrees", degrees, persistent=False)
        self.register_buffer("sums", sums.to(torch.get_default_dtype()), persistent=False)
        last = nn.Linear(channels, degreed * channels)
        self.update = nn.Sequential(nn.Linear((lmax + 3) * channels, channels), nn.SiLU(), last)
        with torch.no_grad():  # deep towers of rounds begin near the identity
            last.weight.mul_(0.3)

    def forward(
        self, features: Tensor, geometry: Geometry, harmonics: Tensor, basis: Tensor, norm: Tensor
    ) -> Tensor:
        """(A, M, C) features to the next."""
        n_atoms, width = geometry.sender.shape
        # Seen from the sender, a bond points the other way.
        sent = self._along(self.theirs(features), harmonics).flatten(0, 1)
        seen = torch.cat(
            [
                self._along(self.ours(features), harmonics),
                sent[geometry.reverse].view(n_atoms, width, -1),
            ],
            dim=-1,
        )
        message = (seen * (basis @ self.radial)).unflatten(-1, (-1, self.channels)).sum(-2)
        arrived = torch.bmm(harmonics.transpose(1, 2), message) * norm + self.own(features)
        # Velocities have no bound, and products of products of them would grow without one.
        arrived = arrived * (1.0 + arrived.square().mean(dim=(1, 2), keepdim=True)).rsqrt()
        mixed = self.gathered(arrived)
        coupled = self.product(arrived) + mixed
        contracted = self.sums @ (coupled * mixed)
        invariants = torch.cat([features[:, 0], coupled[:, 0], contracted.flatten(1)], dim=-1)
        update = self.update(invariants).unflatten(-1, (-1, self.channels))
        scalars = features[:, :1] + update[:, :1]
        tensors = features[:, 1:] + (coupled * update[:, self.degrees])[:, 1:]
        return torch.cat([scalars, tensors], dim=1)

    def _along(self, features: Tensor, harmonics: Tensor) -> Tensor:
        """(A, K, (L+1)·C) features seen along every bond of their particle."""
        parts = [
            torch.bmm(harmonics[..., part], features[:, part]) for part in degree_slices(self.lmax)
        ]
        return torch.cat(parts, dim=-1)

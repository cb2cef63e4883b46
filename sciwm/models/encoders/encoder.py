"""Perception: a system of particles becomes equivariant features on every particle.

Each layer does two things. *Messages* travel along bonds: the sender's feature is projected onto the
bond, which leaves invariants, those are weighed by learned functions of distance, and spherical
harmonics of the bond carry them to the receiver. This is the m = 0 part of a convolution in the bond
frame (eSCN, Passaro & Zitnick 2023, arXiv:2302.03655), which needs no rotation matrices and, in the
padded neighbour table, nothing but small matrix products. *Products* at the particle then couple what
arrived with itself, so that one layer sees angles and dihedrals (ACE, MACE: `spherical.SelfProduct`).

The encoder alone owns the cutoff. It maps geometry to features and never sees energies.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

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


class Encoder(nn.Module):
    """Message passing on spherical tensors.

    Args:
        cutoff: How far a particle sees in one layer.
        channels: Features per degree and component.
        lmax: Highest degree of features and messages.
        layers: Rounds of message passing; the receptive field is layers × cutoff.
        basis_size: Radial functions.
        basis_decay: How much smaller the faster varying of them are (see `BesselBasis`).
    """

    neighbour_count: Tensor

    def __init__(
        self,
        cutoff: float = 5.0,
        channels: int = 64,
        lmax: int = 2,
        layers: int = 2,
        basis_size: int = 8,
        basis_decay: float = 0.0,
    ):
        super().__init__()
        require_sizes(cutoff, lmax=lmax, layers=layers, channels=channels, basis_size=basis_size)
        self.cutoff = cutoff
        self.channels = channels
        self.lmax = lmax
        self.layers = layers
        self.basis_size = basis_size
        self.basis_decay = basis_decay
        self.basis: RadialBasis = BesselBasis(cutoff, basis_size, basis_decay)
        self.harmonics = SphericalHarmonics(lmax)
        self.species = nn.Embedding(MAX_NUMBER + 1, channels)
        # Charges enter linearly: a neutral atom of a neutral system starts from its species alone.
        self.charge = nn.Parameter(torch.randn(2, channels))
        self.interactions = nn.ModuleList(
            Interaction(lmax, channels, basis_size, first=i == 0, last=i == layers - 1)
            for i in range(layers)
        )
        self.register_buffer("neighbour_count", torch.tensor(10.0))

    def forward(self, geometry: Geometry, presence: Tensor | None = None) -> list[Tensor]:
        """(A, C) invariant features after each layer.

        Args:
            presence: (A,) how much of each particle its neighbours see; all of it where absent.
        """
        return [features[:, 0] for features, _ in self._rounds(geometry, presence)]

    def tensors(self, geometry: Geometry, presence: Tensor | None = None) -> list[Tensor]:
        """(A, M, C) features of all degrees after each layer; the first components are `forward`'s.

        The last layer updates invariants only: its other components are what arrived and was
        coupled there, ungated.
        """
        *earlier, (last, coupled) = self._rounds(geometry, presence)
        return [*(features for features, _ in earlier), torch.cat([last, coupled[:, 1:]], dim=1)]

    def alone(self, geometry: Geometry) -> list[Tensor]:
        """(A, C) what `forward` would give if no particle had neighbours."""
        scalars = self._species(geometry)
        outputs = []
        for interaction in self.interactions:
            assert isinstance(interaction, Interaction)
            scalars = interaction.alone(scalars)
            outputs.append(scalars)
        return outputs

    def _species(self, geometry: Geometry) -> Tensor:
        """(A, C) what particles are before they see one another."""
        carried = torch.stack(
            [geometry.charges, geometry.total_charge[geometry.batch] / 10.0], dim=-1
        )
        return self.species(geometry.numbers) + carried @ self.charge

    def _rounds(self, geometry: Geometry, presence: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """Of each layer, (A, 1 or M, C) features and (A, M, C) what was coupled on the way."""
        harmonics = self.harmonics(geometry.direction)
        basis = self.basis(geometry.distance)
        if presence is not None:
            basis = basis * presence[geometry.sender][..., None]
        norm = self.neighbour_count.rsqrt()
        features = self._species(geometry)[:, None]
        outputs = []
        for interaction in self.interactions:
            features, coupled = interaction(features, geometry, harmonics, basis, norm)
            outputs.append((features, coupled))
        return outputs


class Interaction(nn.Module):
    """One round: project, weigh by distance, gather, couple, update.

    Args:
        lmax: Highest degree.
        channels: Features per component.
        basis_size: Radial functions.
        first: Features that come in are invariants only.
        last: Features that go out are invariants only.
    """

    degrees: Tensor
    sums: Tensor

    def __init__(self, lmax: int, channels: int, basis_size: int, first: bool, last: bool):
        super().__init__()
        self.lmax = lmax
        self.channels = channels
        self.first = first
        self.last = last
        sent = 1 if first else lmax + 1
        self.into = DegreeLinear(sent - 1, channels, channels)
        self.radial = nn.Parameter(
            torch.randn(basis_size, sent * channels) / (basis_size * sent) ** 0.5
        )
        self.gathered = DegreeLinear(lmax, channels, channels)
        self.product = SelfProduct(lmax, channels, channels)
        degrees = degree_of_component(lmax)
        sums = torch.nn.functional.one_hot(degrees).T / (2 * torch.arange(lmax + 1) + 1)[:, None]
        self.register_buffer("degrees", degrees, persistent=False)
        self.register_buffer("sums", sums.to(torch.get_default_dtype()), persistent=False)
        self.update = nn.Sequential(
            nn.Linear((lmax + 3) * channels, channels),
            nn.SiLU(),
            nn.Linear(channels, (1 if last else lmax + 1) * channels),
        )

    def forward(
        self, features: Tensor, geometry: Geometry, harmonics: Tensor, basis: Tensor, norm: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(A, 1 or M, C) features to the next, (A, M, C) or in the last round (A, 1, C).

        Beside them come the couplings (A, M, C) that they were updated from.
        """
        n_atoms, width = geometry.sender.shape
        sent = self.into(features)
        seen = [sent[:, 0][geometry.sender]]
        if not self.first:
            # A sender's feature seen along the bond is its projection on the reversed edge.
            along = [
                torch.bmm(harmonics[..., part], sent[:, part])
                for part in degree_slices(self.lmax)[1:]
            ]
            flat = torch.cat(along, dim=-1).flatten(0, 1)
            seen.append(flat[geometry.reverse].view(n_atoms, width, -1))
        message = torch.cat(seen, dim=-1) * (basis @ self.radial)
        message = message.unflatten(-1, (-1, self.channels)).sum(-2)
        arrived = torch.bmm(harmonics.transpose(1, 2), message) * norm

        mixed = self.gathered(arrived)
        coupled = self.product(arrived) + mixed
        # <coupled, mixed> of every degree, in one product: (A, L+1, C).
        contracted = self.sums @ (coupled * mixed)
        invariants = torch.cat([features[:, 0], coupled[:, 0], contracted.flatten(1)], dim=-1)
        update = self.update(invariants)
        scalars = features[:, :1] + update[:, None, : self.channels]
        if self.last:
            return scalars, coupled
        gates = update.unflatten(-1, (-1, self.channels))[:, self.degrees]
        tensors = (coupled * gates)[:, 1:]
        if not self.first:
            tensors = tensors + features[:, 1:]
        return torch.cat([scalars, tensors], dim=1), coupled

    def alone(self, scalars: Tensor) -> Tensor:
        """(A, C) invariants to the next round of particles to which nothing arrives."""
        first, activation, second = self.update
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        channels = self.channels
        # All other invariants are zero, and no tensors come of them.
        hidden = activation(linear(scalars, first.weight[:, :channels], first.bias))
        return scalars + linear(hidden, second.weight[:channels], second.bias[:channels])

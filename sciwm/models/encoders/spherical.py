"""Spherical tensors: harmonics of directions, and products of features at one particle.

Features are (A, M, C): A particles, C channels, M = (L+1)² components, degree after degree, in
e3nn's real basis, component-normalised, so that a degree-l feature has parity (-1)^l and a rotation
acts on the components by e3nn's Wigner matrices. All coupling coefficients come from e3nn.
"""

import torch
from e3nn import o3
from torch import Tensor, nn


def degree_slices(lmax: int) -> list[slice]:
    """Where each degree's 2l+1 components lie among the (lmax+1)²."""
    return [slice(l * l, (l + 1) * (l + 1)) for l in range(lmax + 1)]


class SphericalHarmonics(nn.Module):
    """Y_0 ... Y_lmax of unit vectors, with |Y_l|² = 2l+1.

    Degree l+1 is the stretched coupling of degree l with the vector itself, Y_{l+1} ∝ [Y_l ⊗ Y_1]:
    a handful of plain products that differentiate twice and compile, where a general-purpose
    routine would not.

    Args:
        lmax: Highest degree.
    """

    def __init__(self, lmax: int):
        super().__init__()
        self.lmax = lmax
        direction = torch.tensor([[0.3, -0.5, 0.81]], dtype=torch.float64)
        direction = direction / direction.norm()
        value = o3.spherical_harmonics(1, direction, True, "component")
        for l in range(1, lmax):
            coupling = o3.wigner_3j(l, 1, l + 1, dtype=torch.float64)
            y1 = o3.spherical_harmonics(1, direction, True, "component")
            raw = torch.einsum("ni,nj,ijk->nk", value, y1, coupling)
            value = o3.spherical_harmonics(l + 1, direction, True, "component")
            coupling = coupling * (value / raw).mean()
            matrix = coupling.reshape(-1, 2 * l + 3).to(torch.get_default_dtype())
            self.register_buffer(f"coupling{l}", matrix, persistent=False)

    def forward(self, unit: Tensor) -> Tensor:
        """(..., 3) unit vectors, x y z, to (..., M)."""
        first = 3**0.5 * unit
        values = [torch.ones_like(unit[..., :1]), first]
        for l in range(1, self.lmax):
            outer = values[-1][..., :, None] * first[..., None, :]
            values.append(outer.flatten(-2) @ getattr(self, f"coupling{l}"))
        return torch.cat(values[: self.lmax + 1], dim=-1)


def degree_of_component(lmax: int) -> Tensor:
    """(M,) the degree each component belongs to."""
    degrees = torch.arange(lmax + 1)
    return degrees.repeat_interleave(2 * degrees + 1)


class DegreeLinear(nn.Module):
    """Mixes channels, with weights of its own for every degree; the only equivariant linear map.

    Args:
        lmax: Highest degree.
        channels_in, channels_out: Channels per component.
    """

    degrees: Tensor

    def __init__(self, lmax: int, channels_in: int, channels_out: int):
        super().__init__()
        self.lmax = lmax
        self.channels_in = channels_in
        self.channels_out = channels_out
        weight = torch.randn(lmax + 1, channels_in, channels_out) / channels_in**0.5
        self.weight = nn.Parameter(weight)
        self.register_buffer("degrees", degree_of_component(lmax), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(A, M, channels_in) to (A, M, channels_out)."""
        # One batched product over components: no slicing, so no scattered gradients.
        mixed = torch.bmm(features.transpose(0, 1), self.weight[self.degrees])
        return mixed.transpose(0, 1)


class SelfProduct(nn.Module):
    """All couplings of a feature with itself, [A ⊗ A]_l3, channel by channel, then mixed.

    This raises the body order at the particles, where it is cheap, instead of at the edges
    (the ACE construction: Drautz 2019, Phys. Rev. B 99, 014104, eq. 30; MACE, arXiv:2206.07697,
    eq. 10). Only paths of natural parity (l1+l2+l3 even) occur, so reflections are respected.

    Args:
        lmax: Highest degree in and out.
        channels: Channels of the input.
        channels_out: Channels after mixing.
    """

    left: Tensor
    right: Tensor
    coupling: Tensor

    def __init__(self, lmax: int, channels: int, channels_out: int):
        super().__init__()
        self.lmax = lmax
        self.channels = channels
        self.channels_out = channels_out
        parts = degree_slices(lmax)
        rows: list[Tensor] = []
        self.paths = [0] * (lmax + 1)
        for l3 in range(lmax + 1):
            for l1 in range(lmax + 1):
                for l2 in range(l1, lmax + 1):
                    if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0:
                        block = torch.zeros(2 * l3 + 1, (lmax + 1) ** 2, (lmax + 1) ** 2)
                        coupling = o3.wigner_3j(l1, l2, l3).permute(2, 0, 1)
                        block[:, parts[l1], parts[l2]] = coupling * (2 * l3 + 1) ** 0.5
                        rows.append(block)
                        self.paths[l3] += 1
        table = torch.cat(rows)
        table = table + table.transpose(1, 2)  # the product is symmetric: each pair once
        left, right = torch.triu_indices(*table.shape[1:])
        used = (table[:, left, right] != 0).any(dim=0)
        left, right = left[used], right[used]
        values = table[:, left, right] * torch.where(left == right, 0.5, 1.0)
        # Selecting components by a matrix product keeps the gradient a matrix product too.
        size = (lmax + 1) ** 2
        self.register_buffer("left", torch.eye(size)[left], persistent=False)
        self.register_buffer("right", torch.eye(size)[right], persistent=False)
        self.register_buffer("coupling", values, persistent=False)
        self.mix = nn.ParameterList(
            torch.randn(n * channels, channels_out) / (n * channels) ** 0.5 for n in self.paths
        )

    def forward(self, features: Tensor) -> Tensor:
        """(A, M, channels) to (A, M, channels_out)."""
        outer = (self.left @ features) * (self.right @ features)
        products = self.coupling @ outer  # (A, rows, C)
        parts, start = [], 0
        for l, (n, weight) in enumerate(zip(self.paths, self.mix, strict=True)):
            m = 2 * l + 1
            block = products[:, start : start + n * m].unflatten(1, (n, m))
            parts.append(block.transpose(1, 2).flatten(2) @ weight)
            start += n * m
        return torch.cat(parts, dim=1)

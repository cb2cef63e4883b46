"""The generating map: long strides that keep what Newton's motion keeps.

    x' = x + h (v̄ + ∂V/∂p̄),   p' = p - h ∂V/∂x̄,   where x̄ = (x + x')/2 and v̄ = (v + v')/2.

Any scalar V of the midpoint makes such a stride symplectic (Poincaré's generating function: Hairer, Lubich &
Wanner, Geometric Numerical Integration, section VI.5, equation 5.13; learned by FlashMD, arXiv:2505.19350,
as a network that is neither equivariant nor even). Here V is even in the velocities and in the stride, sees
only differences of positions and velocities, and does not change when they are turned together. So a stride
is reversible, preserves volume, and keeps momentum, the straight motion of the centre of mass and, without a
box, the angular momentum; all as exactly as the equations are solved. Energy errs by a bounded amount, as
that of velocity Verlet does.

Strides end where a fast vibration turns: at half its period V has a pole, so that molecules with hydrogen are
out of reach beyond 4 fs; and guesses of dense fluids come nearer than anything in training. It is for soft
matter.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import MAX_NUMBER, State
from sciwm.models.dynamics.stride_map import Lesson, MotionScales, Path, StrideMap
from sciwm.models.encoders.radial import BesselBasis, RadialBasis
from sciwm.models.encoders.sizes import require_sizes
from sciwm.models.geometry import Geometry
from sciwm.models.statistics import Statistics

KINDS = 7
"""Messages: scalars of a pair by rest, radial and whole relative velocity; a vector and a tensor of where it
is; vectors of its velocity, whole and along the bond."""

ORDERS = 3
"""Powers of the squared stride: 0, 1, 2; of V, and as many of the first guess."""


class GeneratingMap(StrideMap):
    """Strides from a scalar of the midpoint, with many-body terms of one round of messages.

    Charges of particles are not looked at: those of one type are taken to have one charge.

    Args:
        cutoff: Beyond which particles do not see each other.
        channels: Features of each kind.
        basis_size: Radial functions.
        unit_system: "molecular" (Å, eV, fs, u) or "reduced".
    """

    precise = True

    thermal: Tensor
    neighbour_count: Tensor

    def __init__(
        self,
        cutoff: float = 6.0,
        channels: int = 24,
        basis_size: int = 8,
        unit_system: str = "molecular",
    ):
        super().__init__(cutoff, unit_system)
        require_sizes(cutoff, channels=channels, basis_size=basis_size)
        self.channels = channels
        self.basis_size = basis_size
        self.basis: RadialBasis = BesselBasis(cutoff, basis_size)
        shape = 2 * ORDERS, basis_size, KINDS * channels
        self.radial = nn.Parameter(torch.randn(shape) / (ORDERS * basis_size) ** 0.5)
        self.sender = nn.Embedding(MAX_NUMBER + 1, channels)
        self.receiver = nn.Embedding(MAX_NUMBER + 1, 2 * channels)
        self.mixing = nn.Parameter(torch.randn(3, channels, channels) / channels**0.5)
        self.pairs = nn.Linear(channels, 1, bias=False)
        self.first = nn.Linear(7 * channels, 2 * channels)
        self.last = nn.Linear(2 * channels, 1, bias=False)
        self.register_buffer("thermal", torch.ones(()))
        self.register_buffer("neighbour_count", torch.tensor(10.0))

    def adapt(self, statistics: Statistics) -> None:
        self.domain.adapt(statistics)
        self.neighbour_count.fill_(statistics.neighbour_count)

    def measure(self, scales: MotionScales) -> None:
        super().measure(scales)
        self.thermal.fill_(scales.thermal)

    def lesson(self, start: Path, end: Path, stride: Tensor, second: bool) -> Lesson:
        """The middle of the stride, and where straight motion would have its middle: the same changes told
        from there are what the equations begin to be solved from. That is asked by strides below zero."""
        if second:
            straight = start[0] + 0.5 * stride[:, None] * start[1], start[1]
            found = Lesson.of(start, end, straight, stride)
            return replace(found, stride=-stride)
        middle = 0.5 * (start[0] + end[0]), 0.5 * (start[1] + end[1])
        return Lesson.of(start, end, middle, stride)

    def changes(self, state: State, table: NeighbourTable, stride: Tensor) -> tuple[Tensor, Tensor]:
        learning = torch.is_grad_enabled() and self.radial.requires_grad
        with torch.no_grad():
            vectors = table.vectors(state.positions, state.cell, state.batch)
            relative = state.velocities[table.sender] - state.velocities[:, None]
            relative = torch.where(table.real[..., None], relative, 0.0)
        vectors, relative = (one.detach().requires_grad_(True) for one in (vectors, relative))
        with torch.enable_grad():
            geometry = Geometry.of(state, table, vectors, self.beyond)
            energy = self.thermal * self._generator(geometry, relative, stride[state.batch])
            by_place, by_velocity = torch.autograd.grad(
                energy.sum(), (vectors, relative), create_graph=learning
            )
        response = (self.units.acceleration / state.masses.to(by_place))[:, None]
        gain = stride.abs()[state.batch][:, None] * response * table.forces(by_place)
        return -response * table.forces(by_velocity), gain

    def _generator(self, geometry: Geometry, relative: Tensor, stride: Tensor) -> Tensor:
        """(A,) shares of V, in units of the thermal energy.

        Args:
            relative: (A, K, 3) velocities of neighbours less one's own.
            stride: (A,), below zero for the first guess.
        """
        near, theirs = geometry.direction, geometry.numbers[geometry.sender]
        speeds = self.speeds[geometry.numbers][:, None], self.speeds[theirs]
        usual = (speeds[0].square() + speeds[1].square()).sqrt()
        moving = relative / usual[..., None]
        along = (moving * near).sum(-1, keepdim=True)
        # Even in the stride, as the generator of an exact motion is.
        squared = (stride / self.strides[1]).square()
        powers = torch.stack([torch.ones_like(squared), squared, squared.square()], dim=1)
        first = (stride < 0).to(powers)[:, None]
        powers = torch.cat([(1.0 - first) * powers, first * powers], dim=1)
        weights = (powers @ self.radial.flatten(1)).unflatten(1, self.radial.shape[1:])
        seen = torch.bmm(self.basis(geometry.distance), weights).unflatten(2, (KINDS, -1))
        seen = seen * (self.sender(theirs) * self.neighbour_count.rsqrt())[:, :, None]
        rest, radial, whole, place, tensor, velocity, bond = seen.unbind(2)
        size = moving.square().sum(-1, keepdim=True)
        pairs = (rest + along.square() * radial + size * whole).sum(1)
        outer = (near[..., :, None] * near[..., None, :]).flatten(2)
        third = torch.eye(3).to(outer).flatten() / 3.0
        where = torch.bmm(near.transpose(1, 2), place) @ self.mixing[0]
        shape = torch.bmm((outer - third).transpose(1, 2), tensor) @ self.mixing[1]
        motion = torch.bmm(moving.transpose(1, 2), velocity)
        motion = (motion + torch.bmm((along * near).transpose(1, 2), bond)) @ self.mixing[2]
        matrix = shape.unflatten(1, (3, 3))
        many = [
            where.square().sum(1),
            shape.square().sum(1),
            motion.square().sum(1),
            (where[:, :, None] * matrix * where[:, None]).sum((1, 2)),
            (motion[:, :, None] * matrix * motion[:, None]).sum((1, 2)),
            (where * motion).sum(1).square(),
        ]
        hidden = self.first(torch.cat([pairs, *many], dim=1)) + self.receiver(geometry.numbers)
        return (self.pairs(pairs) + self.last(nn.functional.silu(hidden)))[:, 0]

    def answers(self, state: State, table: NeighbourTable) -> list[Tensor]:
        state, stride = self.usual(state)
        return [one.detach() for one in self.changes(state, table, stride)]

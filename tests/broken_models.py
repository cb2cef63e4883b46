"""Models that are each broken in one way: proof that checks and tests can fail."""

import torch

from sciwm.core.neighbours import NeighbourTable
from sciwm.models import PairPotential


class Lopsided(PairPotential):
    """Treats x unlike y."""

    def energy(self, geometry):
        return super().energy(geometry) * (1 + 0.01 * geometry.direction[..., 0].square().mean(1))


class Chiral(PairPotential):
    """Prefers one of two mirror images, whichever way it is turned."""

    def energy(self, geometry):
        weights = self.basis(geometry.distance) * geometry.real[..., None]
        arms = torch.einsum("akn,akx->anx", weights[..., :3], geometry.direction)
        return super().energy(geometry) + torch.linalg.det(arms)


class Anchored(PairPotential):
    """Knows where the origin is."""

    def forward(self, state, table, stress=False, differentiable=False):
        energy, forces, tension, error = super().forward(state, table, stress, differentiable)
        return energy, forces - 0.01 * state.positions, tension, error


class Ordered(PairPotential):
    """The first atom of a system counts more."""

    def energy(self, geometry):
        order = torch.arange(len(geometry.batch)) - torch.searchsorted(
            geometry.batch, geometry.batch
        )
        return super().energy(geometry) * (1 + 0.01 * order)


class Boxless(PairPotential):
    """Forgets which periodic image a neighbour is."""

    def forward(self, state, table, stress=False, differentiable=False):
        blind = NeighbourTable(table.sender, table.real, None, table.reverse)
        near = torch.where(
            table.sender == torch.arange(state.num_nodes)[:, None], False, table.real
        )
        blind = NeighbourTable(table.sender, near, None, table.reverse)
        return super().forward(state, blind, stress, differentiable)


class Sociable(PairPotential):
    """Normalises by the mean over the batch."""

    def energy(self, geometry):
        energy = super().energy(geometry)
        return energy - 0.01 * energy.mean()


class Uphill(PairPotential):
    """Forces that are not quite minus the gradient."""

    def forward(self, state, table, stress=False, differentiable=False):
        energy, forces, tension, error = super().forward(state, table, stress, differentiable)
        return energy, 1.05 * forces, tension, error


class Strained(PairPotential):
    """Stress of the opposite sign."""

    def forward(self, state, table, stress=False, differentiable=False):
        energy, forces, tension, error = super().forward(state, table, stress, differentiable)
        return energy, forces, None if tension is None else -tension, error


class Abrupt(PairPotential):
    """Cut off without an envelope."""

    def energy(self, geometry):
        tail = torch.where(geometry.real, torch.cos(geometry.distance), 0.0).sum(dim=1)
        return super().energy(geometry) + tail


class Bent(PairPotential):
    """Cut off by a cosine, whose second derivative jumps."""

    def energy(self, geometry):
        tail = 1 + torch.cos(torch.pi * geometry.distance / self.cutoff)
        return super().energy(geometry) + torch.where(geometry.real, tail, 0.0).sum(dim=1)


class Windy(PairPotential):
    """Pushes everything along x: momentum grows."""

    def forward(self, state, table, stress=False, differentiable=False):
        energy, forces, tension, error = super().forward(state, table, stress, differentiable)
        return energy, forces + 0.001 * torch.tensor([1.0, 0.0, 0.0]).to(forces), tension, error


class Swirling(PairPotential):
    """Pairs push each other sideways: momentum stays, angular momentum and energy grow."""

    def forward(self, state, table, stress=False, differentiable=False):
        energy, forces, tension, error = super().forward(state, table, stress, differentiable)
        arms = table.vectors(state.positions, state.cell, state.batch).detach()
        side = torch.linalg.cross(arms, torch.tensor([0.0, 0.0, 1.0]).to(arms).expand_as(arms))
        return energy, forces + 0.1 * (side * table.real[..., None]).sum(1), tension, error


class Rising(PairPotential):
    """Pushes out of the plane."""

    def forward(self, state, table, stress=False, differentiable=False):
        energy, forces, tension, error = super().forward(state, table, stress, differentiable)
        kinds = torch.where(state.numbers == 0, 0.01, -0.01).to(forces)
        return energy, torch.cat([forces[:, :2], kinds[:, None]], dim=1), tension, error


class Feverish(PairPotential):
    """Noise heats one species."""

    def forward(self, state, table, stress=False, differentiable=False):
        energy, forces, tension, error = super().forward(state, table, stress, differentiable)
        noise = torch.randn_like(forces) * (state.numbers == 0)[:, None]
        return energy, forces + 6.0 * noise, tension, error


class Collapsing(PairPotential):
    """Attraction without a core."""

    def energy(self, geometry):
        pull = torch.where(geometry.real, geometry.distance**-3, 0.0)
        return super().energy(geometry) * 0 - pull.sum(dim=1)

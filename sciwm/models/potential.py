"""Dynamics by energy: whatever gives an energy gives forces and stress by differentiation.

Forces are minus the exact gradient of the energy and stress its exact derivative by strain
(Knuth et al. 2015, Comput. Phys. Commun. 190, 33, eq. 12), so every model here is conservative;
momentum, and without a box angular momentum, are conserved because only distances and directions
between particles enter the energy.
"""

import abc

import torch
from torch import Tensor, nn

from sciwm.core.frame import Array
from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import State
from sciwm.core.units import UnitSystem, unit_system
from sciwm.models.domain import Domain
from sciwm.models.geometry import Geometry
from sciwm.models.statistics import Statistics


class Potential(nn.Module, abc.ABC):
    """A learned energy of a system of particles.

    Attributes:
        cutoff: Distance beyond which particles are not neighbours.
        unit_system: Name of the units of everything it takes and gives.
        domain: What the training data covered.
    """

    cutoff: float
    unit_system: str
    domain: Domain

    @property
    def units(self) -> UnitSystem:
        return unit_system(self.unit_system)

    @abc.abstractmethod
    def energy(self, geometry: Geometry) -> Tensor:
        """(A,) energy of each particle in its surroundings."""

    @abc.abstractmethod
    def adapt(self, statistics: Statistics) -> None:
        """Sets what is computed rather than learned: scales, shifts, reference energies, domain."""

    def reference_table(self) -> Array | None:
        """(119,) given energies of isolated particles; None where there are none."""
        return None

    @abc.abstractmethod
    def offsets(self, numbers: Tensor) -> Tensor:
        """(A,) constant part of each particle's energy, in float64.

        Kept apart because total energies are thousands of times larger than what is learned:
        added in float32 they would drown it.
        """

    def forward(
        self,
        state: State,
        table: NeighbourTable,
        stress: bool = False,
        differentiable: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Energy without offsets (S,), forces (A, 3), and stress (S, 3, 3) if asked for.

        Args:
            differentiable: Keep the graph, so that a loss on forces can be differentiated.
        """
        positions, cell = state.positions, state.cell
        if not positions.requires_grad:
            positions = positions.detach().requires_grad_(True)
        moved = positions
        wanted = [positions]
        if stress:
            strain = torch.zeros_like(cell, requires_grad=True)
            symmetric = 0.5 * (strain + strain.transpose(1, 2))
            moved = positions + torch.bmm(positions[:, None], symmetric[state.batch])[:, 0]
            cell = cell + cell @ symmetric
            wanted.append(strain)
        with torch.enable_grad():
            geometry = Geometry.of(state, table, moved, cell, self._beyond())
            energy = geometry.sum_per_system(self.energy(geometry))
            gradients = torch.autograd.grad(
                energy.sum(), wanted, create_graph=differentiable, allow_unused=True
            )
        forces = positions.new_zeros(positions.shape) if gradients[0] is None else -gradients[0]
        tension = None
        if stress:
            volume = torch.linalg.det(state.cell).abs()
            periodic = state.pbc.all(dim=1)
            safe = torch.where(periodic, volume, torch.ones_like(volume))
            strain_gradient = gradients[1]
            if strain_gradient is None:
                strain_gradient = torch.zeros_like(cell)
            tension = strain_gradient / safe[:, None, None]
            tension = torch.where(periodic[:, None, None], tension, torch.nan)
        if not differentiable:
            energy = energy.detach()
        return energy, forces, tension

    def total_offset(self, state: State) -> Tensor:
        """(S,) float64 constant part of the energy of each system."""
        offsets = self.offsets(state.numbers)
        return offsets.new_zeros(state.n_systems).index_add(0, state.batch, offsets)

    def _beyond(self) -> float:
        return self.cutoff if self.cutoff != float("inf") else 1e6

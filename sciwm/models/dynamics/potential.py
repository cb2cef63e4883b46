"""Dynamics by energy: whatever gives an energy gives forces and stress by differentiation.

The energy is differentiated by the vectors between neighbours, once: forces are sums of that
gradient over the neighbours, and stress, the derivative by strain, is its outer product with the
vectors (Knuth et al. 2015, Comput. Phys. Commun. 190, 33, eq. 12). Every model here is conservative;
momentum, and without a box angular momentum, are conserved because only distances and directions
between particles enter the energy.
"""

import abc
import math

import torch
from torch import Tensor

from sciwm.core.frame import Array
from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import State
from sciwm.core.threads import on_threads, threads_for
from sciwm.models.domain import Domain
from sciwm.models.dynamics.passes import (
    CACHED_SLOTS,
    PROBED_SLOTS,
    bytes_per_slot,
    passes,
    slots_that_fit,
)
from sciwm.models.geometry import Geometry
from sciwm.models.model import Model


class Potential(Model, abc.ABC):
    """A learned energy of a system of particles."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes_per_slot: dict[tuple[torch.device, torch.dtype], float] = {}

    @abc.abstractmethod
    def energy(self, geometry: Geometry) -> Tensor:
        """(A,) energy of each particle in its surroundings."""

    def energy_and_error(self, geometry: Geometry) -> tuple[Tensor, Tensor | None]:
        """`energy`, and (A,) the expected error of the force on each particle where it can be told."""
        return self.energy(geometry), None

    @property
    def largest_error(self) -> float:
        """The expected error of a force above which a particle is outside; infinite where none is known."""
        return math.inf

    def answers(self, state: State, table: NeighbourTable) -> list[Tensor]:
        energy, forces, *_ = self(state, table)
        return [energy, forces]

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
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Energy without offsets (S,), forces (A, 3), stress (S, 3, 3) if asked for, and the expected error
        of the force on each particle (A,) where it can be told.

        Args:
            differentiable: Keep the graph, so that a loss on forces can be differentiated.
        """
        if differentiable:
            energy, forces, virial, error = self.differentiated(state, table, differentiable)
        else:
            with on_threads(threads_for(largest_table(state, table), self.threads)):
                energy, forces, virial, error = self._in_passes(state, table)
        return energy, forces, stress_of(virial, state) if stress else None, error

    def differentiated(
        self, state: State, table: NeighbourTable, differentiable: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Energy (S,), forces (A, 3), the derivative of the energy by strain (S, 3, 3), and the expected
        error of the force on each particle (A,) where it can be told."""
        with torch.set_grad_enabled(differentiable):
            vectors = table.vectors(state.positions, state.cell, state.batch)
        if not vectors.requires_grad:
            vectors = vectors.detach().requires_grad_(True)
        with torch.enable_grad():
            geometry = Geometry.of(state, table, vectors, self.beyond)
            particles, error = self.energy_and_error(geometry)
            (gradient,) = torch.autograd.grad(
                particles.sum(), vectors, create_graph=differentiable, allow_unused=True
            )
        if gradient is None:
            gradient = torch.zeros_like(vectors)
        if not differentiable:
            particles, vectors = particles.detach(), vectors.detach()
        energy = particles.new_zeros(state.n_systems).index_add(0, state.batch, particles)
        virial = torch.bmm(vectors.transpose(1, 2), gradient)
        virial = virial.new_zeros(state.n_systems, 3, 3).index_add(0, state.batch, virial)
        return energy, table.forces(gradient), 0.5 * (virial + virial.transpose(1, 2)), error

    def _in_passes(
        self, state: State, table: NeighbourTable
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """`differentiated`, of as many systems at a time as the machine does best."""
        slots = self._slots_of_a_pass(state, table)
        if state.n_systems == 1 or table.sender.numel() <= slots:
            return self.differentiated(state, table)
        parts = [self.differentiated(*part) for part in passes(state, table, slots)]
        energy, forces, virial = (torch.cat([part[k] for part in parts]) for k in range(3))  # type: ignore[misc]
        errors = [part[3] for part in parts if part[3] is not None]
        return energy, forces, virial, torch.cat(errors) if errors else None

    def _slots_of_a_pass(self, state: State, table: NeighbourTable) -> int:
        device = state.positions.device
        if device.type != "cuda":
            return CACHED_SLOTS * torch.get_num_threads()  # each has a cache of its own
        if table.sender.numel() <= PROBED_SLOTS:
            return PROBED_SLOTS
        kind = (device, state.positions.dtype)
        if kind not in self._bytes_per_slot:
            self._bytes_per_slot[kind] = bytes_per_slot(self.differentiated, state, table)
        return slots_that_fit(self._bytes_per_slot[kind], device)

    def total_offset(self, state: State) -> Tensor:
        """(S,) float64 constant part of the energy of each system."""
        offsets = self.offsets(state.numbers)
        return offsets.new_zeros(state.n_systems).index_add(0, state.batch, offsets)


def largest_table(state: State, table: NeighbourTable) -> int:
    """Slots of the largest system, which is what threads can share.

    Many small systems are many small pieces of work, and beside a busy process several threads take sixty
    times as long for them as one.
    """
    if state.n_systems == 1 or state.positions.device.type != "cpu":
        return table.sender.numel()
    return int(state.counts.max()) * table.sender.shape[1]


class DerivedPotential(Potential, abc.ABC):
    """A potential that has another's energies and adds something to them."""

    @property
    @abc.abstractmethod
    def base(self) -> Potential:
        """Whose energies it has."""

    @property
    def domain(self) -> Domain:  # type: ignore[override]
        return self.base.domain

    def energy(self, geometry: Geometry) -> Tensor:
        return self.base.energy(geometry)

    def energy_and_error(self, geometry: Geometry) -> tuple[Tensor, Tensor | None]:
        return self.base.energy_and_error(geometry)

    @property
    def largest_error(self) -> float:
        return self.base.largest_error

    def offsets(self, numbers: Tensor) -> Tensor:
        return self.base.offsets(numbers)

    def reference_table(self) -> Array | None:
        return self.base.reference_table()


def stress_of(virial: Tensor, state: State) -> Tensor:
    """(S, 3, 3) derivative of the energy by strain per volume; NaN where a system has no volume."""
    volume = torch.linalg.det(state.cell).abs()
    periodic = state.pbc.all(dim=1)
    safe = torch.where(periodic, volume, torch.ones_like(volume))
    return torch.where(periodic[:, None, None], virial / safe[:, None, None], torch.nan)

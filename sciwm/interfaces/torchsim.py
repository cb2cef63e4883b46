"""A learned potential for TorchSim: `TorchSimModel(sciwm.load(run))` in its integrators and optimisers."""

from typing import Any

import torch
import torch_sim
from torch import Tensor
from torch_sim.models.interface import ModelInterface

from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.interfaces.world import World


class TorchSimModel(ModelInterface):
    """Energies (eV), forces (eV/Å) and stress (eV/Å³) of a world, for batches of TorchSim's states.

    Those carry no charge: every system is taken as neutral.

    Args:
        world: In molecular units; its program is used where one was built (`World.compile`).
        compute_stress: Give stress too, which every system must then have a volume for.

    Raises:
        ValueError: If the model is in reduced units.
    """

    def __init__(self, world: World, compute_stress: bool = False):
        super().__init__()
        if world.units is not MOLECULAR:
            raise ValueError("TorchSim works in eV and Å; this model is in reduced units")
        self.simulator = world.simulator()
        weight = next(world.model.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        self._compute_stress, self._compute_forces = compute_stress, True
        self._memory_scales_with = "n_atoms_x_density"

    def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Energies (S,), in float64 as their changes are small; forces (A, 3); stress (S, 3, 3) if asked for.

        Raises:
            sciwm.models.domain.UnseenSpeciesError: If the model never saw one of the elements.
        """
        if isinstance(state, dict):
            masses = torch.ones(len(state["positions"]), device=self._device, dtype=self._dtype)
            state = torch_sim.SimState(**{"masses": masses, **state})
        evaluation = self.simulator.evaluate(self._translated(state), stress=self._compute_stress)
        found = {"energy": evaluation.energy, "forces": evaluation.forces}
        if evaluation.stress is not None:
            found["stress"] = evaluation.stress
        return found

    def _translated(self, state: Any) -> State:
        cell = state.row_vector_cell.detach()
        n_systems, n_atoms = len(cell), len(state.positions)
        # One switch for all axes in some versions, one for each in others.
        pbc = torch.as_tensor(state.pbc, device=cell.device).expand(n_systems, 3)
        return State(
            numbers=state.atomic_numbers.long(),
            positions=state.positions.detach(),
            velocities=torch.zeros_like(state.positions),
            masses=state.masses,
            charges=cell.new_zeros(n_atoms),
            cell=cell * pbc[..., None],
            pbc=pbc,
            total_charge=cell.new_zeros(n_systems),
            dimension=torch.full((n_systems,), 3, device=cell.device),
            batch=state.system_idx,
            num_nodes=n_atoms,
        )

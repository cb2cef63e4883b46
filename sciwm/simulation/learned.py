"""A trained model as a simulator: the world that imagination runs in."""

import torch

from sciwm.core.neighbours import NeighbourTable, SkinTable, attach_pairs
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.models.geometry import Geometry
from sciwm.models.potential import Potential
from sciwm.simulation.simulator import Evaluation


class LearnedSimulator:
    """Energies and forces of a learned potential, with a neighbour table that outlives a step.

    Args:
        model: The potential; it is put into evaluation mode.
        skin: Extra neighbour distance; the table is rebuilt when an atom has moved half of it.
    """

    def __init__(self, model: Potential, skin: float = 0.5):
        self.model = model.eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self._skin = skin
        self._neighbours = SkinTable(model.cutoff, skin)
        self._numbers: torch.Tensor | None = None

    @property
    def units(self) -> UnitSystem:
        return self.model.units

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        state = self._in_model_precision(state)
        table = self._table(state)
        energy, forces, tension = self.model(state, table, stress=stress)
        total = energy.double() + self.model.total_offset(state)
        return Evaluation(total, forces, tension)

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        state = self._in_model_precision(state)
        table = self._table(state)
        geometry = Geometry.of(state, table, state.positions, state.cell, self._neighbours.cutoff)
        return self.model.domain.outside(geometry, evaluation.forces)

    def _table(self, state: State) -> NeighbourTable:
        numbers = state.numbers
        if self._numbers is None or not torch.equal(numbers, self._numbers):
            # Other particles than before: check them once, and start a fresh table.
            self.model.domain.require_species(numbers)
            self._numbers = numbers.clone()
            self._neighbours = SkinTable(self.model.cutoff, self._skin)
        return self._neighbours.update(state)

    def _in_model_precision(self, state: State) -> State:
        dtype = next(self.model.parameters()).dtype
        if state.positions.dtype == dtype:
            return state
        cast = state.clone()
        for key, value in state.to_dict().items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                cast[key] = value.to(dtype)
        return cast


def predict(model: Potential, state: State, stress: bool = False) -> Evaluation:
    """One evaluation of states that do not follow one another."""
    attach_pairs(state, model.cutoff)
    table = NeighbourTable.from_pairs(state)
    energy, forces, tension = model(state, table, stress=stress)
    return Evaluation(energy.double() + model.total_offset(state), forces, tension)

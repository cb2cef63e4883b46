"""What long strides by learned maps share."""

import abc
import copy

import torch
from torch import Tensor

from sciwm.core.neighbours import NeighbourTable, SkinTable
from sciwm.core.state import State
from sciwm.core.threads import on_threads, threads_for
from sciwm.core.units import UnitSystem
from sciwm.models.archive import weights_digest
from sciwm.models.dynamics.potential import largest_table
from sciwm.models.programs.stride_program import CompiledStrideMap
from sciwm.simulation.propagators.propagator import Conserved, Propagator, require_stride
from sciwm.simulation.simulator import Evaluation

SKIN = 0.5
"""Extra neighbour distance; the table is rebuilt when an atom has moved half of it."""

READ = ("positions", "velocities", "masses", "charges", "total_charge", "cell")
"""Of a state, the fields that a map reads and that have a precision."""


class MapPropagator(Propagator, abc.ABC):
    """Strides of a map, at no energy of its own: trajectories hold none.

    Args:
        flow: The map, with its program where there is one.
        stride: In the units' time.

    Raises:
        ValueError: If such a stride was never trained.
    """

    conserves: frozenset[Conserved] = frozenset({"momentum", "angular momentum"})
    temperature = None
    always_watched = True

    def __init__(self, flow: CompiledStrideMap, stride: float):
        self.flow = flow
        self.stride = require_stride(stride)
        flow.model.require_stride(stride)
        self._dtype = next(flow.model.parameters()).dtype
        self._neighbours = SkinTable(flow.model.cutoff, SKIN)
        self._known: tuple[Tensor, Tensor] | None = None

    @property
    def units(self) -> UnitSystem:
        return self.flow.model.units

    def start(self, state: State) -> None:
        """Nothing that the first stride needs to know.

        Raises:
            UnseenSpeciesError: If a particle type was not in the training data.
        """
        self.flow.model.domain.require_species(state.numbers, state.batch)

    def outside(self, state: State, evaluation: Evaluation | None) -> dict[int, str]:
        seen = self._in_model_precision(state)
        table = self._neighbours.update(seen)
        # Charges and elements stay as they are, so that after a first look few questions remain.
        who = seen.numbers, seen.batch
        same = self._known is not None and all(map(torch.equal, who, self._known))
        if same and self.flow.model.within(seen, table):
            return {}
        found = self.flow.model.outside(seen, table)
        self._known = who if not found else None
        return found

    def _changes(self, state: State, stride: Tensor) -> tuple[Tensor, Tensor]:
        """(A, 3) w and (A, 3) u that the map tells of a state in its precision (see `stride_map`)."""
        table: NeighbourTable = self._neighbours.update(state)
        with on_threads(threads_for(largest_table(state, table), self.flow.model.threads)):
            return self.flow(state, table, stride)

    def _in_model_precision(self, state: State) -> State:
        cast = copy.copy(state)
        for key in READ:
            cast[key] = state[key].to(self._dtype)
        return cast

    @property
    def origin(self) -> tuple[str, str]:
        return type(self.flow.model).__name__, weights_digest(self.flow.model)

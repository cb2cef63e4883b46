"""Strides of a map as steps of a motion that has energies."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from sciwm.core.state import State
from sciwm.simulation.propagators.integrator import Integrator
from sciwm.simulation.propagators.midpoint import MidpointPropagator
from sciwm.simulation.propagators.propagator import Conserved
from sciwm.simulation.simulator import Evaluation, Simulator


class MappedMotion(Integrator):
    """Strides of a generating map, and what a simulator's energy is where they end.

    They are reversible and preserve volume, so that `GHMC` may accept or refuse them, and averages are those
    of the simulator, whatever the error of the map. A stride that cannot be solved leads nowhere, at an
    energy without bound, so that it is refused: in parts it would not be one that leads back. So is one from
    whose end the equations lead elsewhere than to its start, as they have several solutions.

    Args:
        simulator: Whose energy it is.
        strides: The map's.

    Raises:
        ValueError: If they are in different units.
    """

    conserves: frozenset[Conserved] = frozenset({"energy", "momentum", "angular momentum"})
    temperature = None

    def __init__(self, simulator: Simulator, strides: MidpointPropagator):
        super().__init__(simulator, strides.stride)
        if simulator.units is not strides.units:
            raise ValueError(
                f"the map is in {strides.units.name} units, the energy in {simulator.units.name}"
            )
        self.strides = strides
        self.always_watched = strides.always_watched

    def start(self, state: State) -> Evaluation:
        self.strides.start(state)
        return super().start(state)

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation]:
        moved, solved = self.strides.whole(state)
        solved &= self.strides.leads_back(state, moved)
        after = self.simulator.evaluate(moved)
        endless = torch.full_like(after.energy, torch.inf)
        return moved, replace(after, energy=torch.where(solved, after.energy, endless))

    def outside(self, state: State, evaluation: Evaluation | None) -> dict[int, str]:
        return self.strides.outside(state, evaluation) | super().outside(state, evaluation)

    def select(self, keep: Sequence[int]) -> "MappedMotion":
        return MappedMotion(self.simulator, self.strides.select(keep))

    @property
    def parameters(self) -> dict[str, str | float]:
        return self.strides.parameters | {"map": self.strides.origin[1]}

"""What every learned world shares, whether it has energies or only moves things."""

import abc

from torch import Tensor, nn

from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import State
from sciwm.core.units import UnitSystem, unit_system
from sciwm.models.domain import Domain
from sciwm.models.statistics import Statistics


class Model(nn.Module, abc.ABC):
    """What is trained, saved, loaded, checked, and moves a state.

    Attributes:
        cutoff: Distance beyond which particles are not neighbours.
        unit_system: Name of the units of everything it takes and gives.
        domain: What the training data covered.
        threads: That evaluations take; None for as many as their size pays.
    """

    cutoff: float
    unit_system: str
    domain: Domain
    threads: int | None

    def __init__(self) -> None:
        super().__init__()
        self.threads = None

    @property
    def units(self) -> UnitSystem:
        return unit_system(self.unit_system)

    @abc.abstractmethod
    def adapt(self, statistics: Statistics) -> None:
        """Sets what is computed rather than learned: scales, shifts, reference energies, domain."""

    @abc.abstractmethod
    def answers(self, state: State, table: NeighbourTable) -> list[Tensor]:
        """What it gives for a state, by which a file tells that it was read as it was written."""

    @property
    def beyond(self) -> float:
        """A distance at which nothing is felt, for empty slots of the neighbour table."""
        return self.cutoff if self.cutoff != float("inf") else 1e6

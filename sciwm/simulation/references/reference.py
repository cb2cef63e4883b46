"""What a reference promises: a simulator that has the last word, because others are compared with it."""

import abc
from collections.abc import Sequence

from torch import Tensor

from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.simulator import Evaluation, SimulatorError


class GeometryError(SimulatorError):
    """A structure, charge or spin that the method must not be asked about."""


class ConvergenceError(SimulatorError):
    """The electronic structure did not converge."""


class WorkerError(SimulatorError):
    """The calculation crashed its process twice, or ran past the time limit."""


class Reference(abc.ABC):
    """A program or formula that gives energies, forces, and perhaps properties: a `PropertySimulator`."""

    reads_charges = False
    """Whether charges that particles carry change anything; the electrons of most find their own."""

    @property
    @abc.abstractmethod
    def units(self) -> UnitSystem:
        """See `Simulator`."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """The method and its settings: different where numbers may be."""

    @property
    @abc.abstractmethod
    def offers(self) -> tuple[str, ...]:
        """Names of the `PROPERTIES` that it gives."""

    @abc.abstractmethod
    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        """See `Simulator`."""

    @abc.abstractmethod
    def observe(self, state: State, names: Sequence[str]) -> dict[str, Tensor]:
        """See `PropertySimulator`."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the processes it started and forgets its systems; a later call starts anew."""

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        """Nowhere: a reference is what others are compared with."""
        return {}

    def require(self, names: Sequence[str]) -> None:
        """Raises SimulatorError if it does not offer one of these properties."""
        for name in names:
            if name not in self.offers:
                remedy = (
                    ". There is none without a solvent; give it one"
                    if name == "solvation_energy"
                    else ""
                )
                offered = ", ".join(self.offers) or "nothing besides energies and forces"
                raise SimulatorError(f"{self.fingerprint} offers {offered}, not {name!r}{remedy}")

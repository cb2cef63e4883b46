"""Extended tight binding, real quantum chemistry at milliseconds per small molecule: the usual oracle."""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sciwm.core.bounds import require_positive
from sciwm.core.frame import Frame
from sciwm.core.plausibility import require_plausible
from sciwm.core.state import State
from sciwm.core.units import BOHR, BOLTZMANN, HARTREE, MOLECULAR
from sciwm.simulation.references.electronic_structure import ElectronicStructure, Program, sound
from sciwm.simulation.simulator import require_no_period

HEAVIEST = 86
"""The last element with parameters."""

TBLITE = Program("tblite", "xtb", "sciwm.simulation.references.engines.tight_binding")


class ExtendedTightBinding(ElectronicStructure):
    """A method of the GFN family, computed by tblite in worker processes.

    Spins are told apart by how orbitals are filled, without a potential of their own.

    Args:
        accuracy: tblite's; smaller is tighter.
        electronic_temperature: K, of the orbital occupations; a higher one helps where the
            electronic structure does not converge.
        solvent: A solvent of the ALPB model, such as "water" or "acetonitrile".
        workers: Processes, of one thread each.
        timeout: Seconds that one system may take.
    """

    method: ClassVar[str]
    """As tblite calls it."""

    def __init__(
        self,
        accuracy: float = 1.0,
        electronic_temperature: float = 300.0,
        solvent: str | None = None,
        workers: int = 1,
        timeout: float = 120.0,
    ):
        require_positive(accuracy=accuracy)
        require_plausible("temperature", electronic_temperature, MOLECULAR)
        settings = {
            "accuracy": accuracy,
            "electronic_temperature": electronic_temperature * BOLTZMANN / HARTREE,
            "solvent": solvent,
        }
        super().__init__(TBLITE, self.method, settings, workers, timeout)

    feels_fields = True
    """See `FieldSimulator`."""

    def field_response(self, state: State, field: Tensor) -> tuple[Tensor, Tensor]:
        """See `FieldSimulator`: what two calculations differ by.

        Raises:
            SimulatorError: As `evaluate`; also if a system repeats.
        """
        require_no_period(state)
        frames = [state.frame(s) for s in range(state.n_systems)]
        atomic = (field.double() * (BOHR / HARTREE)).tolist()
        under = sound(self._computed(frames, [self._settings | {"field": one} for one in atomic]))
        pairs = list(zip(under, sound(self.properties(frames)), strict=True))
        energy = torch.tensor(
            [one.energy - other.energy for one, other in pairs], dtype=torch.float64
        )
        forces = np.concatenate([one.forces - other.forces for one, other in pairs])
        return energy.to(state.positions.device), torch.as_tensor(forces).to(state.positions)

    def _limitation(self, frame: Frame) -> str:
        heaviest = frame.numbers.max()
        if heaviest <= HEAVIEST:
            return ""
        return f"{self.method} knows elements 1 to {HEAVIEST}, not atomic number {heaviest}"


class GFN1(ExtendedTightBinding):
    """Grimme, Bannwarth & Shushkov, J. Chem. Theory Comput. 13, 1989 (2017)."""

    method = "GFN1-xTB"


class GFN2(ExtendedTightBinding):
    """Bannwarth, Ehlert & Grimme, J. Chem. Theory Comput. 15, 1652 (2019)."""

    method = "GFN2-xTB"

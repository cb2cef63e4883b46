"""A learned potential as an ASE calculator, for every tool that speaks ASE."""

from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.models.dynamics.potential import Potential
from sciwm.simulation.learned import LearnedSimulator


class SciwmCalculator(Calculator):
    """Energy (eV), forces (eV/Å) and stress (eV/Å³, Voigt) of a learned potential.

    The total charge is read from `atoms.info["charge"]`.

    Args:
        model: A potential in molecular units.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, model: Potential):
        super().__init__()
        if model.units is not MOLECULAR:
            raise ValueError("ASE works in eV and Å; this model is in reduced units")
        self.simulator = LearnedSimulator(model)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, the total charge included, which ASE does not look at."""
        changes: list[str] = super().check_state(atoms, tol)
        charges = (one.info.get("charge", 0.0) for one in (self.atoms, atoms) if one is not None)
        if len(set(charges)) > 1:
            changes.append("charge")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | tuple[str, ...] = ("energy",),
        system_changes: list[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        state = State.from_ase(self.atoms)
        wants_stress = "stress" in properties and bool(self.atoms.pbc.all())
        evaluation = self.simulator.evaluate(state, stress=wants_stress)
        energy = float(evaluation.energy[0])
        results: dict[str, Any] = {
            "energy": energy,
            "free_energy": energy,
            "forces": evaluation.forces.double().cpu().numpy(),
        }
        if evaluation.stress is not None:
            tensor = evaluation.stress[0].double().cpu().numpy()
            results["stress"] = tensor[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
        self.results = results

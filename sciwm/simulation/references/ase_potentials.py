"""Reference simulators from ASE: any of its calculators, and two that need no training."""

from collections.abc import Callable

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, UnitSystem
from sciwm.simulation.simulator import Evaluation, SimulatorError


class AsePotential:
    """Energies and forces from an ASE calculator, one system after another.

    Args:
        calculator: Makes a calculator; each system of a state keeps its own, so that neighbour
            lists and wave functions carry over from step to step.
        units: ASE's own are molecular; reduced where the calculator's parameters are.
    """

    def __init__(self, calculator: Callable[[], Calculator], units: UnitSystem = MOLECULAR):
        self._make = calculator
        self._units = units
        self._calculators: list[Calculator] = []

    @property
    def units(self) -> UnitSystem:
        return self._units

    @property
    def fingerprint(self) -> str:
        """The calculator's name and those of its parameters that are words or numbers."""
        if not self._calculators:
            self._calculators.append(self._make())
        found = sorted(dict(self._calculators[0].parameters).items())
        plain = [f"{key}={value}" for key, value in found if isinstance(value, (str, int, float))]
        return " ".join([type(self._calculators[0]).__name__, *plain])

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        """See `Simulator`.

        Raises:
            SimulatorError: If the calculator fails or gives numbers that are not finite.
        """
        numbers, positions = state.numbers.cpu().numpy(), state.positions.detach().cpu().double()
        cells, pbcs = state.cell.detach().cpu().double().numpy(), state.pbc.cpu().numpy()
        charges = state.total_charge.tolist()
        ends = np.cumsum(state.counts.cpu().numpy())
        while len(self._calculators) < state.n_systems:
            self._calculators.append(self._make())
        energies, forces, stresses = [], [], []
        start = 0
        for s, end in enumerate(ends):
            atoms = Atoms(
                numbers=numbers[start:end],
                positions=positions[start:end].numpy(),
                cell=cells[s],
                pbc=pbcs[s],
                info={"charge": charges[s]},
                calculator=self._calculators[s],
            )
            start = end
            # A calculator may raise anything; all of it means that this system has no energy.
            try:
                energies.append(atoms.get_potential_energy())
                forces.append(atoms.get_forces())
                if stress:
                    stresses.append(atoms.get_stress(voigt=False))
            except Exception as error:
                name = type(atoms.calc).__name__
                formula = atoms.get_chemical_formula()
                message = f"ASE's {name} failed for system {s} ({formula}): {error}"
                raise SimulatorError(message, s) from error
            if not (np.isfinite(energies[-1]) and np.isfinite(forces[-1]).all()):
                raise SimulatorError(
                    f"ASE's {type(atoms.calc).__name__} gave energy {energies[-1]} and forces that "
                    f"are not all finite for system {s} ({atoms.get_chemical_formula()}); check "
                    "that no two atoms coincide",
                    s,
                )

        def tensor(values: object) -> torch.Tensor:
            return torch.as_tensor(np.asarray(values)).to(state.positions)

        return Evaluation(
            # A difference of large energies must outlive single precision.
            energy=torch.tensor(energies, dtype=torch.float64, device=state.positions.device),
            forces=tensor(np.concatenate(forces)),
            stress=tensor(stresses) if stress else None,
        )

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        """Nowhere: a reference is what others are compared with."""
        return {}


def emt() -> AsePotential:
    """Effective medium theory for Al, Cu, Ag, Au, Ni, Pd, Pt (and C, N, O, H for tests)."""
    return AsePotential(EMT)


def lennard_jones(sigma: float, epsilon: float, cutoff: float, units: UnitSystem) -> AsePotential:
    """Lennard-Jones, 4ε((σ/r)¹² - (σ/r)⁶), switched off smoothly over the last third of the cutoff.

    Args:
        sigma, cutoff: In the units' length.
        epsilon: In the units' energy.
    """
    return AsePotential(
        lambda: LennardJones(sigma=sigma, epsilon=epsilon, rc=cutoff, smooth=True), units
    )

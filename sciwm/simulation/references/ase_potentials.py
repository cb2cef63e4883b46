"""Reference simulators from ASE: any of its calculators, and some by name alone."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones

from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, UnitSystem
from sciwm.simulation.references.reference import GeometryError, Reference
from sciwm.simulation.simulator import Evaluation, SimulatorError


class AsePotential(Reference):
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
                info={"charge": charges[s]} | _spin(state.unpaired_of(s)),
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

    @property
    def offers(self) -> tuple[str, ...]:
        """Nothing besides energies and forces."""
        return ()

    def observe(self, state: State, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """See `PropertySimulator`.

        Raises:
            SimulatorError: If anything is asked for.
        """
        self.require(names)
        return {}

    def close(self) -> None:
        """See `Reference`."""
        self._calculators.clear()


def _spin(unpaired: int | None) -> dict[str, int]:
    """In the words of ASE's `info`."""
    return {} if unpaired is None else {"spin": unpaired + 1}


IN_PROCESS = ("acn", "eam", "emt", "harmonic", "idealgas", "lj", "morse", "tip3p", "tip4p")
"""Modules of `ase.calculators` whose classes are formulas, evaluated in this very process."""


class ASEReference(Reference):
    """One of ASE's formulas for the energy of neutral matter.

    Calculators that start programs are refused, since their arguments may hold commands, and a
    description from anyone must be safe to run; `AsePotential` takes those that Python code makes.

    Args:
        calculator: Dotted path of its class, such as "ase.calculators.emt.EMT".
        arguments: What it is made with, in ASE's units: Å, eV.

    Raises:
        ValueError: If there is no such formula, or it cannot be made from these arguments.
    """

    def __init__(self, calculator: str, arguments: dict[str, Any] | None = None):
        kind, given = _formula(calculator), arguments or {}
        self._potential = AsePotential(lambda: kind(**given))
        try:
            self._name = self._potential.fingerprint  # made once, so that mistakes show now
        except Exception as error:
            raise ValueError(f"{calculator} cannot be made from {given}: {error}") from error

    @property
    def units(self) -> UnitSystem:
        return self._potential.units

    @property
    def fingerprint(self) -> str:
        """The calculator's name and parameters."""
        return self._name

    @property
    def offers(self) -> tuple[str, ...]:
        """See `Reference`."""
        return self._potential.offers

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        """See `Simulator`.

        Raises:
            GeometryError: If a system is charged, or states a shell of unpaired electrons.
            SimulatorError: If the calculator fails or gives numbers that are not finite.
        """
        charges = state.total_charge.tolist()
        for s, charge in enumerate(charges):
            unpaired = state.unpaired_of(s) or 0
            if charge or unpaired > 1:
                raise GeometryError(
                    f"system {s} has a total charge of {charge:+g} and {unpaired} unpaired electrons, of "
                    f"which {self.fingerprint} knows nothing; take a reference that has electrons, such "
                    "as gfn2",
                    s,
                )
        return self._potential.evaluate(state, stress)

    def observe(self, state: State, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """See `PropertySimulator`."""
        return self._potential.observe(state, names)

    def close(self) -> None:
        """See `Reference`."""
        self._potential.close()


def _formula(path: str) -> type[Calculator]:
    module_name, _, class_name = path.rpartition(".")
    if module_name not in {f"ase.calculators.{name}" for name in IN_PROCESS}:
        raise ValueError(
            f"refusing to make {path!r}: only classes of ase.calculators.* that compute in this process "
            f"are made, which are in {', '.join(IN_PROCESS)}"
        )
    kind = getattr(import_module(module_name), class_name, None)
    # A module also holds what it imports from elsewhere.
    if not (isinstance(kind, type) and kind.__module__ == module_name):
        raise ValueError(f"there is no {path!r}; check the spelling")
    if not issubclass(kind, Calculator):
        raise ValueError(f"{path} is no calculator")
    return kind


def emt() -> ASEReference:
    """Effective medium theory for Al, Cu, Ag, Au, Ni, Pd, Pt (and C, N, O, H for tests)."""
    return ASEReference("ase.calculators.emt.EMT")


def lennard_jones(sigma: float, epsilon: float, cutoff: float, units: UnitSystem) -> AsePotential:
    """Lennard-Jones, 4ε((σ/r)¹² - (σ/r)⁶), switched off smoothly over the last third of the cutoff.

    Args:
        sigma, cutoff: In the units' length.
        epsilon: In the units' energy.
    """
    return AsePotential(
        lambda: LennardJones(sigma=sigma, epsilon=epsilon, rc=cutoff, smooth=True), units
    )

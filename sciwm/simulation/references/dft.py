"""Density-functional theory: dear, and what most sets of labels are made with."""

import re
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from sciwm.core.frame import Frame
from sciwm.simulation.references.electronic_structure import ElectronicStructure, Program

PYSCF = Program("pyscf", "dft", "sciwm.simulation.references.engines.density_functional")

GRID = 3
"""PySCF's level of the grid on which functionals are integrated: some 10,000 points an atom."""

_NAME = re.compile(r"[\w+*(),@. -]+")
"""Without slashes: what names a file is opened, and its content evaluated."""


class DFT(ElectronicStructure):
    """Kohn-Sham theory of molecules, by PySCF (Sun et al., J. Chem. Phys. 153, 024109 (2020)).

    Forces are analytic and, grid included, slopes of the energy. Heavy atoms have the core potential
    that belongs to the basis. Electrons are spin-polarised where some are unpaired, and restricted
    to pairs where none is, so a bond that is torn apart ends at too high an energy.

    Args:
        functional: As PySCF or Libxc call it, such as "pbe", "b3lyp" or "r2scan".
        basis: As PySCF calls it, such as "sto-3g", "def2-svp" or "def2-tzvpd".
        dispersion: Grimme's correction for it, added to energies and forces.
        workers: Processes, of one thread each.
        timeout: Seconds that one system may take.

    Raises:
        ImportError: If PySCF, or what it takes for dispersion, is not installed.
        ValueError: If functional or basis are no names.
    """

    def __init__(
        self,
        functional: str = "pbe",
        basis: str = "def2-svp",
        dispersion: Literal["d3bj", "d3zero", "d4"] | None = None,
        workers: int = 1,
        timeout: float = 3600.0,
    ):
        for what, name in (("functional", functional), ("basis", basis)):
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no name of a {what}; give one such as {SAMPLE[what]}"
                )
        settings = {
            "functional": functional,
            "basis": basis,
            "dispersion": dispersion,
            "grid": GRID,
        }
        super().__init__(PYSCF, "DFT", settings, workers, timeout)
        if dispersion is not None:
            try:
                version("pyscf-dispersion")
            except PackageNotFoundError as error:
                raise ImportError(
                    f"dispersion {dispersion!r} needs pyscf-dispersion; pip install 'sciwm[dft]'"
                ) from error

    @property
    def fingerprint(self) -> str:
        """The method, its settings, and the program that gives it."""
        return f"{super().fingerprint} PySCF={version('pyscf')}"

    def _limitation(self, frame: Frame) -> str:
        if frame.pbc.any():
            return "it repeats, and this DFT is of molecules; take away its box"
        if frame.numbers.sum() <= frame.total_charge:
            return "it has no electrons"
        return ""


SAMPLE = {"functional": "'pbe' or 'b3lyp'", "basis": "'def2-svp'"}

"""Makes the molecules set: GFN2-xTB energies, forces, dipoles, charges and gaps of small organic molecules.

For outcome heads to learn from: conformers of 63 molecules, shaken, in one H5MD file that keeps
molecules apart. About half a minute on one core:
`OMP_NUM_THREADS=1 python datasets/molecules_xtb/recipe.py --out runs/molecules`.
"""

import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from tblite.interface import Calculator

from sciwm.core.frame import Frame
from sciwm.core.molecules import frame_from_smiles
from sciwm.core.progress import Bar
from sciwm.core.units import BOHR, HARTREE
from sciwm.data.h5md import H5MDWriter

ACCURACY = 0.1  # of the self-consistent cycle
SMILES = """
C CC CCC CCCC CC(C)C C1CC1 C1CCC1 C1CCCC1 C=C C=CC C=CC=C C#C C#CC c1ccccc1
O CO CCO CCCO CC(C)O OCCO COC CCOC C1CO1 C1COCC1 C=O CC=O CCC=O CC(C)=O OC=O CC(=O)O COC=O CC(=O)OC
N CN CCN CNC CN(C)C NCCO NCCN C1CCNC1 C#N CC#N CCC#N NC=O CC(=O)N CN=C C=CC#N NC(=O)N
F CF FCF CCF C=CF FC(F)F FCCO FCC#N FC=O CC(F)C OCC=O O=CC=O c1ccncc1 c1ccoc1 C=CC=O
"""


def labelled(frame: Frame) -> Frame:
    """The frame with what GFN2 says of it; the molecule must be neutral."""
    calculator = Calculator("GFN2-xTB", frame.numbers, frame.positions / BOHR)
    calculator.set("accuracy", ACCURACY)
    calculator.set("verbosity", 0)
    found = calculator.singlepoint()
    occupied = math.ceil(round(float(found.get("orbital-occupations").sum())) / 2)
    orbitals = found.get("orbital-energies")
    properties = {
        "dipole": found.get("dipole") * BOHR,
        "charges": found.get("charges"),
        "gap": float(orbitals[occupied] - orbitals[occupied - 1]) * HARTREE,
    }
    return frame.with_(
        energy=float(found.get("energy")) * HARTREE,
        forces=-found.get("gradient") * (HARTREE / BOHR),
        properties=properties,
    )


def main(out: Path = Path(), geometries: int = 20, shake: float = 0.05, seed: int = 0) -> None:
    """Writes molecules.h5md.

    Args:
        out: Folder to write into.
        geometries: Of each molecule, every fourth from a conformer of its own.
        shake: Standard deviation of random displacements, Å.
        seed: Of conformers and displacements.
    """
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    parameters = {
        "method": "GFN2-xTB, gas phase",
        "scf_accuracy": ACCURACY,
        "shake_angstrom": shake,
        "seed": seed,
        "tblite": version("tblite"),
        "rdkit": version("rdkit"),
    }
    with H5MDWriter(
        out / "molecules.h5md",
        creator_note="datasets/molecules_xtb/recipe.py",
        parameters=parameters,
    ) as writer:
        for smiles in Bar(SMILES.split(), desc="GFN2", unit="molecule"):
            for k in range(geometries):
                if k % 4 == 0:
                    start = frame_from_smiles(smiles, seed + k)
                noise = shake * rng.standard_normal(start.positions.shape)
                shaken = start.with_(positions=start.positions + noise)
                writer.append(labelled(shaken), group=smiles)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)

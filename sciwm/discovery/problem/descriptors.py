"""Cheap exact outcomes: numbers that follow from the bonds of a molecule alone."""

import importlib.util
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rdkit import Chem, RDConfig
from rdkit.Chem import QED, rdMolDescriptors


class Descriptor(NamedTuple):
    """A number every sound molecule has.

    Attributes:
        unit: Of its value; empty where it has none.
        function: From a sanitised molecule.
    """

    unit: str
    function: Callable[[Chem.Mol], float]


@cache
def _synthetic_accessibility() -> Callable[[Chem.Mol], float]:
    # RDKit keeps the score among its contributions, which are files and not always a package.
    path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    if not path.is_file():
        raise FileNotFoundError(
            f"the synthetic accessibility score is missing from this RDKit ({path} is no file); "
            "install RDKit from PyPI or conda-forge, which ship it"
        )
    spec = importlib.util.spec_from_file_location("sascorer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.calculateScore


def sa_score(molecule: Chem.Mol) -> float:
    """Synthetic accessibility, from 1 (easy to make) to 10 (Ertl and Schuffenhauer 2009).

    Raises:
        FileNotFoundError: If this RDKit came without its contributed scores.
        ValueError: If the molecule has no heavy atom to score.
    """
    if molecule.GetNumHeavyAtoms() == 0:
        raise ValueError(
            f"{Chem.MolToSmiles(molecule)!r} has no heavy atom, so no synthetic accessibility"
        )
    return float(_synthetic_accessibility()(molecule))


def molecular_weight(molecule: Chem.Mol) -> float:
    """Mean mass of a molecule in u, or the mass of its isotopes where they are named."""
    hydrogen = Chem.GetPeriodicTable().GetAtomicWeight(1)
    return sum(atom.GetMass() + atom.GetTotalNumHs() * hydrogen for atom in molecule.GetAtoms())


def qed(molecule: Chem.Mol) -> float:
    """Drug-likeness from 0 to 1 (Bickerton et al. 2012)."""
    value = float(QED.qed(molecule))
    return value if math.isfinite(value) else 0.0


DESCRIPTORS: dict[str, Descriptor] = {
    "sa_score": Descriptor("", sa_score),
    "molecular_weight": Descriptor("u", molecular_weight),
    "logp": Descriptor("", lambda molecule: rdMolDescriptors.CalcCrippenDescriptors(molecule)[0]),
    "tpsa": Descriptor("Å²", rdMolDescriptors.CalcTPSA),
    "qed": Descriptor("", qed),
    "heavy_atoms": Descriptor("", lambda molecule: float(molecule.GetNumHeavyAtoms())),
    "rings": Descriptor("", lambda molecule: float(rdMolDescriptors.CalcNumRings(molecule))),
}
"""By the name objectives use. logP is Crippen's (Wildman and Crippen 1999); rings are the smallest
set of smallest rings; the polar surface counts nitrogen and oxygen (Ertl et al. 2000)."""


def described(name: str, molecule: Chem.Mol) -> float:
    """The descriptor of a molecule; NaN for the few that have none, such as hydrogen."""
    try:
        return DESCRIPTORS[name].function(molecule)
    except (ValueError, RuntimeError, ZeroDivisionError):
        return math.nan

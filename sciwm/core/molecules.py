"""Molecules between their two faces: SMILES and three-dimensional frames.

Chemistry is RDKit's; lengths are in Å. Free of torch, so that screening workers stay light.
"""

from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds, rdDistGeom, rdForceFieldHelpers, rdqueries
from rdkit.Chem.Scaffolds import MurckoScaffold
from rdkit.Geometry import Point3D

from sciwm.core.frame import Frame

EMBEDDING_SECONDS = 30
"""Longest time spent looking for one conformer."""

_NO_ELEMENT = rdqueries.AtomNumEqualsQueryAtom(0)


def parsed(smiles: str) -> Chem.Mol:
    """The molecule a SMILES names, as one piece and with implicit hydrogens.

    Raises:
        ValueError: If it is empty, cannot be read, breaks valence rules, falls into several
            pieces, or holds an atom of no element.
    """
    if not smiles.strip():
        raise ValueError(f"empty SMILES {smiles!r}; give one molecule, such as 'CCO'")
    if len(smiles.split()) > 1:
        raise ValueError(
            f"{smiles!r} holds more than one word; give the SMILES alone, without a name"
        )
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None:
            raise ValueError(_unread(smiles))
    if "." in smiles:
        pieces = Chem.GetMolFrags(molecule, asMols=True)
        if len(pieces) > 1:
            names = ", ".join(Chem.MolToSmiles(piece) for piece in pieces)
            raise ValueError(
                f"{smiles!r} is {len(pieces)} separate pieces ({names}); give the one that matters, "
                "without its counter-ions or solvent"
            )
    if molecule.GetAtomsMatchingQuery(_NO_ELEMENT):
        raise ValueError(
            f"{smiles!r} has an attachment point or wildcard; put a real atom in its place"
        )
    return molecule


def _unread(smiles: str) -> str:
    molecule = Chem.MolFromSmiles(smiles, sanitize=False)
    problems = [] if molecule is None else Chem.DetectChemistryProblems(molecule)
    if problems:
        return (
            f"{smiles!r} breaks the rules of valence: {problems[0].Message()}; write charges and "
            "hydrogens out, as in '[NH4+]'"
        )
    return (
        f"{smiles!r} cannot be read as SMILES; check brackets and ring numbers, and that it is not a "
        "name or an InChI"
    )


def frame_from_smiles(smiles: str, seed: int = 0) -> Frame:
    """One conformer of a molecule: embedded by ETKDGv3, relaxed with MMFF94s, or UFF without it.

    The total charge is the sum of formal charges; `smiles` becomes canonical; masses are set only
    where the SMILES names isotopes. Sources: Riniker and Landrum 2015; Halgren 1999; Rappé 1992.

    Raises:
        ValueError: If the SMILES names no single sound molecule, or no conformer can be built.
    """
    plain = parsed(smiles)
    molecule = Chem.AddHs(plain)
    _embed(molecule, smiles, seed)
    _relax(molecule, smiles)
    atoms = list(molecule.GetAtoms())
    isotopes = any(atom.GetIsotope() for atom in atoms)
    return Frame(
        numbers=np.array([atom.GetAtomicNum() for atom in atoms], dtype=np.int64),
        positions=molecule.GetConformer().GetPositions().astype(np.float64),
        masses=np.array([atom.GetMass() for atom in atoms]) if isotopes else None,
        total_charge=float(Chem.GetFormalCharge(molecule)),
        smiles=Chem.MolToSmiles(plain),
    )


def _embed(molecule: Chem.Mol, smiles: str, seed: int) -> None:
    settings: Any = rdDistGeom.ETKDGv3()  # whose stubs give its numbers the wrong type
    settings.randomSeed = seed
    settings.maxIterations = 50
    settings.timeout = EMBEDDING_SECONDS
    with rdBase.BlockLogs():
        for random_start in (False, True):
            settings.useRandomCoords = random_start
            try:
                if rdDistGeom.EmbedMolecule(molecule, settings) == 0:
                    return
            except (RuntimeError, ValueError):
                continue  # a bounds matrix that cannot be smoothed; try from random places
    raise ValueError(
        f"no three-dimensional structure found for {smiles!r} ({molecule.GetNumAtoms()} atoms): "
        "its rings or stereo centres may contradict each other; bring a geometry from a file"
    )


def _relax(molecule: Chem.Mol, smiles: str) -> None:
    if molecule.GetNumAtoms() == 1:
        return
    with rdBase.BlockLogs():
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
            rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, mmffVariant="MMFF94s", maxIters=2000)
        elif rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
            rdForceFieldHelpers.UFFOptimizeMolecule(molecule, maxIters=2000)
        else:
            symbols = sorted({atom.GetSymbol() for atom in molecule.GetAtoms()})
            raise ValueError(
                f"neither MMFF94s nor UFF has parameters for {smiles!r} (elements {symbols}); "
                "bring a geometry from a file"
            )
    if not np.isfinite(molecule.GetConformer().GetPositions()).all():
        raise ValueError(
            f"relaxing {smiles!r} gave positions that are not finite; try another seed"
        )


def smiles_from_frame(frame: Frame) -> str | None:
    """The canonical SMILES a geometry and its total charge suggest; None where they suggest none.

    Bond orders come from RDKit's form of xyz2mol (Kim and Kim 2015). Periodic systems have none.
    """
    if np.any(frame.pbc) or len(frame) == 0 or frame.numbers.min() < 1:
        return None
    editable = Chem.RWMol()
    for number in frame.numbers:
        editable.AddAtom(Chem.Atom(int(number)))
    conformer = Chem.Conformer(len(frame))
    for i, (x, y, z) in enumerate(frame.positions.tolist()):
        conformer.SetAtomPosition(i, Point3D(x, y, z))
    editable.AddConformer(conformer)
    molecule = editable.GetMol()
    with rdBase.BlockLogs():
        try:
            rdDetermineBonds.DetermineBonds(
                molecule, charge=round(frame.total_charge), maxIterations=10_000
            )
            return Chem.MolToSmiles(Chem.RemoveHs(molecule))
        except (ValueError, RuntimeError):
            return None


def scaffold(smiles: str) -> str:
    """The Bemis-Murcko scaffold (rings and their linkers) as SMILES; empty for open chains.

    Molecules that share a scaffold belong on the same side of a split between training and test.

    Raises:
        ValueError: If the SMILES names no single sound molecule.
    """
    return MurckoScaffold.MurckoScaffoldSmiles(mol=parsed(smiles), includeChirality=False)

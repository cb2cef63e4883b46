"""R-group substitution: one end of a good molecule is exchanged for another from a list."""

from collections.abc import Sequence

import numpy as np
from rdkit import Chem, rdBase

from sciwm.core.molecules import parsed
from sciwm.discovery.planners.proposers.edits import TRIES
from sciwm.discovery.planners.proposers.novelty import Novelty
from sciwm.discovery.planners.proposers.population import Population
from sciwm.discovery.planners.proposers.proposer import Scored
from sciwm.discovery.problem.hypothesis import Candidate

SUBSTITUENTS = (
    *("[H]", "F", "Cl", "Br", "C", "CC", "C(C)C", "C(C)(C)C", "C1CC1", "C=C", "C#C", "C#N"),
    *("O", "OC", "OCC", "OC(C)=O", "OC(F)(F)F", "N", "NC", "N(C)C", "NC(C)=O", "[N+](=O)[O-]"),
    *("C=O", "C(C)=O", "C(=O)O", "C(=O)OC", "C(N)=O", "C(F)(F)F", "CO", "CN", "CF"),
    *("S", "SC", "S(C)(=O)=O", "S(N)(=O)=O", "c1ccccc1", "c1ccncc1", "c1ccco1", "c1cccs1"),
    *("N1CCOCC1", "N1CCCCC1", "n1cccn1", "[Si](C)(C)C"),
)
"""SMILES of groups that are attached by their first atom: common in medicinal and materials work."""


class Substituents:
    """Puts a group of a list in the place of a hydrogen or of a small end.

    Args:
        start: SMILES of the first ancestors; may be empty where scores of others will come.
        groups: SMILES attached by their first atom.
        population: Most ancestors kept.
        largest: Heavy atoms of the largest end that may be exchanged.
        max_heavy: Largest candidate, in heavy atoms.

    Raises:
        ValueError: If a SMILES cannot be read.
    """

    name = "substituents"

    def __init__(
        self,
        start: Sequence[str] = (),
        groups: Sequence[str] = SUBSTITUENTS,
        population: int = 100,
        largest: int = 6,
        max_heavy: int = 40,
    ):
        if not groups:
            raise ValueError("substitution needs at least one group, such as 'F'")
        self.largest = largest
        self._groups = [_group(text) for text in groups]
        self._population = Population(start, population)
        self._novelty = Novelty(max_heavy)
        self._novelty.remember(self._population.ranked())

    def ask(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """At most n molecules that differ from an ancestor in one end."""
        found: list[Candidate] = []
        for _ in range(TRIES * n):
            parent = self._population.pick(rng)
            if len(found) == n or parent is None:
                break
            molecule = parsed(parent)
            places = _places(molecule, self.largest)
            if not places:
                continue
            site, end = places[int(rng.integers(len(places)))]
            group = self._groups[int(rng.integers(len(self._groups)))]
            smiles = self._novelty.admit(_exchanged(molecule, site, end, group))
            if smiles:
                found.append(Candidate(smiles, self.name, (parent,)))
        return found

    def tell(self, scored: Sequence[Scored]) -> None:
        """The best of them become ancestors, whoever proposed them."""
        self._population.tell(scored)
        self._novelty.remember(one.candidate.smiles for one in scored)


def _group(text: str) -> Chem.Mol:
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles("[*]" + text)
        whole = molecule is not None and len(Chem.GetMolFrags(molecule)) == 1
    if not whole:
        raise ValueError(
            f"{text!r} is no group that can be attached by its first atom; write it like 'OC' for "
            "methoxy"
        )
    return molecule


def _places(molecule: Chem.Mol, largest: int) -> list[tuple[int, frozenset[int]]]:
    """Atoms that carry an exchangeable end, with the atoms of that end; none for a hydrogen."""
    found: list[tuple[int, frozenset[int]]] = [
        (atom.GetIdx(), frozenset()) for atom in molecule.GetAtoms() if atom.GetTotalNumHs()
    ]
    for bond in molecule.GetBonds():
        if bond.GetBondType() != Chem.BondType.SINGLE or bond.IsInRing():
            continue
        pair = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        for site, first in (pair, pair[::-1]):
            end = _behind(molecule, site, first, largest)
            if end:
                found.append((site, end))
    return found


def _behind(molecule: Chem.Mol, site: int, first: int, largest: int) -> frozenset[int]:
    """Atoms on the far side of a bond; empty where there are more than `largest`, or half of all."""
    end, border = {first}, [first]
    while border:
        for atom in molecule.GetAtomWithIdx(border.pop()).GetNeighbors():
            number = atom.GetIdx()
            if number not in end and number != site:
                end.add(number)
                border.append(number)
        if len(end) > min(largest, molecule.GetNumAtoms() // 2):
            return frozenset()
    return frozenset(end)


def _exchanged(molecule: Chem.Mol, site: int, end: frozenset[int], group: Chem.Mol) -> str | None:
    editable = Chem.RWMol(Chem.CombineMols(molecule, group))
    dummy = molecule.GetNumAtoms()  # the group's first atom, standing for what it is attached to
    atom = editable.GetAtomWithIdx(site)
    if not end and atom.GetNumExplicitHs():
        atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
    editable.AddBond(site, dummy + 1, Chem.BondType.SINGLE)
    for number in sorted({*end, dummy}, reverse=True):
        editable.RemoveAtom(number)
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(editable)
            return Chem.MolToSmiles(Chem.RemoveHs(editable))
        except (ValueError, RuntimeError):
            return None

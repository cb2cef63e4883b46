"""Recombination: the best molecules are taken apart where a chemist would, and put together anew."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import BRICS

from sciwm.core.molecules import parsed
from sciwm.discovery.planners.proposers.edits import TRIES
from sciwm.discovery.planners.proposers.novelty import Novelty
from sciwm.discovery.planners.proposers.population import Population
from sciwm.discovery.planners.proposers.proposer import Scored
from sciwm.discovery.problem.hypothesis import Candidate

MOST_JOINTS = 4
"""Fragments are joined at most this many times in one molecule; open ends that remain get hydrogen."""

_BOND = {"-": Chem.BondType.SINGLE, "=": Chem.BondType.DOUBLE}


def _partners() -> dict[int, dict[int, Chem.BondType]]:
    """Which BRICS labels may be joined, and by which bond."""
    found: dict[int, dict[int, Chem.BondType]] = defaultdict(dict)
    for group in BRICS.reactionDefs:
        for first, second, bond in group:
            one, two = int(first.rstrip("ab")), int(second.rstrip("ab"))
            found[one][two] = found[two][one] = _BOND[bond]
    return dict(found)


_PARTNERS = _partners()


class Fragments:
    """Joins BRICS fragments of the best molecules (Degen et al. 2008).

    Args:
        start: SMILES of the first ancestors; may be empty where scores of others will come.
        population: Most ancestors kept.
        max_heavy: Largest candidate, in heavy atoms.

    Raises:
        ValueError: If a SMILES at the start names no sound molecule.
    """

    name = "fragments"

    def __init__(self, start: Sequence[str] = (), population: int = 100, max_heavy: int = 40):
        self._population = Population(start, population)
        self._novelty = Novelty(max_heavy)
        self._novelty.remember(self._population.ranked())
        self._pieces: dict[str, list[str]] = {}

    def ask(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """At most n recombinations, with the molecules of their fragments as parents."""
        origins = self._origins()
        found: list[Candidate] = []
        for _ in range(TRIES * n if origins.pieces else 0):
            if len(found) == n:
                break
            first = self._population.pick(rng)
            if first is None or not self._pieces[first]:
                continue
            pieces = self._pieces[first]
            made = origins.assembled(
                pieces[int(rng.integers(len(pieces)))], self._novelty.max_heavy, rng
            )
            if made is None:
                continue
            smiles = self._novelty.admit(made[0])
            if smiles:
                parents = dict.fromkeys((first, *(origins.pieces[piece] for piece in made[1])))
                found.append(Candidate(smiles, self.name, tuple(parents)))
        return found

    def tell(self, scored: Sequence[Scored]) -> None:
        """The best of them become ancestors, whoever proposed them."""
        self._population.tell(scored)
        self._novelty.remember(one.candidate.smiles for one in scored)

    def _origins(self) -> "_Pool":
        ranked = self._population.ranked()
        self._pieces = {
            smiles: self._pieces[smiles] if smiles in self._pieces else _cut(smiles)
            for smiles in ranked
        }
        pool: dict[str, str] = {}
        for smiles in ranked:  # best first, so a piece counts as its best molecule's
            for piece in self._pieces[smiles]:
                pool.setdefault(piece, smiles)
        return _Pool(pool)


class _Pool:
    """Fragments, by the label of their open ends.

    Args:
        pieces: SMILES of fragments, each with the molecule it comes from.
    """

    def __init__(self, pieces: dict[str, str]):
        self.pieces = pieces
        self._molecules: dict[str, Chem.Mol] = {}
        self._with_label: dict[int, list[str]] = defaultdict(list)
        for piece in pieces:
            molecule = self._molecules[piece] = Chem.MolFromSmiles(piece)
            for label in sorted({label for _, label in _ends(molecule)}):
                self._with_label[label].append(piece)

    def assembled(
        self, piece: str, max_heavy: int, rng: np.random.Generator
    ) -> tuple[str, list[str]] | None:
        """A molecule grown from a fragment, and the fragments that were added."""
        molecule, added = self._molecules[piece], []
        for _ in range(int(rng.integers(1, MOST_JOINTS + 1))):
            ends = [end for end in _ends(molecule) if end[1] in _PARTNERS]
            if not ends:
                break
            place, label = ends[int(rng.integers(len(ends)))]
            fitting = [
                (other, piece)
                for other in _PARTNERS[label]
                for piece in self._with_label.get(other, ())
                if molecule.GetNumHeavyAtoms() + self._molecules[piece].GetNumHeavyAtoms()
                <= max_heavy + 4  # the open ends count as atoms here and vanish later
            ]
            if not fitting:
                break
            other, piece = fitting[int(rng.integers(len(fitting)))]
            partner = self._molecules[piece]
            choices = [end for end, its_label in _ends(partner) if its_label == other]
            molecule = _joined(
                molecule,
                place,
                partner,
                choices[int(rng.integers(len(choices)))],
                _PARTNERS[label][other],
            )
            added.append(piece)
        smiles = _capped(molecule) if added else None
        return (smiles, added) if smiles else None


def _cut(smiles: str) -> list[str]:
    molecule = parsed(smiles)
    with rdBase.BlockLogs():
        try:
            pieces = sorted(BRICS.BRICSDecompose(molecule))
        except (ValueError, RuntimeError):
            return []
    return [piece for piece in pieces if "*" in piece]


def _ends(molecule: Chem.Mol) -> list[tuple[int, int]]:
    """Open ends as (atom, BRICS label)."""
    return [
        (atom.GetIdx(), atom.GetIsotope())
        for atom in molecule.GetAtoms()
        if atom.GetAtomicNum() == 0
    ]


def _joined(
    left: Chem.Mol, left_end: int, right: Chem.Mol, right_end: int, bond: Chem.BondType
) -> Chem.Mol:
    both = Chem.RWMol(Chem.CombineMols(left, right))
    ends = left_end, left.GetNumAtoms() + right_end
    one, two = (both.GetAtomWithIdx(end).GetNeighbors()[0].GetIdx() for end in ends)
    both.AddBond(one, two, bond)
    for end in sorted(ends, reverse=True):
        both.RemoveAtom(end)
    return both.GetMol()


def _capped(molecule: Chem.Mol) -> str | None:
    """SMILES with hydrogen at the open ends; None where that is no sound molecule."""
    editable = Chem.RWMol(molecule)
    for end, _ in _ends(molecule):
        atom = editable.GetAtomWithIdx(end)
        atom.SetAtomicNum(1)
        atom.SetIsotope(0)
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(editable)
            return Chem.MolToSmiles(Chem.RemoveHs(editable))
        except (ValueError, RuntimeError):
            return None

"""A space of small chemical edits: which can be made to a molecule, and what each gives.

An edit is one reaction SMARTS with a name, read on a Kekulé structure with implicit hydrogens.
The same space serves random search, a genetic algorithm and a learned policy, so that they differ
in how they choose and in nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdChemReactions

from sciwm.core.molecules import parsed
from sciwm.discovery.planners.proposers.novelty import Novelty, canonical
from sciwm.discovery.planners.proposers.proposer import Scored
from sciwm.discovery.problem.hypothesis import Candidate

MOST_SITES = 200
"""Places of one edit that are told apart in one molecule."""

TRIES = 20
"""Attempts per candidate asked for, after which the space counts as exhausted."""


@dataclass(frozen=True)
class Edit:
    """One kind of change.

    Attributes:
        name: In words.
        smarts: Reaction SMARTS with one reactant and one product, whose first atom is the site.
    """

    name: str
    smarts: str


_GROUPS = {
    "methyl": "C",
    "fluorine": "F",
    "chlorine": "Cl",
    "bromine": "Br",
    "hydroxyl": "O",
    "amine": "N",
    "thiol": "S",
    "methoxy": "OC",
    "nitrile": "C#N",
    "nitro": "[N+](=O)[O-]",
    "trifluoromethyl": "C(F)(F)F",
    "aldehyde": "C=O",
    "carboxyl": "C(=O)O",
    "vinyl": "C=C",
    "phenyl": "C1=CC=CC=C1",
}

_EXCHANGES = {
    "carbon to nitrogen": ("[C;+0;!H0:1]", "[N:1]"),
    "carbon to oxygen": ("[C;+0;H2,H3;!$(C=*):1]", "[O:1]"),
    "nitrogen to carbon": ("[N;+0:1]", "[C:1]"),
    "nitrogen to oxygen": ("[N;+0;!H0:1]", "[O:1]"),
    "oxygen to carbon": ("[O;+0:1]", "[C:1]"),
    "oxygen to nitrogen": ("[O;+0:1]", "[N:1]"),
    "oxygen to sulfur": ("[O;+0:1]", "[S:1]"),
    "sulfur to oxygen": ("[S;+0;X1,X2:1]", "[O:1]"),
    "halogen to fluorine": ("[Cl,Br:1]", "[F:1]"),
    "halogen to chlorine": ("[F,Br:1]", "[Cl:1]"),
    "halogen to bromine": ("[F,Cl:1]", "[Br:1]"),
}

EDITS: tuple[Edit, ...] = (
    *(Edit(f"add {name}", f"[#6;!H0:1]>>[#6:1]-{group}") for name, group in _GROUPS.items()),
    Edit("add methyl to a heteroatom", "[N,O,S;+0;!H0:1]>>[*:1]-C"),
    Edit("add oxo", "[C;X4;!H0;!H1:1]>>[C:1]=O"),
    *(Edit(name, f"{before}>>{after}") for name, (before, after) in _EXCHANGES.items()),
    Edit("remove an end", "[*:1]-[D1;+0:2]>>[*:1]"),
    Edit("remove a doubly bonded end", "[*:1]=[D1;+0:2]>>[*:1]"),
    Edit("remove a link", "[*:1]-[D2;+0:2]-[*:3]>>[*:1]-[*:3]"),
    Edit("insert carbon", "[#6:1]-[*:2]>>[#6:1]-C-[*:2]"),
    Edit("insert nitrogen", "[#6:1]-[#6:2]>>[#6:1]-N-[#6:2]"),
    Edit("insert oxygen", "[#6:1]-[#6:2]>>[#6:1]-O-[#6:2]"),
    Edit("single to double", "[#6;!H0;!$(*=*):1]-[C,N,O;!H0;!$(*=*):2]>>[#6:1]=[*:2]"),
    Edit("double to single", "[#6:1]=[C,N,O;+0:2]>>[#6:1]-[*:2]"),
    Edit("triple to double", "[#6:1]#[C,N;+0:2]>>[#6:1]=[*:2]"),
    Edit(
        "close a ring of five",
        "[C,N;!H0;!R:1]~[*:2]~[*:3]~[*:4]~[C,N;!H0:5]>>[*:1]1~[*:2]~[*:3]~[*:4]~[*:5]1",
    ),
    Edit(
        "close a ring of six",
        "[C,N;!H0;!R:1]~[*:2]~[*:3]~[*:4]~[*:5]~[C,N;!H0:6]>>[*:1]1~[*:2]~[*:3]~[*:4]~[*:5]~[*:6]1",
    ),
    Edit("open a ring", "[*:1]-@[*:2]>>([*:1].[*:2])"),
    Edit("fuse a benzene ring", "[C;!H0:1]=[C;!H0:2]>>[C:1]1=[C:2]-C=C-C=C-1"),
)
"""Enough to reach any molecule of C, N, O, S and halogens from any other, in small steps."""


@dataclass(frozen=True)
class PlacedEdit:
    """One edit at one place of one molecule.

    Attributes:
        edit: Its number in the space.
        match: The how-manieth place where it can be made.
        site: Index of the atom it is centred on.
    """

    edit: int
    match: int
    site: int


class EditSpace:
    """Which edits a molecule offers, and what they give.

    Args:
        edits: The kinds of change.

    Raises:
        ValueError: If a reaction SMARTS cannot be read, or has not one reactant and one product.
    """

    def __init__(self, edits: Sequence[Edit] = EDITS):
        if not edits:
            raise ValueError("an edit space needs at least one edit")
        self.edits = tuple(edits)
        self._reactions = [_reaction(edit) for edit in edits]
        self._patterns = [reaction.GetReactantTemplate(0) for reaction in self._reactions]

    def prepared(self, smiles: str) -> Chem.Mol:
        """The molecule as edits read it.

        Raises:
            ValueError: If it names no sound molecule.
        """
        molecule = parsed(smiles)
        Chem.Kekulize(molecule, clearAromaticFlags=True)
        for atom in molecule.GetAtoms():
            # Hydrogens written out would stay when something else takes their place.
            if not (atom.GetFormalCharge() or atom.GetNumRadicalElectrons()):
                atom.SetNoImplicit(False)
                atom.SetNumExplicitHs(0)
        molecule.UpdatePropertyCache()
        return molecule

    def actions(self, molecule: Chem.Mol) -> list[PlacedEdit]:
        """All edits of a prepared molecule; some may still give no sound molecule."""
        return [
            action for number in range(len(self.edits)) for action in self._places(molecule, number)
        ]

    def apply(self, molecule: Chem.Mol, action: PlacedEdit) -> str | None:
        """SMILES of a prepared molecule after an edit; None where that is no sound molecule."""
        with rdBase.BlockLogs():
            try:
                products = self._reactions[action.edit].RunReactants(
                    (molecule,), maxProducts=action.match + 1
                )
                product = products[action.match][0]
                Chem.SanitizeMol(product)
                return canonical(Chem.MolToSmiles(product))
            except (ValueError, RuntimeError, IndexError):
                return None

    def random(self, smiles: str, rng: np.random.Generator) -> str | None:
        """A random edit at a random place: first the kind, then where; None where it fails."""
        molecule = self.prepared(smiles)
        for number in rng.permutation(len(self.edits)).tolist():
            places = self._places(molecule, number)
            if places:
                return self.apply(molecule, places[int(rng.integers(len(places)))])
        return None

    def _places(self, molecule: Chem.Mol, edit: int) -> list[PlacedEdit]:
        matches = molecule.GetSubstructMatches(
            self._patterns[edit], uniquify=False, maxMatches=MOST_SITES
        )
        return [PlacedEdit(edit, i, match[0]) for i, match in enumerate(matches)]


def _reaction(edit: Edit) -> rdChemReactions.ChemicalReaction:
    with rdBase.BlockLogs():
        try:
            reaction = rdChemReactions.ReactionFromSmarts(edit.smarts)
        except ValueError as error:
            raise ValueError(
                f"the reaction SMARTS {edit.smarts!r} of edit {edit.name!r} cannot be read ({error})"
            ) from error
        templates = reaction.GetNumReactantTemplates(), reaction.GetNumProductTemplates()
        if templates != (1, 1):
            raise ValueError(
                f"edit {edit.name!r} has {templates[0]} reactants and {templates[1]} products; "
                "an edit turns one molecule into one, as in '[C;!H0:1]>>[C:1]F'"
            )
        reaction.Initialize()
    return reaction


class RandomEdits:
    """Up to `depth` random edits of the molecules it starts from: search that learns nothing.

    Args:
        start: SMILES.
        depth: Most edits between a start and a candidate.
        space: The edits.
        max_heavy: Largest candidate, in heavy atoms.

    Raises:
        ValueError: If a SMILES at the start names no sound molecule.
    """

    name = "random edits"

    def __init__(
        self,
        start: Sequence[str],
        depth: int = 4,
        space: EditSpace | None = None,
        max_heavy: int = 40,
    ):
        if depth < 1:
            raise ValueError(f"{depth=} must be at least 1 edit")
        self.start = tuple(dict.fromkeys(canonical(smiles) for smiles in start))
        self.depth = depth
        self.space = space or EditSpace()
        self._novelty = Novelty(max_heavy)
        self._novelty.remember(self.start)

    def ask(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """At most n candidates, each with the molecule it was edited from as parent."""
        found: list[Candidate] = []
        for _ in range(TRIES * n if self.start else 0):
            if len(found) == n:
                break
            parent = self.start[int(rng.integers(len(self.start)))]
            smiles = parent
            for _ in range(int(rng.integers(1, self.depth + 1))):
                smiles = self.space.random(smiles, rng) or smiles
            fresh = self._novelty.admit(smiles)
            if fresh:
                found.append(Candidate(fresh, self.name, (parent,)))
        return found

    def tell(self, scored: Sequence[Scored]) -> None:
        """Scores change nothing but what counts as known."""
        self._novelty.remember(one.candidate.smiles for one in scored)

"""Random changes of SELFIES, a notation in which every text is a molecule."""

from collections.abc import Sequence

import numpy as np
import selfies
from rdkit import Chem, rdBase

from sciwm.core.molecules import parsed
from sciwm.discovery.planners.proposers.edits import TRIES
from sciwm.discovery.planners.proposers.novelty import Novelty
from sciwm.discovery.planners.proposers.population import Population
from sciwm.discovery.planners.proposers.proposer import Scored
from sciwm.discovery.problem.hypothesis import Candidate

ELEMENTS = ("C", "N", "O", "S", "F", "Cl", "Br")
"""Whose neutral tokens are inserted; what the ancestors hold besides may stay."""


class SelfiesEdits:
    """Inserts, replaces and deletes tokens of the best molecules (Nigam et al. 2021, STONED).

    Molecules that SELFIES' table of valences does not allow, such as perchlorates, are no
    ancestors.

    Args:
        start: SMILES of the first ancestors; may be empty where scores of others will come.
        population: Most ancestors kept.
        changes: Most tokens changed at once.
        max_heavy: Largest candidate, in heavy atoms.

    Raises:
        ValueError: If a SMILES at the start names no sound molecule.
    """

    name = "selfies"

    def __init__(
        self,
        start: Sequence[str] = (),
        population: int = 100,
        changes: int = 2,
        max_heavy: int = 40,
    ):
        if changes < 1:
            raise ValueError(f"{changes=} must be at least 1 token")
        self.changes = changes
        self._population = Population(start, population)
        self._novelty = Novelty(max_heavy)
        self._novelty.remember(self._population.ranked())
        self._alphabet = _alphabet()

    def ask(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """At most n changed molecules; none while there are no ancestors."""
        found: list[Candidate] = []
        for _ in range(TRIES * n):
            parent = self._population.pick(rng)
            if len(found) == n or parent is None:
                break
            tokens = _tokens(parent)
            if not tokens:
                continue
            for _ in range(int(rng.integers(1, self.changes + 1))):
                tokens = self._changed(tokens, rng)
            smiles = self._novelty.admit(_decoded(tokens))
            if smiles:
                found.append(Candidate(smiles, self.name, (parent,)))
        return found

    def tell(self, scored: Sequence[Scored]) -> None:
        """The best of them become ancestors, whoever proposed them."""
        self._population.tell(scored)
        self._novelty.remember(one.candidate.smiles for one in scored)

    def _changed(self, tokens: list[str], rng: np.random.Generator) -> list[str]:
        kind, place = int(rng.integers(3)), int(rng.integers(len(tokens)))
        token = self._alphabet[int(rng.integers(len(self._alphabet)))]
        if kind == 0:
            return [*tokens[:place], token, *tokens[place:]]
        if kind == 1 or len(tokens) == 1:
            return [*tokens[:place], token, *tokens[place + 1 :]]
        return [*tokens[:place], *tokens[place + 1 :]]


def _alphabet() -> list[str]:
    wanted = {f"[{bond}{element}]" for bond in ("", "=", "#") for element in ELEMENTS}
    structure = {
        token
        for token in selfies.get_semantic_robust_alphabet()
        if "Branch" in token or "Ring" in token
    }
    return sorted((wanted & selfies.get_semantic_robust_alphabet()) | structure)


def _tokens(smiles: str) -> list[str]:
    try:
        # SELFIES finds no Kekulé structure for some aromatic rings that RDKit can write as one.
        molecule = parsed(smiles)
        Chem.Kekulize(molecule, clearAromaticFlags=True)
        text = selfies.encoder(Chem.MolToSmiles(molecule))
    except (ValueError, RuntimeError, selfies.EncoderError):
        return []
    return list(selfies.split_selfies(text))


def _decoded(tokens: list[str]) -> str | None:
    with rdBase.BlockLogs():
        try:
            return selfies.decoder("".join(tokens)) or None
        except selfies.DecoderError:
            return None

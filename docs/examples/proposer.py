"""A proposer: homologues, each the best molecule so far with one more carbon at its beginning."""

from collections.abc import Sequence

import numpy as np

from sciwm.discovery.planners.proposers.novelty import Novelty
from sciwm.discovery.planners.proposers.population import Population
from sciwm.discovery.planners.proposers.proposer import Scored
from sciwm.discovery.problem.hypothesis import Candidate

TRIES = 20
"""For each candidate that is asked for, before there seem to be no more."""


class Homologues:
    """Lengthens good molecules.

    Args:
        start: SMILES.
        max_heavy: Largest candidate, in heavy atoms.
    """

    name = "homologues"

    def __init__(self, start: Sequence[str], max_heavy: int = 20):
        self._best = Population(start, size=10)
        self._novelty = Novelty(max_heavy)
        self._novelty.remember(self._best.ranked())

    def ask(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """At most n different candidates; fewer where it runs dry."""
        found: list[Candidate] = []
        for _ in range(TRIES * n):
            parent = self._best.pick(rng)
            if parent is None or len(found) == n:
                break
            fresh = self._novelty.admit("C" + parent)  # sound, small enough and new, or None
            if fresh:
                found.append(Candidate(fresh, self.name, (parent,)))
        return found

    def tell(self, scored: Sequence[Scored]) -> None:
        """Good ones are lengthened next, whoever proposed them."""
        self._novelty.remember(one.candidate.smiles for one in scored)
        self._best.tell(scored)

"""A file of molecules as a source of candidates."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sciwm.discovery.planners.proposers.novelty import Novelty, canonical
from sciwm.discovery.planners.proposers.proposer import Scored
from sciwm.discovery.planners.proposers.records import LibraryRecord, read_library
from sciwm.discovery.problem.hypothesis import Candidate

__all__ = ["Library", "LibraryRecord", "read_library"]

SHUFFLED = 100_000
"""Rows; a smaller library is offered in random order, a larger one in the order of the file."""


MOST_PROBLEMS = 20
"""Rows whose problems are kept in words; all are counted."""


class Library:
    """Offers the molecules of a file that are not known yet.

    Memory grows with what was offered or told, not with the file. A campaign makes its proposers
    anew in every round, so that of a library too large to shuffle it sees the beginning: screen
    such a library first, and give the campaign the best of it.

    Args:
        path: As for `read_library`.
        smiles_column: As for `read_library`.
        max_heavy: Larger molecules are skipped.

    Attributes:
        skipped: Rows so far that hold no sound molecule.
        problems: What was wrong with the first of them, with their lines.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no library.
    """

    name = "library"

    def __init__(self, path: str | Path, smiles_column: str | None = None, max_heavy: int = 100):
        self._rows = read_library(path, smiles_column)
        self._waiting: deque[LibraryRecord] = deque()
        self._begun = False
        self._novelty = Novelty(max_heavy)
        self.skipped = 0
        self.problems: list[str] = []

    def ask(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """The next n molecules; fewer at the end of the file."""
        if not self._begun:
            self._begun = True
            self._fill(rng)
        found: list[Candidate] = []
        while len(found) < n:
            row = self._waiting.popleft() if self._waiting else next(self._rows, None)
            if row is None:
                break
            smiles = self._offered(row)
            if smiles:
                found.append(Candidate(smiles, self.name))
        return found

    def tell(self, scored: Sequence[Scored]) -> None:
        """Scores change nothing but what counts as known."""
        self._novelty.remember(one.candidate.smiles for one in scored)

    def _fill(self, rng: np.random.Generator) -> None:
        for row in self._rows:
            self._waiting.append(row)
            if len(self._waiting) == SHUFFLED:
                return
        rows = list(self._waiting)
        self._waiting = deque(rows[i] for i in rng.permutation(len(rows)))

    def _offered(self, row: LibraryRecord) -> str | None:
        problem = row.problem
        if problem is None:
            try:
                smiles = canonical(row.smiles)
            except (ValueError, RuntimeError) as error:
                problem = str(error)
            else:
                return self._novelty.admit(smiles)
        self.skipped += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"line {row.line}: {problem}")
        return None

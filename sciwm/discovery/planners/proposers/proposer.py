"""What a campaign needs of a source of ideas."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sciwm.discovery.problem.hypothesis import Candidate


@dataclass(frozen=True)
class Scored:
    """What became of a candidate.

    Attributes:
        candidate: As it was proposed.
        score: Of the objective, larger is better; None where it failed or was rejected.
        cost: Seconds of the reference spent on it.
    """

    candidate: Candidate
    score: float | None
    cost: float = 0.0


class Proposer(Protocol):
    """A source of candidates that may learn from their scores."""

    @property
    def name(self) -> str:
        """Under which its candidates are recorded."""

    def ask(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """At most n different candidates with canonical SMILES; fewer where it runs dry."""

    def tell(self, scored: Sequence[Scored]) -> None:
        """Scores of candidates of any proposer, measured or imagined."""

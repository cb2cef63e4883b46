"""The best molecules so far, from which new ones are made."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from sciwm.discovery.planners.proposers.novelty import canonical
from sciwm.discovery.planners.proposers.proposer import Scored


class Population:
    """Molecules with the highest scores; those given at the start count until scores fill it.

    Args:
        start: SMILES.
        size: Most molecules kept.

    Raises:
        ValueError: If a SMILES at the start names no sound molecule.
    """

    def __init__(self, start: Iterable[str], size: int):
        if size < 1:
            raise ValueError(f"population {size=} must be at least 1")
        self.size = size
        self._unscored = list(dict.fromkeys(canonical(smiles) for smiles in start))
        self._scores: dict[str, float] = {}

    def tell(self, scored: Sequence[Scored]) -> None:
        """The last score of a molecule counts; failed ones are dropped."""
        told = {one.candidate.smiles: one.score for one in scored}
        self._unscored = [smiles for smiles in self._unscored if smiles not in told]
        for smiles, score in told.items():
            if score is None or not math.isfinite(score):
                self._scores.pop(smiles, None)
            else:
                self._scores[smiles] = score
        best = sorted(self._scores.items(), key=lambda item: (-item[1], item[0]))
        self._scores = dict(best[: self.size])

    def ranked(self) -> list[str]:
        """Best first, then those not scored yet."""
        return [*self._scores, *self._unscored][: max(self.size, len(self._unscored))]

    def pick(self, rng: np.random.Generator) -> str | None:
        """One molecule, by Zipf's law of its rank; None where there is none.

        Before the first score all are equally likely.
        """
        ranked = self.ranked()
        if not ranked:
            return None
        if not self._scores:
            return ranked[int(rng.integers(len(ranked)))]
        # Rank r (from 1) with probability log(1 + 1/r) / log(N + 1), close to 1 / r.
        return ranked[min(int((len(ranked) + 1) ** rng.random()), len(ranked)) - 1]

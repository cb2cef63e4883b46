"""The cross-entropy method: draw plans, keep the best, draw around those."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sciwm.core.bounds import require_counts
from sciwm.core.frame import Array
from sciwm.planning.controls import Controls
from sciwm.planning.planners.planner import Planner, Round, best_of, drawn

NARROWEST = 0.02
"""Standard deviation below which a search would see nothing new."""


@dataclass(frozen=True)
class CrossEntropy(Planner):
    """A normal distribution for each number, fitted again and again to the best plans (Rubinstein & Kroese,
    The Cross-Entropy Method, Springer 2004, algorithm 4.1), some of which are tried again with the next
    (Pinneri et al., arXiv:2008.06389, section 3.3).

    Attributes:
        elites: Best plans of a round, to which the distributions are fitted.
        kept: Of them, how many are tried again with the next round.
    """

    elites: int = 8
    kept: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_counts(elites=self.elites)
        require_counts(0, kept=self.kept)
        if not max(2, self.kept) <= self.elites <= self.population or self.kept == self.population:
            raise ValueError(
                f"elites are two or more of the population of {self.population}, and no fewer than are kept "
                f"({self.kept}), which are not all; got {self.elites}"
            )

    def ask(self, history: Sequence[Round], controls: Controls, rng: np.random.Generator) -> Array:
        if not history:
            return drawn(self.population, controls, rng)
        last = history[-1]
        elites = last.plans[last.order[: self.elites]]
        spread = elites.std(axis=0).clip(min=NARROWEST)
        kept = best_of([last], self.kept) if self.kept else elites[:0]
        noise = rng.standard_normal((self.population - len(kept), *controls.shape))
        return np.concatenate([kept, (elites.mean(axis=0) + spread * noise).clip(0.0, 1.0)])

"""Model-predictive path-integral control: draw plans, weigh them by what came of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sciwm.core.bounds import require_counts, require_positive
from sciwm.core.frame import Array
from sciwm.planning.controls import Controls
from sciwm.planning.planners.planner import Planner, Round, drawn

WIDTHS = (0.05, 0.5)
"""Between which standard deviations are kept."""


@dataclass(frozen=True)
class PathIntegral(Planner):
    """A normal distribution for each number, moved to the mean of the best plans weighted by
    exp(τ (merit - best) / spread of their merits) (Williams et al., arXiv:1509.01149, equation 25; elites and
    bounds of widths as Hansen et al., arXiv:2203.04955, algorithm 1).

    Attributes:
        elites: Best plans of a round, which have a weight.
        sharpness: τ.
    """

    elites: int = 16
    sharpness: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_counts(elites=self.elites)
        require_positive(sharpness=self.sharpness)
        if not 2 <= self.elites <= self.population:
            raise ValueError(
                f"elites are two or more of the population of {self.population}, got {self.elites}"
            )

    def ask(self, history: Sequence[Round], controls: Controls, rng: np.random.Generator) -> Array:
        if not history:
            return drawn(self.population, controls, rng)
        last = history[-1]
        rows = last.order[: self.elites]
        # A plan of which more runs are lost than of the best has no part.
        rows = rows[last.lost[rows] == last.lost[rows[0]]]
        plans, merits = last.plans[rows], last.merits[rows]
        away = np.zeros(len(rows)) if np.isinf(merits[0]) else merits - merits[0]
        scale = max(float(away[np.isfinite(away)].std()), 1e-12)
        weights = np.exp(self.sharpness * away / scale)
        weights /= weights.sum()
        mean = np.tensordot(weights, plans, axes=1)
        width = np.sqrt(np.tensordot(weights, (plans - mean) ** 2, axes=1)).clip(*WIDTHS)
        plans = mean + width * rng.standard_normal((self.population, *controls.shape))
        plans[0] = mean
        return plans.clip(0.0, 1.0)

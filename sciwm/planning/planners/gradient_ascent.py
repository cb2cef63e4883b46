"""Gradient ascent: each plan is changed in the direction in which its return grows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sciwm.core.bounds import require_positive
from sciwm.core.frame import Array
from sciwm.planning.controls import Controls, Knobs
from sciwm.planning.planners.planner import Planner, Round, drawn

DECAY = 0.9, 0.999
"""Of the means of gradients and of their squares (Kingma & Ba, arXiv:1412.6980, algorithm 1)."""


@dataclass(frozen=True)
class GradientAscent(Planner):
    """Plans drawn at random, each of which climbs by Adam along gradients through the rollout.

    Attributes:
        rate: Usual change of a number in a round, where a range is 1.
    """

    population: int = 16
    rounds: int = 16
    rate: float = 0.05
    uses_gradients = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(rate=self.rate)

    def require_fitting(self, controls: Controls) -> None:
        """Raises ValueError unless what is chosen can change by little."""
        if not isinstance(controls, Knobs):
            raise ValueError(
                "gradient ascent changes numbers by little, and a menu has none; plan with Tree, or with "
                "CrossEntropy"
            )

    def ask(self, history: Sequence[Round], controls: Controls, rng: np.random.Generator) -> Array:
        if not history:
            return drawn(self.population, controls, rng)
        mean, square = np.zeros_like(history[0].plans), np.zeros_like(history[0].plans)
        for one in history:
            assert one.gradients is not None
            mean = DECAY[0] * mean + (1.0 - DECAY[0]) * one.gradients
            square = DECAY[1] * square + (1.0 - DECAY[1]) * one.gradients**2
        mean = mean / (1.0 - DECAY[0] ** len(history))
        square = square / (1.0 - DECAY[1] ** len(history))
        change = self.rate * mean / np.maximum(np.sqrt(square), 1e-300)
        return np.asarray((history[-1].plans + change).clip(0.0, 1.0))

"""Plans drawn at random: what every other way of searching is to be compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sciwm.core.frame import Array
from sciwm.planning.controls import Controls
from sciwm.planning.planners.planner import Planner, Round, drawn


@dataclass(frozen=True)
class RandomSearch(Planner):
    """Every number anywhere between its ends."""

    def ask(self, history: Sequence[Round], controls: Controls, rng: np.random.Generator) -> Array:
        return drawn(self.population, controls, rng)

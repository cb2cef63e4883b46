"""How plans are found: what to try next, given all that was tried."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from sciwm.core.bounds import require_counts
from sciwm.core.frame import Array
from sciwm.planning.controls import Controls


@dataclass(frozen=True, eq=False)
class Round:
    """Plans that were tried together, and how good they were.

    Attributes:
        plans: (P, stages, size).
        merits: (P,) larger is better, of those runs that count; -inf where in some world none did.
        lost: (P,) runs that did not count. Plans are ranked by these first.
        gradients: (P, stages, size) derivatives of the merits by the plans; None where no planner asked.
    """

    plans: Array
    merits: Array
    lost: Array
    gradients: Array | None = None

    @property
    def order(self) -> NDArray[np.int64]:
        """(P,) numbers of the plans, best first."""
        return np.lexsort((-self.merits, self.lost))

    @property
    def best(self) -> float:
        """The merit of the best plan."""
        return float(self.merits[self.order[0]])


@dataclass(frozen=True, kw_only=True)
class Planner(ABC):
    """A way to search, told in rounds. It keeps nothing in mind: what it tries follows from what was tried.

    Attributes:
        population: Plans in a round.
        rounds: How many.
        uses_gradients: Whether rounds must tell the derivatives of merits.
    """

    uses_gradients: ClassVar[bool] = False
    population: int = 64
    rounds: int = 8

    def __post_init__(self) -> None:
        require_counts(population=self.population, rounds=self.rounds)

    def require_fitting(self, controls: Controls) -> None:
        """Raises ValueError if it cannot choose such numbers."""
        return

    @abstractmethod
    def ask(self, history: Sequence[Round], controls: Controls, rng: np.random.Generator) -> Array:
        """(population, stages, size) plans to try next, from 0 to 1; fewer, or none, where all was tried.

        Args:
            controls: What there is to choose.
            rng: For this round.
        """


def drawn(count: int, controls: Controls, rng: np.random.Generator) -> Array:
    """(count, stages, size) plans at random, each number anywhere between its ends.

    Neighbouring stages resemble each other, from not at all to nearly completely in different plans: what
    changes from stage to stage only shakes a system, and leads it nowhere (Pinneri et al.,
    arXiv:2008.06389, section 3.1).
    """
    stages, size = controls.shape
    noise = rng.standard_normal((count, stages, size))
    alike = rng.random((count, 1))
    for stage in range(1, stages):
        noise[:, stage] = alike * noise[:, stage - 1] + np.sqrt(1 - alike**2) * noise[:, stage]
    return np.asarray(ndtr(noise))


def best_of(history: Sequence[Round], count: int) -> Array:
    """(count, stages, size) the best plans, best first; fewer where fewer differ."""
    plans, merits, lost = (
        np.concatenate([getattr(one, name) for one in history])
        for name in ("plans", "merits", "lost")
    )
    found: list[Array] = []
    for k in Round(plans, merits, lost).order:
        if not any(np.array_equal(plans[k], other) for other in found):
            found.append(plans[k])
        if len(found) == count:
            break
    return np.stack(found)

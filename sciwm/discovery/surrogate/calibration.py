"""Intervals that cover what they say, made from how wrong a model has been before.

A model's spread ranks molecules well and states sizes badly. Conformal prediction keeps the ranking
and takes the size from residuals |measured - mean| / spread of molecules that the model had not
learnt (Vovk et al. 2005; Lei et al. 2018). Where a campaign chooses its own molecules, and so shifts
away from those it knows, the level is adapted to the misses it makes (Gibbs and Candès 2021).
"""

import abc
import math
from collections import deque

import numpy as np
from scipy.special import ndtri

from sciwm.core.frame import Array

NORMAL_90 = float(ndtri(0.95))
"""Half width of the 90 % interval of a normal distribution, in standard deviations."""

_WIDENED = 3.0
"""What the Gaussian interval is multiplied by while residuals are too few to say better."""

_NARROWEST = 0.05
"""Spreads that an interval reaches to either side at least: a lucky model stays refutable."""


class Intervals(abc.ABC):
    """Turns predictions of one outcome into intervals, and learns from measurements."""

    @abc.abstractmethod
    def interval(self, mean: Array, spread: Array) -> tuple[Array, Array]:
        """Lower and upper ends, (N,) each; of positive width; NaN where a prediction is.

        Args:
            mean, spread: (N,) predictions of molecules not yet learnt, in the outcome's unit.
        """

    @abc.abstractmethod
    def update(self, mean: Array, spread: Array, measured: Array) -> None:
        """Takes in what became of predictions; those without a finite measurement are passed over.

        Args:
            mean, spread: (N,) as they were before the model learnt the measurements.
            measured: (N,).
        """


class Conformal(Intervals):
    """Split-conformal intervals: right on average for molecules like those they were made from.

    With n residuals the half width is the spread times the ceil((n + 1) * level)-th smallest of
    them. Where there is none of that rank, as with fewer than 9 residuals at level 0.9, the true
    answer is an infinite interval, which says nothing; instead it is three times the Gaussian
    interval, or one and a half times the largest residual if that is wider.

    Args:
        level: Share of measurements that intervals are to hold.
        smallest: Spread below which a model is not believed, in the outcome's unit.
    """

    def __init__(self, level: float = 0.9, smallest: float = 1e-9):
        self.level = _checked(level)
        self._smallest = smallest
        self._residuals: list[float] = []

    def interval(self, mean: Array, spread: Array) -> tuple[Array, Array]:
        return _around(mean, spread, _quantile(self._residuals, self.level), self._smallest)

    def update(self, mean: Array, spread: Array, measured: Array) -> None:
        self._residuals += _residuals(mean, spread, measured, self._smallest)


class AdaptiveConformal(Intervals):
    """Conformal intervals for a stream that drifts: recent residuals, and a level that reacts.

    Each measurement outside the interval that it would have had raises the level asked of the
    recent residuals, each one inside lowers it, so that over a long stream the share inside comes
    to `level` whatever the drift (Gibbs and Candès 2021, equation 2).

    Args:
        level: Share of measurements that intervals are to hold.
        window: Residuals that count.
        rate: Change of the level for each miss.
        smallest: Spread below which a model is not believed, in the outcome's unit.
    """

    def __init__(
        self,
        level: float = 0.9,
        window: int = 100,
        rate: float = 0.01,
        smallest: float = 1e-9,
    ):
        self.level = _checked(level)
        self._rate = rate
        self._smallest = smallest
        self._asked = level
        self._recent: deque[float] = deque(maxlen=window)

    def seed(self, mean: Array, spread: Array, measured: Array) -> None:
        """Starts from residuals that are no stream, such as those of leaving one out."""
        self._recent.extend(_residuals(mean, spread, measured, self._smallest))

    def interval(self, mean: Array, spread: Array) -> tuple[Array, Array]:
        return _around(mean, spread, self._factor(), self._smallest)

    def update(self, mean: Array, spread: Array, measured: Array) -> None:
        # One after the other even within a batch: its first misses widen what its last ones meet,
        # so that a large batch cannot throw the level off.
        for residual in _residuals(mean, spread, measured, self._smallest):
            missed = residual > self._factor()
            self._asked += self._rate * (missed - (1 - self.level))
            self._recent.append(residual)

    def _factor(self) -> float:
        # Above 1 the method asks for everything; below, it must stay an interval.
        return _quantile(list(self._recent), float(np.clip(self._asked, 0.5, 1.0)))


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, got {level=}")
    return level


def _residuals(mean: Array, spread: Array, measured: Array, smallest: float) -> list[float]:
    found = np.abs(measured - mean) / np.maximum(spread, smallest)
    return [float(one) for one in found[np.isfinite(found)]]


def _quantile(residuals: list[float], level: float) -> float:
    # The small number undoes rounding, as in 10 * 0.9 = 9.000000000000002.
    rank = math.ceil((len(residuals) + 1) * level - 1e-9)
    if rank <= len(residuals):
        return max(_NARROWEST, float(np.partition(residuals, rank - 1)[rank - 1]))
    gaussian = float(ndtri(0.5 + min(level, 0.99) / 2))
    return max(_WIDENED * gaussian, 1.5 * max(residuals, default=0.0))


def _around(mean: Array, spread: Array, factor: float, smallest: float) -> tuple[Array, Array]:
    half = factor * np.maximum(spread, smallest)
    return mean - half, mean + half

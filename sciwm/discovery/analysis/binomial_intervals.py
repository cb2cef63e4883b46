"""Shares and ratios of shares, with intervals that hold for few trials and for none that succeed."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.stats import beta, chi2

LEVEL = 0.95
"""Confidence of all intervals here."""


@dataclass(frozen=True)
class Share:
    """Successes among trials.

    Attributes:
        successes: A fraction where one trial has several parts.
        trials: How many.
        low: Lower end of the Clopper-Pearson interval; 0 without trials.
        high: Upper end; 1 without trials.
    """

    successes: float
    trials: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """NaN without trials."""
        return self.successes / self.trials if self.trials else math.nan


@dataclass(frozen=True)
class Ratio:
    """One share over another; NaN and unbounded where nothing is known."""

    value: float
    low: float
    high: float


def share(successes: float, trials: int) -> Share:
    """With the interval of Clopper and Pearson (Biometrika 26, 404, 1934), never too narrow.

    Raises:
        ValueError: If there are more successes than trials, or fewer than none.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes=} of {trials=} is no share; it must lie in 0..{trials}")
    tail = (1 - LEVEL) / 2
    missed = trials - successes
    low = float(beta.ppf(tail, successes, missed + 1)) if successes > 0 else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, missed)) if missed > 0 else 1.0
    return Share(successes, trials, low, high)


def ratio(first: Share, second: Share) -> Ratio:
    """The first share over the second, with Koopman's interval (Biometrics 40, 513, 1984).

    The interval holds every ratio that a chi-square test would not reject, so it needs no
    continuity correction: it ends at infinity if the second share is zero, at zero if the first is.
    """
    x, m, y, n = first.successes, first.trials, second.successes, second.trials
    if not (m and n) or x == y == 0:
        return Ratio(math.nan, 0.0, math.inf)
    value = (x / m) / (y / n) if y else math.inf
    critical = float(chi2.ppf(LEVEL, 1))

    def excess(logarithm: float) -> float:
        return _chi_square(math.exp(logarithm), x, m, y, n) - critical

    low = 0.0 if x == 0 else _crossing(excess, math.log(value) if y else 30.0, -1.0)
    high = math.inf if y == 0 else _crossing(excess, math.log(value) if x else -30.0, 1.0)
    return Ratio(value, low, high)


def _chi_square(theta: float, x: float, m: int, y: float, n: int) -> float:
    """Pearson's statistic of x of m and y of n, fitted under the constraint that p = theta q."""
    b = theta * (m + y) + x + n
    # The smaller root of the likelihood's quadratic, in the form that does not cancel.
    q = 2 * (x + y) / (b + math.sqrt(max(b * b - 4 * theta * (m + n) * (x + y), 0.0)))
    p = theta * q
    expected = ((x, m * p), (m - x, m * (1 - p)), (y, n * q), (n - y, n * (1 - q)))
    # Where nothing is expected, the constraint leaves nothing to observe.
    return sum((seen - mean) ** 2 / mean for seen, mean in expected if mean > 1e-12)


def _crossing(excess: Callable[[float], float], start: float, direction: float) -> float:
    """Where the test begins to reject, sought from the best ratio outwards on a logarithmic scale."""
    inner, outer = start, start + direction
    while excess(outer) < 0:
        inner, outer = outer, outer + direction
    return math.exp(brentq(excess, inner, outer, xtol=1e-10))

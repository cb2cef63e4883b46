"""Error metrics of predictions against references, and their units as data."""

from dataclasses import dataclass, replace

import numpy as np

from sciwm.core.frame import Array
from sciwm.core.units import MOLECULAR, UnitSystem

METRIC_UNITS = {
    "energy": ("meV", 1e3),
    "energy per atom": ("meV/atom", 1e3),
    "force": ("meV/Å", 1e3),
    "stress": MOLECULAR.reported_stress,
    "position": ("Å", 1.0),
    "squared position": ("Å²", 1.0),
}
"""What each quantity is reported in, and how many of those make one of Å, eV, eV/Å, eV/Å³.
Reduced quantities are reported as they are, without a unit."""

KEPT = 1_000_000
"""Values kept for percentiles and plots; beyond that a random sample stands for all of them."""


def reported_in(quantity: str, units: UnitSystem) -> tuple[str, float]:
    """Unit and factor for one quantity of `METRIC_UNITS` in a unit system."""
    return METRIC_UNITS[quantity] if units is MOLECULAR else ("", 1.0)


@dataclass(frozen=True)
class Errors:
    """How far predictions lie from references.

    Attributes:
        count: Values compared.
        rmse: Root of the mean squared error.
        mae: Mean absolute error.
        p95: 95th percentile of the absolute error.
        maximum: Largest absolute error.
        r2: Coefficient of determination 1 - Σ (p - r)² / Σ (r - mean r)²; NaN where the reference
            does not vary.
    """

    count: int
    rmse: float
    mae: float
    p95: float
    maximum: float
    r2: float

    def scaled(self, factor: float) -> "Errors":
        """The same in a unit `factor` times smaller."""
        return replace(
            self,
            rmse=factor * self.rmse,
            mae=factor * self.mae,
            p95=factor * self.p95,
            maximum=factor * self.maximum,
        )


class Comparison:
    """Predictions beside references, added piece by piece in bounded memory.

    Counts, means and the maximum are exact however many values come; the percentile is too, until
    there are more than `KEPT`.
    """

    def __init__(self) -> None:
        self.count = 0
        self._absolute = 0.0
        self._squared = 0.0
        self._largest = 0.0
        self._mean = 0.0
        self._spread = 0.0
        self._share = 1.0  # of the values that are kept
        self._random = np.random.default_rng(0)
        self._pieces: list[Array] = []
        self._kept = 0

    def add(self, predicted: Array, reference: Array) -> None:
        """Any shape, the same for both."""
        p, r = np.ravel(predicted).astype(np.float64), np.ravel(reference).astype(np.float64)
        if p.size == 0:
            return
        error = np.abs(p - r)
        self._absolute += float(error.sum())
        self._squared += float((error**2).sum())
        self._largest = max(self._largest, float(error.max()))
        # Means and spreads of two sets combine as in Chan, Golub & LeVeque 1983 (STAN-CS-79-773).
        mean, total = float(r.mean()), self.count + r.size
        self._spread += float(((r - mean) ** 2).sum())
        self._spread += (mean - self._mean) ** 2 * self.count * r.size / total
        self._mean += (mean - self._mean) * r.size / total
        self.count = total
        self._keep(np.stack([p, r]))

    @property
    def sample(self) -> tuple[Array, Array]:
        """(K,) predictions and (K,) references: all of them, or a random sample."""
        pairs = np.concatenate(self._pieces, axis=1) if self._pieces else np.zeros((2, 0))
        return pairs[0], pairs[1]

    @property
    def errors(self) -> Errors:
        """Raises ValueError if nothing was compared."""
        if self.count == 0:
            raise ValueError("nothing was compared, so there is no error to state")
        return Errors(
            count=self.count,
            rmse=float(np.sqrt(self._squared / self.count)),
            mae=self._absolute / self.count,
            p95=float(np.percentile(np.abs(np.subtract(*self.sample)), 95)),
            maximum=self._largest,
            r2=1.0 - self._squared / self._spread if self._spread > 0.0 else float("nan"),
        )

    def _keep(self, pairs: Array) -> None:
        if self._share < 1.0:
            pairs = pairs[:, self._random.random(pairs.shape[1]) < self._share]
        self._pieces.append(pairs)
        self._kept += pairs.shape[1]
        while self._kept > KEPT:
            whole = np.concatenate(self._pieces, axis=1)
            self._pieces = [whole[:, self._random.random(whole.shape[1]) < 0.5]]
            self._kept = self._pieces[0].shape[1]
            self._share *= 0.5


def compare(predicted: Array, reference: Array) -> Errors:
    """The errors of all values at once."""
    whole = Comparison()
    whole.add(predicted, reference)
    return whole.errors

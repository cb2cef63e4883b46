"""Values of an outcome as text, all with the same decimals, so that they can be compared at a glance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sciwm.discovery.analysis.binomial_intervals import Ratio, Share
from sciwm.discovery.problem.hypothesis import Hypothesis, Measurement, Prediction
from sciwm.report.numerals import plain

UNKNOWN = "-"


@dataclass(frozen=True)
class Amounts:
    """Writes values of one outcome.

    Attributes:
        unit: Of the outcome.
        decimals: After the point; None where values are so small that each has its own exponent.
    """

    unit: str
    decimals: int | None

    @staticmethod
    def of(hypotheses: Sequence[Hypothesis], name: str, unit: str) -> "Amounts":
        """With two digits of the typical half-width of an interval, or of the values' spread."""
        predictions = [h.predictions[name] for h in hypotheses if name in h.predictions]
        widths = np.array([(p.upper - p.lower) / 2 for p in predictions])
        widths = widths[np.isfinite(widths) & (widths > 0)]
        values = [h.measurements[name].value for h in hypotheses if name in h.measurements]
        finite = np.array([value for value in values if math.isfinite(value)])
        scale = (
            float(np.median(widths)) if len(widths) else float(finite.std()) if len(finite) else 0
        )
        if scale <= 0:
            return Amounts(unit, 2)
        decimals = 1 - math.floor(math.log10(scale))
        return Amounts(unit, max(decimals, 0) if decimals <= 6 else None)

    def number(self, value: float) -> str:
        if not math.isfinite(value):
            return UNKNOWN
        return plain(value) if self.decimals is None else f"{value:,.{self.decimals}f}"

    def with_unit(self, text: str) -> str:
        return f"{text} {self.unit}".rstrip()

    def measured(self, measurement: Measurement | None) -> str:
        """With its error of sampling, where there is one."""
        if measurement is None:
            return UNKNOWN
        error = f" ± {self.number(measurement.spread)}" if measurement.spread > 0 else ""
        return self.number(measurement.value) + error

    def interval(self, prediction: Prediction) -> str:
        low, high = prediction.lower, prediction.upper
        if math.isnan(low) or math.isnan(high):
            return "interval unknown"
        if math.isinf(low) and math.isinf(high):
            return "no bounds"
        if math.isinf(low):
            return f"below {self.number(high)}"
        if math.isinf(high):
            return f"above {self.number(low)}"
        return f"{self.number(low)} to {self.number(high)}"

    def predicted(self, prediction: Prediction | None) -> str:
        """The mean with its interval."""
        if prediction is None:
            return UNKNOWN
        return f"{self.number(prediction.mean)} ({self.interval(prediction)})"


def percent(value: float) -> str:
    """A share, written as percent."""
    return f"{100 * value:.0f} %" if math.isfinite(value) else UNKNOWN


def share_interval(share: Share) -> str:
    """The interval of a share, written as percent."""
    return f"{100 * share.low:.0f} to {100 * share.high:.0f} %"


def ratio_interval(ratio: Ratio) -> str:
    """The interval of a ratio; where it has no upper end, what it lies above."""
    if math.isinf(ratio.high):
        return f"above {plain(ratio.low)}" if ratio.low > 0 else "unknown"
    return f"{plain(ratio.low)} to {plain(ratio.high)}"

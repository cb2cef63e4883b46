"""Means and slopes of correlated series, with errors that know about the correlation.

Neighbouring frames resemble each other, so the scatter of frames over the square root of their
number is far too small an error. Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989): averaging
neighbours pairwise, again and again, leaves the error of the mean alone while the averages become
independent; the estimate rises with each level and then stays.
"""

import numpy as np

from sciwm.core.frame import Array

FEWEST_BLOCKS = 8
"""Blocking stops before fewer are left: their scatter would be known worse than to a third."""


def block_errors(series: Array) -> tuple[Array, Array]:
    """(L, ...) standard error of the mean as estimated at each blocking level, and its own error.

    Args:
        series: (T, ...), evenly spaced in time, T at least 2.
    """
    blocks = np.asarray(series, dtype=np.float64)
    if len(blocks) < 2:
        raise ValueError(f"an error bar needs at least 2 frames, got {len(blocks)}")
    errors, uncertainties = [], []
    while True:
        n = len(blocks)
        error = np.sqrt(blocks.var(axis=0) / (n - 1))
        errors.append(error)
        uncertainties.append(error / np.sqrt(2 * (n - 1)))
        if n // 2 < FEWEST_BLOCKS:
            return np.stack(errors), np.stack(uncertainties)
        blocks = 0.5 * (blocks[0 : n // 2 * 2 : 2] + blocks[1 : n // 2 * 2 : 2])


def standard_error(series: Array) -> Array:
    """(...) the error of the mean of a correlated series (T, ...), at the blocking plateau.

    The plateau begins at the first level that no later level exceeds significantly. Where the
    estimate still rises at the last level, the true error is larger still.
    """
    errors, uncertainties = block_errors(series)
    lower = errors - uncertainties
    # The highest lower bound among the levels from each one on.
    later = np.maximum.accumulate(lower[::-1], axis=0)[::-1]
    first = np.argmax(errors >= later, axis=0)
    return np.take_along_axis(errors, first[None], axis=0)[0]


def mean_with_error(series: Array) -> tuple[Array, Array]:
    """Mean (...) over time of a series (T, ...), and its standard error; NaN for one frame."""
    series = np.asarray(series, dtype=np.float64)
    mean = series.mean(axis=0)
    if len(series) < 2:
        return mean, np.full_like(mean, np.nan)
    return mean, standard_error(series)


def slope_with_error(x: Array, y: Array) -> tuple[float, float]:
    """Least-squares slope of y (T,) against x (T,), and its error for correlated residuals.

    The textbook error is stretched by the square root of the residuals' statistical inefficiency.

    Raises:
        ValueError: If there are fewer than 3 points.
    """
    if len(x) < 3:
        raise ValueError(f"a slope with an error needs at least 3 points, got {len(x)}")
    centred = x - x.mean()
    spread = float((centred**2).sum())
    slope = float(centred @ y) / spread
    residual = y - y.mean() - slope * centred
    scatter = float((residual**2).sum())
    plain = np.sqrt(scatter / (len(x) - 2) / spread)
    if scatter == 0.0:
        return slope, 0.0
    uncorrelated = np.sqrt(residual.var() / (len(x) - 1))
    return slope, float(plain * max(1.0, float(standard_error(residual)) / uncorrelated))

"""A covariance between molecules as a weighted sum of fixed similarities, and how to weigh them.

Hyperparameters are fitted by the marginal likelihood (Rasmussen and Williams 2006, equations 5.8
and 5.9) under wide log-normal priors, which decide where ten molecules cannot.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from sciwm.core.frame import Array

JITTER = 1e-8
"""Of the diagonal, relative to the variance of the values: keeps copies of a molecule apart."""

NOISE = (np.log(0.03), 1.0)
"""Median and width of the prior of the unresolved variance, relative to that of the values."""

AMPLITUDE = (0.0, 1.5)
"""Likewise of each similarity's amplitude."""

SCALE = (np.log(1.5), 0.7)
"""Likewise of the length scale, in standard deviations of the features."""


@dataclass(frozen=True, eq=False)
class Similarities:
    """Between rows and columns of molecules: what the covariance is made of.

    Attributes:
        tanimoto: (N, M).
        products: (N, M) scalar products of standardised features, over their number; None without
            features.
        distances: (N, M) mean squared distances of standardised features; None without features.
    """

    tanimoto: Array
    products: Array | None = None
    distances: Array | None = None

    def covariance(self, logs: Array) -> Array:
        """(N, M), the noise aside."""
        total = np.exp(logs[1]) * self.tanimoto
        if self.products is not None and self.distances is not None:
            total = total + np.exp(logs[2]) * self.products
            total += np.exp(logs[3] - 0.5 * self.distances * np.exp(-2 * logs[4]))
        return total

    def take(self, rows: NDArray[np.int64]) -> "Similarities":
        """Between some of the molecules, where rows and columns are the same."""
        pick = np.ix_(rows, rows)
        if self.products is None or self.distances is None:
            return Similarities(self.tanimoto[pick])
        return Similarities(self.tanimoto[pick], self.products[pick], self.distances[pick])


def prior(similarities: Similarities) -> tuple[Array, Array]:
    """Medians and widths of the logarithms of the hyperparameters.

    They are the noise, the Tanimoto amplitude and, with features, the amplitudes of the linear and
    of the Gaussian part and the length scale of the latter.
    """
    each = [NOISE, AMPLITUDE]
    if similarities.products is not None:
        each += [AMPLITUDE, AMPLITUDE, SCALE]
    medians, widths = zip(*each, strict=True)
    return np.array(medians), np.array(widths)


@dataclass(frozen=True, eq=False)
class Solution:
    """The covariance of training molecules, factorised.

    Attributes:
        factor: (N, N) lower Cholesky factor.
        mean: Constant mean, the most likely one.
        weights: (N,) inverse covariance times the values' distances from the mean.
    """

    factor: Array
    mean: float
    weights: Array


def solve(similarities: Similarities, values: Array, logs: Array) -> Solution:
    """The posterior under given hyperparameters."""
    covariance = similarities.covariance(logs)
    covariance[np.diag_indices_from(covariance)] += np.exp(logs[0]) + JITTER
    factor = cho_factor(covariance, lower=True)
    ones = cho_solve(factor, np.ones(len(values)))
    mean = float(ones @ values / ones.sum())
    return Solution(np.tril(factor[0]), mean, cho_solve(factor, values - mean))


def loss(similarities: Similarities, values: Array, logs: Array) -> tuple[float, Array]:
    """Minus the log posterior of the hyperparameters, and its gradient.

    The constant mean is at its maximum for each of them, where it adds nothing to the gradient.
    """
    solution = solve(similarities, values, logs)
    distance = values - solution.mean
    medians, widths = prior(similarities)
    excess = (logs - medians) / widths
    value = 0.5 * distance @ solution.weights + np.log(np.diag(solution.factor)).sum()
    value += 0.5 * len(values) * np.log(2 * np.pi) + 0.5 * excess @ excess
    inverse = cho_solve((solution.factor, True), np.eye(len(values)))
    slope = 0.5 * (inverse - np.outer(solution.weights, solution.weights))
    gradient = [
        np.exp(logs[0]) * np.trace(slope),
        np.exp(logs[1]) * (slope * similarities.tanimoto).sum(),
    ]
    if similarities.products is not None and similarities.distances is not None:
        scaled = similarities.distances * np.exp(-2 * logs[4])
        curve = slope * np.exp(logs[3] - 0.5 * scaled)
        gradient += [
            np.exp(logs[2]) * (slope * similarities.products).sum(),
            curve.sum(),
            (curve * scaled).sum(),
        ]
    return float(value), np.array(gradient) + excess / widths


def fit_hyperparameters(similarities: Similarities, values: Array) -> Array:
    """The most probable logarithms of the hyperparameters, of three searches.

    Args:
        similarities: Among the training molecules.
        values: (N,) with mean 0 and variance 1.
    """
    medians, widths = prior(similarities)
    noisy, smooth = medians.copy(), medians.copy()
    noisy[0] += 2 * widths[0]
    smooth[0] -= 2 * widths[0]
    bounds = [(m - 4 * w, m + 4 * w) for m, w in zip(medians, widths, strict=True)]
    objective: Callable[[Array], tuple[float, Array]] = lambda logs: loss(  # noqa: E731
        similarities, values, logs
    )
    found = [
        minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds)
        for start in (medians, noisy, smooth)
    ]
    return min(found, key=lambda one: one.fun).x

"""Which molecules are worth a reference run, given draws of what their scores might be.

Everything here works on samples of the objective, so that any expression over any number of
outcomes, with its requirements, is treated alike: no formula of a particular posterior is used.
"""

import abc
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sciwm.core.frame import Array
from sciwm.discovery.problem.pareto import free_cells, reference_point
from sciwm.discovery.surrogate.fingerprints import Fingerprints, similarity


class Acquisition(abc.ABC):
    """A measure of how much a measurement is expected to be worth.

    Attributes:
        in_score_units: Whether it can be compared with measured scores.
    """

    in_score_units: ClassVar[bool] = False

    @abc.abstractmethod
    def score(self, samples: Array, measured: Array, rng: np.random.Generator) -> Array:
        """(N,) worth of N molecules, larger is better; -inf where nothing is known.

        Args:
            samples: (N, D, G) as `Objective.sample` draws them; -inf where a draw breaks a
                requirement, NaN where nothing is known.
            measured: (M, G) scores of what was measured and meets the requirements.
            rng: Of whatever the method leaves to chance.

        Raises:
            ValueError: If it cannot work with this number of goals.
        """


class Greedy(Acquisition):
    """The mean score."""

    in_score_units = True

    def score(self, samples: Array, measured: Array, rng: np.random.Generator) -> Array:
        return _rank_unknown_last(_filled(_single(samples)).mean(axis=1))


class UpperConfidence(Acquisition):
    """The mean score and some standard deviations (Srinivas et al. 2010).

    Args:
        beta: How many.
    """

    in_score_units = True

    def __init__(self, beta: float = 1.0):
        if not math.isfinite(beta):
            raise ValueError(f"beta must be a finite number of standard deviations, got {beta}")
        self.beta = beta

    def score(self, samples: Array, measured: Array, rng: np.random.Generator) -> Array:
        draws = _single(samples)
        # Draws that break a requirement lower the mean; they are no reason to be curious.
        kept = np.where(np.isneginf(draws), 0.0, draws)
        count = np.maximum(np.isfinite(draws).sum(axis=1), 1)
        centre = kept.sum(axis=1) / count
        squares = np.where(np.isneginf(draws), 0.0, (kept - centre[:, None]) ** 2)
        spread = np.sqrt(squares.sum(axis=1) / count)
        return _rank_unknown_last(_filled(draws).mean(axis=1) + self.beta * spread)


class ExpectedImprovement(Acquisition):
    """The mean of what draws gain over the best measured (Jones et al. 1998).

    Where no draw gains anything, minus the distance from the best measured to the best draw, so
    that hopeless molecules still have an order.
    """

    def score(self, samples: Array, measured: Array, rng: np.random.Generator) -> Array:
        draws = _single(samples)
        if not len(measured):
            return Greedy().score(samples, measured, rng)
        best = float(measured.max())
        gain = np.maximum(draws - best, 0).mean(axis=1)
        return _rank_unknown_last(np.where(gain == 0, draws.max(axis=1) - best, gain))


class Thompson(Acquisition):
    """One draw of each molecule, taken for the truth (Thompson 1933)."""

    in_score_units = True

    def score(self, samples: Array, measured: Array, rng: np.random.Generator) -> Array:
        draws = _single(samples)
        column = rng.integers(draws.shape[1], size=len(draws))
        return _rank_unknown_last(draws[np.arange(len(draws)), column])


class HypervolumeImprovement(Acquisition):
    """The mean growth of the volume that the measured front dominates (Emmerich et al. 2006).

    Exact for each draw, by the boxes that the front leaves free (Daulton et al. 2020); beyond two
    goals those come from BoTorch.

    Args:
        reference: (G,) scores not worth having, from where volume is counted; a little below the
            worst of the measured front where absent.
    """

    def __init__(self, reference: Array | Sequence[float] | None = None):
        self.reference = reference

    def score(self, samples: Array, measured: Array, rng: np.random.Generator) -> Array:
        goals = samples.shape[2]
        if goals < 2:
            raise ValueError("a hypervolume needs two goals or more; use ExpectedImprovement")
        if self.reference is not None:
            reference = np.asarray(self.reference, dtype=np.float64)
        elif len(measured):
            reference = reference_point(measured)
        else:
            finite = np.where(np.isfinite(samples), samples, np.nan)
            reference = np.nanmin(finite, axis=(0, 1))
        lower, upper = free_cells(measured, reference)
        gains = np.empty(samples.shape[:2])
        for start in range(0, len(samples), 256):  # bounds memory: draws by cells by goals
            block = samples[start : start + 256, :, None]
            sides = np.clip(np.minimum(block, upper) - lower, 0, None)
            gains[start : start + 256] = sides.prod(axis=-1).sum(axis=-1)
        return _rank_unknown_last(gains.mean(axis=1))


def choose(
    scores: Array,
    fingerprints: Fingerprints,
    q: int,
    diversity: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """At most q molecules, best first, each kept apart from those chosen before.

    One after the other, the largest `score - diversity * scale * similarity`: the similarity is
    Tanimoto's to the nearest one in the batch, the scale the distance from the median score to
    the best. Ties are broken at random; molecules of score -inf or NaN are never chosen.

    Args:
        scores: (N,).
        fingerprints: Of the N molecules.
        q: Size of the batch.
        diversity: What a copy of a chosen one loses, in units of the scale; 0 takes the best q.
        rng: Breaks ties.

    Returns:
        Indices in order of choice.
    """
    allowed = rng.permutation(np.flatnonzero(np.isfinite(scores)))
    if not len(allowed):
        return allowed
    left = scores[allowed].astype(np.float64)
    if diversity == 0 or q == 1:
        return allowed[np.argsort(-left, kind="stable")[:q]]
    scale = diversity * float(left.max() - np.median(left))
    nearest = np.zeros(len(allowed))
    prints = fingerprints[allowed]
    batch: list[int] = []
    for _ in range(min(q, len(allowed))):
        place = int(np.argmax(left - scale * nearest))
        batch.append(place)
        left[place] = -np.inf
        nearest = np.maximum(nearest, similarity(prints, prints[place : place + 1])[:, 0])
    return allowed[batch]


def random_controls(n: int, q: int, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Molecules drawn uniformly, to tell what the model's choice is worth.

    A share of the batch that is not whole is rounded up or down at random, with the share as its
    mean, so that small batches have controls too.

    Args:
        n: Molecules that passed the gates.
        q: Size of the batch.
        share: Of it, between 0 and 1.

    Returns:
        Different indices below n.

    Raises:
        ValueError: If the share is none.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of random controls lies between 0 and 1, got {share=}")
    count = int(share * q + rng.random())
    return rng.choice(n, size=min(count, n), replace=False).astype(np.int64)


def _single(samples: Array) -> Array:
    if samples.shape[2] != 1:
        raise ValueError(
            f"the objective has {samples.shape[2]} goals; use HypervolumeImprovement, or weigh "
            "them into one"
        )
    return samples[:, :, 0]


def _filled(draws: Array) -> Array:
    """Draws that break a requirement count as the worst of all draws that do not."""
    broken = np.isneginf(draws)
    sound = draws[np.isfinite(draws)]
    return np.where(broken, sound.min(), draws) if broken.any() and len(sound) else draws


def _rank_unknown_last(scores: Array) -> Array:
    return np.where(np.isnan(scores), -np.inf, scores)

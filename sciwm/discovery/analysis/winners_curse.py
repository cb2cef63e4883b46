"""What became of the candidates a campaign expected to be best.

A search that trusts its model finds the model's errors: whatever was predicted too well comes out on
top. So the favourites are counted twice, by predicted mean, and with the guard that ranks by the
score one spread to the worse and leaves out what lies outside the model's domain. What a molecule
scores at the ends of its intervals is asked of the objective itself, as a `Merit`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from sciwm.core.frame import Array
from sciwm.discovery.analysis.binomial_intervals import Share, share
from sciwm.discovery.analysis.scorecard import measured_scores, order, scored, verdicts
from sciwm.discovery.problem.hypothesis import Hypothesis, Prediction
from sciwm.discovery.problem.scoring import Merit

FAVOURED = 0.2
"""The favourites are this share of the chosen that were measured."""


@dataclass(frozen=True)
class Favourites:
    """Those among the chosen that were expected to be best.

    Attributes:
        smiles: Best first.
        worse: Measured below the worst score that the predicted intervals allow.
        outside: Measured outside one of the predicted intervals, for better or worse.
    """

    smiles: tuple[str, ...]
    worse: Share
    outside: Share


def favourites(hypotheses: Sequence[Hypothesis], merit: Merit, names: Sequence[str]) -> Favourites:
    """The chosen with the best predicted means.

    Args:
        names: The predicted outcomes that the merit asks for.
    """
    judged = _judged(hypotheses, names)
    return _fate(judged, _expected(judged, merit, names), _count(judged), merit, names)


def guarded_favourites(
    hypotheses: Sequence[Hypothesis], merit: Merit, names: Sequence[str]
) -> Favourites:
    """Equally many of the chosen, by their score one spread to the worse, flagged ones left out.

    Only what was measured can be ranked again, so this shows what the guard would have favoured
    among the chosen, not what a campaign run with it would have chosen.
    """
    judged = _judged(hypotheses, names)
    safe = [h for h in judged if not any(p.flag for p in h.predictions.values())]
    cautious = _worst(safe, merit, names, lambda p: p.mean - p.spread, lambda p: p.mean + p.spread)
    return _fate(safe, cautious, _count(judged), merit, names)


def _judged(hypotheses: Sequence[Hypothesis], names: Sequence[str]) -> list[Hypothesis]:
    """The chosen that were predicted and measured, with intervals to compare with."""
    chosen = [h for h in hypotheses if h.decision == "chosen"]
    return [h for h in scored(chosen) if verdicts(h, names)]


def _count(judged: Sequence[Hypothesis]) -> int:
    return math.ceil(FAVOURED * len(judged))


def _expected(hypotheses: Sequence[Hypothesis], merit: Merit, names: Sequence[str]) -> Array:
    """(N, G) scores of the predicted means."""
    smiles = [h.candidate.smiles for h in hypotheses]
    return np.asarray(merit(smiles, _values(hypotheses, names, lambda p: p.mean)), dtype=float)


def _values(
    hypotheses: Sequence[Hypothesis], names: Sequence[str], part: Callable[[Prediction], float]
) -> dict[str, Array]:
    """(N,) of each outcome, NaN where it was not predicted."""
    return {
        name: np.array(
            [part(h.predictions[name]) if name in h.predictions else math.nan for h in hypotheses]
        )
        for name in names
    }


def _worst(
    hypotheses: Sequence[Hypothesis],
    merit: Merit,
    names: Sequence[str],
    lower: Callable[[Prediction], float],
    upper: Callable[[Prediction], float],
) -> Array:
    """(N, G) worst scores over all combinations of ends of intervals; NaN without a mean.

    Exact where a score rises, falls, or has one peak in each outcome, as that of a target has.
    """
    smiles = [h.candidate.smiles for h in hypotheses]
    expected = _expected(hypotheses, merit, names)
    ends = [_values(hypotheses, names, part) for part in (lower, upper)]
    ranging = [k for k in names if not np.array_equal(ends[0][k], ends[1][k], equal_nan=True)]
    worst = expected
    for corner in product(ends, repeat=len(ranging)):
        values = ends[0] | {name: end[name] for name, end in zip(ranging, corner, strict=True)}
        with np.errstate(all="ignore"):
            score = np.asarray(merit(smiles, values), dtype=float)
        # An interval without ends, or with one the objective is not defined at, promises nothing.
        worst = np.minimum(worst, np.where(np.isnan(score), -np.inf, score))
    return np.where(np.isnan(expected), np.nan, worst)


def _fate(
    hypotheses: Sequence[Hypothesis], scores: Array, count: int, merit: Merit, names: Sequence[str]
) -> Favourites:
    """What became of those with the best scores; unknown scores come last."""
    if not hypotheses:
        return Favourites((), share(0, 0), share(0, 0))
    best = [hypotheses[k] for k in order(np.where(np.isnan(scores), -np.inf, scores))[:count]]
    promised = _worst(best, merit, names, lambda p: p.lower, lambda p: p.upper)
    known = ~np.isnan(promised).any(axis=1)
    worse = (measured_scores(best) < promised).any(axis=1) & known
    outside = sum(not all(verdicts(h, names)) for h in best)
    return Favourites(
        tuple(h.candidate.smiles for h in best),
        share(int(worse.sum()), int(known.sum())),
        share(outside, len(best)),
    )

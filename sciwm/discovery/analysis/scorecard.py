"""How far a campaign's predictions could be trusted, and what they were worth.

Pure functions over hypotheses. Selection makes the chosen look better than they are (the winner's
curse), so trust is best judged by random controls.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from sciwm.core.frame import Array
from sciwm.discovery.analysis.binomial_intervals import Ratio, Share, ratio, share
from sciwm.discovery.problem.hypothesis import Hypothesis, Measurement, Prediction, Stage
from sciwm.discovery.problem.pareto import dominators

NOMINAL = 0.9
"""Share of measurements that the calibrated intervals promise to hold."""

HIT = 0.1
"""A hit is bettered by fewer than this share of all that was measured."""


@dataclass(frozen=True)
class Enrichment:
    """How much more often a chosen candidate is a hit than one drawn at random.

    Attributes:
        chosen: Hits among those the model chose, failures included: they were paid for as well.
        controls: The same of random controls.
        ratio: Of the two, with Koopman's interval.
    """

    chosen: Share
    controls: Share
    ratio: Ratio


@dataclass(frozen=True)
class Earnings:
    """What one proposer asked for and what came of it.

    Attributes:
        asked: Candidates it proposed.
        rejected: Of them, stopped by a gate.
        measured: Of them, measured.
        hits: Of them, hits.
        seconds: Of the reference, spent on them.
    """

    proposer: str
    asked: int
    rejected: int
    measured: int
    hits: int
    seconds: float

    @property
    def hits_per_second(self) -> float:
        """Of the reference; NaN before it was paid for any."""
        return self.hits / self.seconds if self.seconds > 0 else math.nan


def scored(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Those with a measured score that is finite."""
    return [h for h in hypotheses if h.measured_score and bool(np.isfinite(h.measured_score).all())]


def tried(hypotheses: Sequence[Hypothesis], decision: str) -> list[Hypothesis]:
    """The chosen, or the controls, whose measurement has succeeded or failed."""
    return [h for h in hypotheses if h.decision == decision and (h.measurements or h.failure)]


def paid(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Those that a run of the reference was spent on, as the budget counts it."""
    concluded = {id(h) for decision in ("chosen", "control") for h in tried(hypotheses, decision)}
    return [h for h in hypotheses if id(h) in concluded]


def contained(prediction: Prediction, measurement: Measurement) -> bool | None:
    """Whether the interval holds what was measured; None where either is unknown.

    An interval without bounds holds everything, as it says.
    """
    if any(math.isnan(x) for x in (prediction.lower, prediction.upper, measurement.value)):
        return None
    return prediction.lower <= measurement.value <= prediction.upper


def coverage(hypotheses: Sequence[Hypothesis], names: Collection[str]) -> Share:
    """How often predicted intervals held what was measured.

    Several outcomes of a molecule are one trial, a part of which may succeed: they are no more
    independent of each other than errors of one structure.
    """
    successes, trials = 0.0, 0
    for hypothesis in hypotheses:
        held = verdicts(hypothesis, names)
        if held:
            successes += sum(held) / len(held)
            trials += 1
    return share(min(successes, trials), trials)


def unbounded(hypotheses: Sequence[Hypothesis], names: Collection[str]) -> int:
    """Molecules that count as covered in part because an interval had no end."""
    return sum(
        any(
            math.isinf(h.predictions[name].lower) or math.isinf(h.predictions[name].upper)
            for name in shared(h, names)
        )
        for h in hypotheses
    )


def z_scores(hypotheses: Sequence[Hypothesis], name: str) -> Array:
    """(N,) errors of one outcome in units of the spread that the model stated.

    Noise of the measurement is part of the spread, sqrt(model² + sampling²).
    """
    found = []
    for hypothesis in hypotheses:
        for key in shared(hypothesis, (name,)):
            p, m = hypothesis.predictions[key], hypothesis.measurements[key]
            spread = math.hypot(p.spread, m.spread)
            z = (m.value - p.mean) / spread if spread > 0 else math.nan
            if math.isfinite(spread) and math.isfinite(z):
                found.append(z)
    return np.array(found)


def ranked(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Those with a measured score, best first: the Pareto front, then what few others better."""
    found = scored(hypotheses)
    return [found[k] for k in order(measured_scores(found))]


def front(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """The Pareto front of the measured scores, best of the first goal first."""
    found = ranked(hypotheses)
    beaten = dominators(measured_scores(found))
    return [h for h, count in zip(found, beaten, strict=True) if count == 0]


def hits(hypotheses: Sequence[Hypothesis]) -> set[str]:
    """SMILES of all that are bettered by fewer than a tenth of what was measured."""
    found = scored(hypotheses)
    beaten = dominators(measured_scores(found))
    return {
        h.candidate.smiles
        for h, count in zip(found, beaten, strict=True)
        if count < HIT * len(found)
    }


def enrichment(hypotheses: Sequence[Hypothesis]) -> Enrichment:
    """Hit rate of what the model chose over that of random controls.

    The first round was drawn at random too, before there was a model, and is left out.
    """
    good = hits(hypotheses)
    hypotheses = [h for h in hypotheses if h.round or h.predictions]
    rates = []
    for decision in ("chosen", "control"):
        group = tried(hypotheses, decision)
        rates.append(share(sum(h.candidate.smiles in good for h in group), len(group)))
    return Enrichment(rates[0], rates[1], ratio(rates[0], rates[1]))


def earnings(hypotheses: Sequence[Hypothesis]) -> list[Earnings]:
    """Of every proposer, the one with the most hits first."""
    good = hits(hypotheses)
    groups: dict[str, list[Hypothesis]] = defaultdict(list)
    for hypothesis in hypotheses:
        groups[hypothesis.candidate.proposer].append(hypothesis)
    found = [
        Earnings(
            name,
            len(group),
            sum(h.decision == "rejected" for h in group),
            sum(bool(h.measurements) for h in group),
            sum(h.candidate.smiles in good for h in group),
            sum(h.cost for h in group),
        )
        for name, group in groups.items()
    ]
    return sorted(found, key=lambda one: (-one.hits, one.seconds, one.proposer))


def failures(hypotheses: Sequence[Hypothesis]) -> dict[Stage, list[str]]:
    """Reasons by stage, the stage with most failures first."""
    found: dict[Stage, list[str]] = defaultdict(list)
    for hypothesis in hypotheses:
        if hypothesis.failure is not None:
            found[hypothesis.failure.stage].append(hypothesis.failure.reason)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def progress(hypotheses: Sequence[Hypothesis], goal: int = 0) -> tuple[Array, Array]:
    """(N,) seconds of the reference spent, and the best score of one goal, after each of N runs.

    The best is NaN until a run has succeeded.
    """
    runs = paid(hypotheses)
    succeeded = {id(h) for h in scored(runs)}
    scores = [h.measured_score[goal] if id(h) in succeeded else math.nan for h in runs]
    seconds = np.cumsum([h.cost for h in runs], dtype=float)
    return seconds, np.fmax.accumulate(np.array(scores, dtype=float))


def shared(hypothesis: Hypothesis, names: Collection[str]) -> list[str]:
    """Outcomes that were both predicted and measured."""
    return [k for k in names if k in hypothesis.predictions and k in hypothesis.measurements]


def verdicts(hypothesis: Hypothesis, names: Collection[str]) -> list[bool]:
    """For each outcome that can be judged, whether its interval held the measurement."""
    found = (
        contained(hypothesis.predictions[k], hypothesis.measurements[k])
        for k in shared(hypothesis, names)
    )
    return [verdict for verdict in found if verdict is not None]


def measured_scores(hypotheses: Sequence[Hypothesis]) -> Array:
    """(N, G)."""
    goals = len(hypotheses[0].measured_score) if hypotheses else 1
    return np.array([h.measured_score for h in hypotheses], dtype=float).reshape(-1, goals)


def order(scores: Array) -> list[int]:
    """By how many are better, then by the first goal, then as they came."""
    return np.lexsort((-scores[:, 0], dominators(scores))).tolist()

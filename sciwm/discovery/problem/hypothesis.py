"""What a campaign believes of one molecule, what it found out, and what became of the belief."""

from dataclasses import dataclass, field
from typing import Literal

Stage = Literal[
    "parsing",  # no molecule
    "gate",  # a molecule that is not wanted
    "embedding",  # no three-dimensional structure
    "relaxation",  # no minimum found
    "connectivity",  # a minimum of another molecule
    "calculation",  # no converged or no sound electronic structure
    "time",  # longer than the limit
    "memory",  # more than the limit
    "worker",  # the process died
]
"""Where a candidate can fail; failures are counted by stage."""

Decision = Literal["rejected", "passed over", "chosen", "control"]
"""Stopped by a gate, not worth a reference run, worth one, or drawn at random to compare with."""

Verdict = Literal["confirmed", "refuted", "undecided"]
"""Measured inside every predicted interval, outside one of them, or not measured or not predicted."""


@dataclass(frozen=True)
class Candidate:
    """A molecule and where the idea came from.

    Attributes:
        smiles: Canonical; a campaign treats equal ones as the same candidate.
        proposer: Name of the proposer.
        parents: Canonical SMILES of what it was made from.
    """

    smiles: str
    proposer: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What a model expects of one outcome.

    Attributes:
        mean: In the outcome's unit.
        spread: One standard deviation, as the model states it.
        lower: Lower end of the calibrated 90 % interval.
        upper: Upper end.
        flag: Why the prediction is not to be trusted; None where it is.
    """

    mean: float
    spread: float
    lower: float
    upper: float
    flag: str | None = None


@dataclass(frozen=True)
class Measurement:
    """What the reference found for one outcome.

    Attributes:
        value: In the outcome's unit.
        spread: One standard error of sampling; zero where the recipe draws no samples.
    """

    value: float
    spread: float = 0.0


@dataclass(frozen=True)
class Failure:
    """Why there is no measurement.

    Attributes:
        stage: Where it failed.
        reason: One sentence with the offending value.
    """

    stage: Stage
    reason: str


@dataclass(frozen=True)
class Hypothesis:
    """One candidate of one campaign, from idea to verdict.

    Attributes:
        candidate: The molecule.
        round: In which it was proposed, from 0.
        decision: What was done with it.
        why: The reason for the decision, in words.
        model: Version of the model that predicted.
        predictions: By outcome name; empty where nothing was predicted.
        score: Predicted objective, one number per goal, larger is better; empty where unknown.
        measurements: By outcome name; empty until measured.
        measured_score: The objective of the measurements; empty where a requirement is not met.
        cost: Seconds of the reference, 0 where it did not run.
        failure: Why there is no measurement.
        verdict: What became of the predictions.
    """

    candidate: Candidate
    round: int
    decision: Decision
    why: str = ""
    model: str = ""
    predictions: dict[str, Prediction] = field(default_factory=dict)
    score: tuple[float, ...] = ()
    measurements: dict[str, Measurement] = field(default_factory=dict)
    measured_score: tuple[float, ...] = ()
    cost: float = 0.0
    failure: Failure | None = None
    verdict: Verdict = "undecided"


def verdict_of(predictions: dict[str, Prediction], measurements: dict[str, Measurement]) -> Verdict:
    """Refuted by one measurement outside its interval, confirmed when all are inside."""
    shared = predictions.keys() & measurements.keys()
    if not shared:
        return "undecided"
    inside = all(
        predictions[name].lower <= measurements[name].value <= predictions[name].upper
        for name in shared
    )
    return "confirmed" if inside else "refuted"

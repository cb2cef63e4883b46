"""Hypotheses to rows and back."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, get_args

from sqlalchemy import ColumnElement, Connection, Row, Table, insert, select

from sciwm.discovery.experiment.ledger.database import LedgerError
from sciwm.discovery.experiment.ledger.tables import (
    HYPOTHESIS,
    MEASUREMENT,
    PARENT,
    PREDICTION,
    SCORE,
)
from sciwm.discovery.problem.hypothesis import (
    Candidate,
    Decision,
    Failure,
    Hypothesis,
    Measurement,
    Prediction,
    Stage,
)

TO_RUN: tuple[Decision, ...] = ("chosen", "control")
"""Decisions that call for the reference."""


def number(value: float, meaning: str) -> float:
    """A number as a database keeps it; infinite ones are fine.

    Raises:
        LedgerError: If it is NaN: databases treat it in ways of their own, and no belief and no
            measurement is NaN. What is unknown is left out, and what failed is a failure.
    """
    value = float(value)
    if math.isnan(value):
        raise LedgerError(f"{meaning} is NaN; leave out what is unknown, and record what failed")
    return value


def seconds(value: float, meaning: str) -> float:
    """A duration.

    Raises:
        LedgerError: If it is negative, infinite or NaN.
    """
    if not 0 <= value < math.inf:
        raise LedgerError(f"{meaning} is {value} s; give the seconds it took")
    return float(value)


def text(value: str, meaning: str) -> str:
    """A text that every database can keep.

    Raises:
        LedgerError: If it has a NUL character or half a surrogate pair.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise LedgerError(f"{meaning} is no valid Unicode: {value!r}; decode it first") from error
    if "\0" in value:
        raise LedgerError(f"{meaning} has a NUL character: {value!r}; remove it")
    return value


def failure_columns(failure: Failure, smiles: str) -> dict[str, Any]:
    """Raises LedgerError if its stage is none or its reason cannot be kept."""
    _one_of(failure.stage, get_args(Stage), f"the stage at which {smiles} failed")
    return {
        "failure_stage": failure.stage,
        "failure_reason": text(failure.reason, f"the reason why {smiles} failed"),
    }


def add(connection: Connection, campaign: str, hypotheses: Sequence[Hypothesis], now: str) -> None:
    """Inserts proposals.

    Raises:
        LedgerError: If one has results already, or values that cannot be kept.
    """
    if not hypotheses:
        return
    rows = [_row(campaign, hypothesis, now) for hypothesis in hypotheses]
    numbers = connection.scalars(
        insert(HYPOTHESIS).returning(HYPOTHESIS.c.id, sort_by_parameter_order=True), rows
    ).all()
    numbered = list(zip(numbers, hypotheses, strict=True))
    _insert(connection, PARENT, (row for k, h in numbered for row in _parent_rows(k, h)))
    _insert(connection, SCORE, (row for k, h in numbered for row in _score_rows(k, h)))
    _insert(connection, PREDICTION, (row for k, h in numbered for row in _prediction_rows(k, h)))


def add_measurements(
    connection: Connection,
    key: int,
    hypothesis: Hypothesis,
    measurements: Mapping[str, Measurement],
) -> None:
    """Inserts what the reference found."""
    smiles = hypothesis.candidate.smiles
    rows = (
        {
            "hypothesis": key,
            "outcome": text(outcome, "the name of an outcome"),
            "value": number(found.value, f"the measured {outcome} of {smiles}"),
            "spread": number(found.spread, f"the spread of the measured {outcome} of {smiles}"),
        }
        for outcome, found in measurements.items()
    )
    _insert(connection, MEASUREMENT, rows)


def add_measured_score(
    connection: Connection, key: int, hypothesis: Hypothesis, measured: Sequence[float]
) -> None:
    """Puts measured scores beside the predicted ones."""
    meaning = f"the measured score of {hypothesis.candidate.smiles}"
    rows = [
        {"hypothesis": key, "goal": goal, "predicted": expected, "measured": found}
        for goal, (expected, found) in enumerate(
            zip_longest(hypothesis.score, (number(score, meaning) for score in measured))
        )
    ]
    connection.execute(SCORE.delete().where(SCORE.c.hypothesis == key))
    _insert(connection, SCORE, rows)


def load(connection: Connection, condition: ColumnElement[bool]) -> dict[int, Hypothesis]:
    """Complete hypotheses by their number, in the order in which they were proposed."""

    def rows_of(table: Table, order: str) -> dict[int, list[Row[Any]]]:
        chosen = select(table).join(HYPOTHESIS).where(condition).order_by(table.c[order])
        found: dict[int, list[Row[Any]]] = {}
        for row in connection.execute(chosen):
            found.setdefault(row.hypothesis, []).append(row)
        return found

    parents = rows_of(PARENT, "position")
    scores = rows_of(SCORE, "goal")
    predictions = rows_of(PREDICTION, "outcome")
    measurements = rows_of(MEASUREMENT, "outcome")
    return {
        row.id: Hypothesis(
            candidate=Candidate(
                row.smiles, row.proposer, tuple(p.smiles for p in parents.get(row.id, ()))
            ),
            round=row.round,
            decision=row.decision,
            why=row.why,
            model=row.model,
            predictions={
                p.outcome: Prediction(p.mean, p.spread, p.lower, p.upper, p.flag)
                for p in predictions.get(row.id, ())
            },
            score=tuple(s.predicted for s in scores.get(row.id, ()) if s.predicted is not None),
            measurements={
                m.outcome: Measurement(m.value, m.spread) for m in measurements.get(row.id, ())
            },
            measured_score=tuple(
                s.measured for s in scores.get(row.id, ()) if s.measured is not None
            ),
            cost=row.cost,
            failure=None
            if row.failure_stage is None
            else Failure(row.failure_stage, row.failure_reason),
            verdict=row.verdict,
        )
        for row in connection.execute(select(HYPOTHESIS).where(condition).order_by(HYPOTHESIS.c.id))
    }


def _row(campaign: str, hypothesis: Hypothesis, now: str) -> dict[str, Any]:
    smiles = text(hypothesis.candidate.smiles, "a SMILES")
    if not smiles:
        raise LedgerError("a hypothesis has an empty SMILES; leave it out")
    _one_of(hypothesis.decision, get_args(Decision), f"the decision on {smiles}")
    if (
        hypothesis.measurements
        or hypothesis.measured_score
        or hypothesis.cost
        or hypothesis.verdict != "undecided"
        or (hypothesis.failure and hypothesis.decision in TO_RUN)
    ):
        raise LedgerError(
            f"{smiles} is proposed with results already; propose first, then record an attempt "
            "and finish or fail it"
        )
    if hypothesis.round < 0:
        raise LedgerError(f"{smiles} is of round {hypothesis.round}; rounds count from 0")
    failed = failure_columns(hypothesis.failure, smiles) if hypothesis.failure else {}
    return {
        "campaign": campaign,
        "smiles": smiles,
        "proposer": text(hypothesis.candidate.proposer, f"the proposer of {smiles}"),
        "round": int(hypothesis.round),
        "decision": hypothesis.decision,
        "why": text(hypothesis.why, f"the reason for the decision on {smiles}"),
        "model": text(hypothesis.model, f"the model of {smiles}"),
        "proposed": now,
        "cost": 0.0,
        "failure_stage": None,
        "failure_reason": None,
        "verdict": "undecided",
        "frames": "",
        "frames_hash": "",
        **failed,
    }


def _parent_rows(key: int, hypothesis: Hypothesis) -> Iterable[dict[str, Any]]:
    for position, smiles in enumerate(hypothesis.candidate.parents):
        parent = text(smiles, f"a parent of {hypothesis.candidate.smiles}")
        yield {"hypothesis": key, "position": position, "smiles": parent}


def _score_rows(key: int, hypothesis: Hypothesis) -> Iterable[dict[str, Any]]:
    for goal, score in enumerate(hypothesis.score):
        expected = number(score, f"the score of {hypothesis.candidate.smiles}")
        yield {"hypothesis": key, "goal": goal, "predicted": expected}


def _prediction_rows(key: int, hypothesis: Hypothesis) -> Iterable[dict[str, Any]]:
    smiles = hypothesis.candidate.smiles
    for outcome, expected in hypothesis.predictions.items():
        yield {
            "hypothesis": key,
            "outcome": text(outcome, "the name of an outcome"),
            **{
                part: number(getattr(expected, part), f"the predicted {outcome} of {smiles}")
                for part in ("mean", "spread", "lower", "upper")
            },
            "flag": None if expected.flag is None else text(expected.flag, f"a flag of {smiles}"),
        }


def _insert(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    if found := list(rows):
        connection.execute(insert(table), found)


def _one_of(value: str, known: tuple[str, ...], meaning: str) -> None:
    if value not in known:
        raise LedgerError(f"{meaning} is {value!r}; it is one of {', '.join(known)}")

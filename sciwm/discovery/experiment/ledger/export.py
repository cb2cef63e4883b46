"""A ledger as a table that people can open."""

import codecs
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from sciwm.core.replacement import replacing
from sciwm.core.spreadsheet import escape
from sciwm.discovery.problem.hypothesis import Hypothesis

Cell = str | float | int | None


def write_csv(
    path: Path,
    hypotheses: Sequence[Hypothesis],
    frames: Mapping[str, str],
    flaws: Mapping[str, str],
) -> None:
    """One row per hypothesis, some columns per outcome; a cell is empty where nothing is known.

    Args:
        frames: Files with the structures of the reference, by SMILES.
        flaws: Why there is no score of what was measured, by SMILES.

    Raises:
        OSError: If it cannot be written; a table that was there before is kept.
    """
    rows = [
        _row(one, frames) | {"score_flag": flaws.get(one.candidate.smiles)} for one in hypotheses
    ]
    columns = _columns(hypotheses)
    with replacing(path) as file:
        table = csv.writer(codecs.getwriter("utf-8")(file), lineterminator="\n")
        table.writerow(map(escape, columns))
        for row in rows:
            table.writerow([_written(row.get(column)) for column in columns])


def _written(cell: Cell) -> Cell:
    return escape(cell) if isinstance(cell, str) else cell


def _columns(hypotheses: Sequence[Hypothesis]) -> list[str]:
    goals = max((max(len(h.score), len(h.measured_score)) for h in hypotheses), default=0)
    outcomes = sorted({name for h in hypotheses for name in (*h.predictions, *h.measurements)})
    return [
        *("smiles", "proposer", "parents", "round", "decision", "why", "model", "verdict"),
        *(f"score_{goal}_{kind}" for goal in range(goals) for kind in ("predicted", "measured")),
        "score_flag",
        *(
            f"{outcome}_{part}"
            for outcome in outcomes
            for part in (*_PREDICTED, "measured", "measured_spread")
        ),
        *("cost_s", "failure_stage", "failure_reason", "frames"),
    ]


_PREDICTED = ("predicted", "spread", "lower", "upper", "flag")


def _row(hypothesis: Hypothesis, frames: Mapping[str, str]) -> dict[str, Cell]:
    smiles = hypothesis.candidate.smiles
    row: dict[str, Cell] = {
        "smiles": smiles,
        "proposer": hypothesis.candidate.proposer,
        "parents": " ".join(hypothesis.candidate.parents),
        "round": hypothesis.round,
        "decision": hypothesis.decision,
        "why": hypothesis.why,
        "model": hypothesis.model,
        "verdict": hypothesis.verdict,
        "cost_s": hypothesis.cost,
        "frames": frames.get(smiles),
    }
    for kind, scores in (("predicted", hypothesis.score), ("measured", hypothesis.measured_score)):
        row |= {f"score_{goal}_{kind}": score for goal, score in enumerate(scores)}
    for outcome, expected in hypothesis.predictions.items():
        parts = (expected.mean, expected.spread, expected.lower, expected.upper, expected.flag)
        row |= {f"{outcome}_{part}": x for part, x in zip(_PREDICTED, parts, strict=True)}
    for outcome, found in hypothesis.measurements.items():
        row |= {f"{outcome}_measured": found.value, f"{outcome}_measured_spread": found.spread}
    if hypothesis.failure:
        row["failure_stage"] = hypothesis.failure.stage
        row["failure_reason"] = hypothesis.failure.reason
    return row

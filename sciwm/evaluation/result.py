"""What an evaluation found: rows of errors beside those of the null model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sciwm.core.frame import Array
from sciwm.evaluation.metrics import Errors
from sciwm.evaluation.table import aligned, number


@dataclass(frozen=True, eq=False)
class Row:
    """The errors of one quantity.

    Attributes:
        name: Such as "force" or "force, species C".
        unit: Of every error; empty in reduced units.
        errors: The model's.
        null: Those of knowing nothing.
        predicted, reference: (K,) the values, or a random sample of very many.
    """

    name: str
    unit: str
    errors: Errors
    null: Errors
    predicted: Array
    reference: Array


@dataclass(frozen=True)
class WorstFrame:
    """A frame that the model gets most wrong.

    Attributes:
        quantity: In which its error is among the largest.
        error: Root mean square force error of the frame, or energy error per atom.
        source_frame: Its number in the file that was imported; None where the data do not tell.
    """

    quantity: str
    error: float
    unit: str
    file: str
    trajectory: str
    frame: int
    source_frame: int | None = None


@dataclass(frozen=True)
class EvaluationResult:
    """Errors of a model over a collection of frames.

    Attributes:
        rows: One per quantity, subset of species and configuration label.
        worst: Frames with the largest errors, worst first within each quantity.
        frames: Frames evaluated: all there are.
        labelled: How many of them had each kind of label.
        null_models: What the null model of each quantity predicts.
        outside: Frames beyond what training covered, each with the reason.
    """

    rows: list[Row]
    worst: list[WorstFrame]
    frames: int
    labelled: dict[str, int]
    null_models: dict[str, str]
    outside: dict[str, str]

    def row(self, name: str) -> Row:
        """The row of that name; KeyError if there is none."""
        return {row.name: row for row in self.rows}[name]

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Every figure by name, with its unit and the null model's."""
        found: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            for key in ("rmse", "mae", "p95", "maximum", "r2"):
                found[f"{row.name} {key}"] = {
                    "value": _finite(getattr(row.errors, key)),
                    "unit": "" if key == "r2" else row.unit,
                    "null": _finite(getattr(row.null, key)),
                }
        return found

    def write(self, path: Path) -> None:
        """As JSON."""
        content = {
            "frames": self.frames,
            "labelled": self.labelled,
            "null models": self.null_models,
            "outside the training domain": len(self.outside),
            "metrics": self.metrics(),
            "worst frames": [vars(frame) for frame in self.worst],
        }
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def __str__(self) -> str:
        header = [
            "",
            "RMSE",
            "MAE",
            "95 %",
            "largest",
            "R²",
            "null RMSE",
            "null MAE",
            "unit",
            "values",
        ]
        table = [header] + [_line(row) for row in self.rows]
        lines = [aligned(table), ""]
        lines += [f"null model of {name}: {what}" for name, what in self.null_models.items()]
        counts = ", ".join(f"{count} with {name}" for name, count in self.labelled.items())
        lines += [f"{self.frames} frames: {counts}"]
        if self.outside:
            place, reason = next(iter(self.outside.items()))
            lines += [
                f"{len(self.outside)} of them are beyond what training covered; {place}: {reason}"
            ]
        if self.worst:
            lines += ["", _worst_table(self.worst)]
        return "\n".join(lines)


def _line(row: Row) -> list[str]:
    e, n = row.errors, row.null
    figures = [number(value) for value in (e.rmse, e.mae, e.p95, e.maximum)]
    return [
        row.name,
        *figures,
        f"{e.r2:.4f}",
        number(n.rmse),
        number(n.mae),
        row.unit or "-",
        str(e.count),
    ]


def _worst_table(worst: Sequence[WorstFrame]) -> str:
    rows = [["worst frames", "file", "trajectory", "frame", "in its source", "error", "unit"]]
    for w in worst:
        source = "-" if w.source_frame is None else str(w.source_frame)
        error = [number(w.error), w.unit or "-"]
        rows.append([w.quantity, w.file, w.trajectory, str(w.frame), source, *error])
    return aligned(rows, left=3)


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if value == value else None

"""What a run folder remembers: the files that training, evaluation and checks left in it."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sciwm.evaluation.metrics import METRIC_UNITS, reported_in
from sciwm.evaluation.run import model_file, run_folder, training_files
from sciwm.models import archive
from sciwm.models.dynamics.potential import Potential

TABLES = ("null", "last", "best", "metrics", "versions")
NUMBERS = ("steps", "cpu_seconds", "training_items")
"""What is told of a run, by the kind of value that it is kept as."""


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Attributes:
        folder: Where it lies.
    """

    folder: Path

    @staticmethod
    def of(run: str | Path) -> "RunRecord":
        """Raises FileNotFoundError if there is no finished run of that name."""
        folder = run_folder(run)
        if folder is None:
            raise FileNotFoundError(
                f"{run} is a model file without its run folder; a report needs the folder that "
                "`sciwm train` made"
            )
        return RunRecord(folder)

    @cached_property
    def archive(self) -> archive.Archive:
        return archive.load(model_file(self.folder))

    @property
    def model(self) -> Potential:
        return self.archive.potential

    @property
    def parameters(self) -> int:
        """Learned numbers in the model."""
        return sum(p.numel() for p in self.model.parameters())

    @cached_property
    def training(self) -> dict[str, Any]:
        """metrics.json: best and last validation errors, null models, steps, seconds, size."""
        return self._json("metrics.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """provenance.json: seed, versions, data."""
        return self._json("provenance.json")

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """evaluation/metrics.json: errors on data the model has not seen."""
        return self._json("evaluation/metrics.json")

    @property
    def checks(self) -> dict[str, Any]:
        """The licence kept in the model file."""
        return self.archive.check or {}

    @property
    def log(self) -> Path | None:
        """The losses of the run."""
        path = self.folder / "log" / "metrics.csv"
        return path if path.is_file() else None

    @property
    def pictures(self) -> list[Path]:
        """What evaluation drew."""
        return sorted((self.folder / "evaluation").glob("*.png"))

    @cached_property
    def training_files(self) -> list[str]:
        return training_files(self.folder)

    def validation_errors(self) -> list[tuple[str, float, float | None, str]]:
        """Rows of quantity, last validation error, the null model's, and unit."""
        rows = []
        nulls = self.training.get("null", {})
        for key, value in self.training.get("last", {}).items():
            name = key.removeprefix("valid/")
            quantity = name.replace("_", " ")
            if key.startswith("valid/") and quantity in METRIC_UNITS:
                unit, factor = reported_in(quantity, self.model.units)
                null = nulls.get(name)
                rows.append(
                    (quantity, factor * value, None if null is None else factor * null, unit)
                )
        return rows

    def _json(self, name: str) -> dict[str, Any]:
        """A table that the run left; empty where it left none.

        Raises:
            ValueError: If it holds other things than a run writes.
        """
        path = self.folder / name
        content = json.loads(path.read_text()) if path.is_file() else {}
        sound = (
            isinstance(content, dict)
            and all(isinstance(content.get(key, {}), dict) for key in TABLES)
            and all(isinstance(content.get(key, 0), (int, float)) for key in NUMBERS)
            and all(
                isinstance(value, (int, float))
                for key in ("null", "last")
                for value in content.get(key, {}).values()
            )
        )
        if not sound:
            raise ValueError(f"{path} is not as a run writes it; restore it, or move it away")
        return content

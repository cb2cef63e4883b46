"""The log of a run that is continued."""

import csv
import warnings
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger


def rows_before(file: Path, step: int) -> list[dict[str, str]]:
    """What was logged before a step; what came after it will be logged again."""
    if not file.is_file():
        return []
    with open(file, newline="") as stream:
        return [row for row in csv.DictReader(stream) if int(row["step"]) < step]


def put_back(logger: CSVLogger, rows: list[dict[str, str]]) -> None:
    """Begins the log with earlier rows: left alone, Lightning would throw them away."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*log files in this directory will be deleted.*")
        writer = logger.experiment
    if not rows:
        return
    writer.metrics_keys = sorted(rows[0])
    with open(writer.metrics_file_path, "w", newline="") as stream:
        table = csv.DictWriter(stream, fieldnames=writer.metrics_keys)
        table.writeheader()
        table.writerows(rows)

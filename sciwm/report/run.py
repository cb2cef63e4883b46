"""The report of a run: one page that says what was learned, how wrong it is, and what it imagines."""

from pathlib import Path

from sciwm import __version__
from sciwm.report import page
from sciwm.report.comparison import MotionComparison, read_motion, read_stride
from sciwm.report.motion_sections import (
    imagined_alone,
    imagined_beside_true,
    statistics,
    strides_beside_true,
)
from sciwm.report.numerals import plain, quantity
from sciwm.report.overview import overview
from sciwm.report.page import Page
from sciwm.report.record import RunRecord
from sciwm.report.record_sections import checks, errors, training


def write_report(
    run: str,
    target: Path,
    true: str | None = None,
    imagined: str | None = None,
    strides: str | None = None,
) -> list[Path]:
    """Writes the page of a finished run and, for a molecule compared with the truth, its picture.

    Sections appear for whatever the run has been put through.

    Args:
        run: A run folder.
        target: The page.
        true: H5MD file of a reference trajectory.
        imagined: H5MD file of one that the model made.
        strides: H5MD file of one by long strides, which is compared with the true one likewise.

    Returns:
        The files written, the page last.

    Raises:
        FileNotFoundError: If there is no finished run, or a file is missing.
        ValueError: If two trajectories cannot be compared.
    """
    record = RunRecord.of(run)
    motion = None if imagined is None else read_motion(imagined)
    truth = None if true is None else read_motion(true)
    comparison = moved = None
    if truth is not None and motion is not None:
        comparison = MotionComparison.of(truth, motion)
    if truth is not None and strides is not None:
        moved = MotionComparison.of(truth, read_motion(strides))
    sheet = Page(
        f"What the run {record.folder.name} learned",
        f"{type(record.model).__name__} of {record.parameters:,} parameters, sciwm {__version__}",
    )
    sheet.add(page.tiles(_glance(record, comparison)))
    if comparison is not None:
        imagined_beside_true(sheet, comparison)
        statistics(sheet, comparison)
    elif motion is not None:
        imagined_alone(sheet, motion)
    if moved is not None and strides is not None:
        strides_beside_true(sheet, moved, read_stride(strides))
    errors(sheet, record)
    checks(sheet, record)
    training(sheet, record)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = []
    if comparison is not None and comparison.coordinates and comparison.spectra:
        picture = target.with_name("overview.png")
        overview(comparison).savefig(picture, dpi=100)
        written.append(picture)
    sheet.write(target)
    return [*written, target]


def _glance(record: RunRecord, comparison: MotionComparison | None) -> list[tuple[str, str, str]]:
    """The figures to know if only ten seconds are left."""
    found = []
    metrics = record.evaluation.get("metrics", {})
    for name in ("force rmse", "energy per atom rmse", "position mse median"):
        if name in metrics:
            error = metrics[name]
            label = name.replace(" rmse", " error").replace(" mse median", " error squared, median")
            found.append(
                (
                    quantity(error["value"], error["unit"]),
                    label,
                    f"null model {plain(error['null'])}",
                )
            )
    if comparison is not None and comparison.same_start:
        unit = comparison.true.units.time
        found.append(
            (
                quantity(comparison.together, unit),
                "imagined and true path stay together",
                "then they part, see below" if comparison.parted else "to the end of the run",
            )
        )
    if comparison is not None and comparison.spectra:
        found.append(
            (
                f"{100 * comparison.overlap:.0f} %",
                "of the vibrational spectrum shared with the truth",
                f"the true run's two halves share {100 * comparison.overlap_of_halves:.0f} %",
            )
        )
    checks = record.checks.get("checks", [])
    if checks:
        passed = sum(check["status"] == "pass" for check in checks)
        found.append(
            (f"{passed} of {len(checks)}", "checks passed", f"verdict: {record.checks['verdict']}")
        )
    if "cpu_seconds" in record.training:
        items = record.provenance.get("training_items", 0)
        found.append(
            (
                quantity(record.training["cpu_seconds"], "s"),
                "of processor time to train",
                f"on {items:,} frames",
            )
        )
    return found

"""The page of a world that taught itself: its error against what was asked, and why that was asked."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from sciwm import __version__
from sciwm.core.frame import Frame
from sciwm.core.units import MOLECULAR
from sciwm.learning.goal import ErrorGoal
from sciwm.learning.history import LearningRound, history
from sciwm.learning.job import job_of
from sciwm.learning.ledger import Answer, LearningLedger
from sciwm.models import archive
from sciwm.report import page, plots
from sciwm.report.numerals import plain, quantity
from sciwm.report.page import Page
from sciwm.report.record_sections import verdicts

UNIT, MILLI = "meV/Å", 1e3

KINDS = {
    "structure": "where everything starts",
    "free atom": "the zero that energies are counted from",
    "shaken": "a first look about, before there was a world",
    "turned": "a bond turned, which heat seldom does",
    "stretched": "a bond stretched, likewise",
    "fresh": "the world's own motion, to measure its error before it learned of it",
    "heated": "the least like all that was known, of the world's motion up to the highest temperature",
    "unsure": "where the world doubted itself and stopped",
}
"""Why each kind of structure was asked."""

SHOWN = 15
"""Questions told one by one: those that the world was most wrong about."""


def write_learning_page(folder: Path, structure: Frame, goal: ErrorGoal, ending: str = "") -> Path:
    """Writes report.html into a folder where a world learns or has learned.

    Args:
        ending: How it ended; empty while it goes on.
    """
    job, ledger = job_of(folder), LearningLedger(folder / "ledger.jsonl")
    rounds = history(ledger, structure)
    checks: dict[str, Any] = {}
    if (folder / "model.pt").is_file():
        checks = archive.load(folder / "model.pt").check
    sheet = Page(
        f"How a world learned {structure.smiles or job['formula']}",
        f"Reference: {job['reference']}. {ending.capitalize() or 'Under way'}. sciwm {__version__}",
    )
    sheet.add(page.tiles(_glance(ledger, rounds, goal, checks)))
    if rounds:
        sheet.section("Error against calls of the reference", *_errors(rounds, goal, job))
    sheet.section("What was asked, and why", *_questions(list(ledger.answers.values())))
    if checks:
        sheet.section("What the world may be used for", *verdicts(checks, MOLECULAR))
    sheet.section(
        "To use it",
        page.commands(
            [
                f"sciwm simulate {folder} {folder / 'labels.h5md'} 10ps --temperature 300K --out FILE",
                f"sciwm check {folder} --data {folder / 'labels.h5md'}",
            ]
        ),
    )
    path = folder / "report.html"
    sheet.write(path)
    return path


def error_text(one: LearningRound) -> str:
    """The measured error with its interval."""
    measured = one.measured
    if not measured.frames:
        return "not measured"
    return (
        f"{plain(MILLI * measured.error)} {UNIT} (90 %: {plain(MILLI * measured.low)} to "
        f"{plain(MILLI * measured.high)})"
    )


def _glance(
    ledger: LearningLedger, rounds: Sequence[LearningRound], goal: ErrorGoal, checks: dict[str, Any]
) -> list[tuple[str, str, str]]:
    failures = sum(bool(one.failure) for one in ledger.answers.values())
    beside = f"{failures} of them failed" if failures else "none failed"
    found = [
        (f"{len(ledger.answers):,}", "calls of the reference", beside),
        (quantity(ledger.seconds, "s"), "of the reference", ""),
    ]
    if rounds and rounds[-1].measured.frames:
        last = rounds[-1].measured
        interval = f"90 %: {plain(MILLI * last.low)} to {plain(MILLI * last.high)}"
        told = f"{interval}; goal {quantity(MILLI * goal.force_error, UNIT)}"
        found.insert(0, (quantity(MILLI * last.error, UNIT), "force error on fresh frames", told))
    if checks:
        found.append((str(checks["verdict"]), "verdict of the checks", ""))
    return found


def _errors(rounds: Sequence[LearningRound], goal: ErrorGoal, job: dict[str, Any]) -> list[str]:
    measured = [one for one in rounds if one.measured.frames]
    rows = [
        [
            str(one.number),
            f"{one.labels:,}",
            f"{one.calls:,}",
            plain(one.seconds),
            error_text(one),
            str(one.measured.frames),
            f"{100 * one.stopped:.0f} %",
            str(one.refused),
        ]
        for one in rounds
    ]
    header = ["round", "labels", "calls", "s", "force error", "on", "stopped", "failed"]
    drawn = plots.error_against_calls(
        [one.calls for one in measured],
        [MILLI * one.measured.error for one in measured],
        [MILLI * one.measured.low for one in measured],
        [MILLI * one.measured.high for one in measured],
        MILLI * goal.force_error,
        UNIT,
    )
    return [
        page.paragraph(
            f"Each world moved copies of the structure at {plain(job['temperature'])} K; where they came "
            "to, the reference was asked, and the world's forces were compared before it learned of them. "
            "The goal is met when the upper end of the interval is below it. A measurement ends early "
            "where the lower end is above."
        ),
        page.figures(
            [page.figure(drawn, "Root mean square error of force components on fresh frames.")]
        ),
        page.table(header, rows, left=(4,)),
        page.note(
            "labels: trained on; on: frames compared; stopped: copies that left what the world knows "
            "before their time; failed: fresh frames on which the reference failed."
        ),
    ]


def _questions(answers: Sequence[Answer]) -> list[str]:
    rows = []
    places: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    for kind, why in KINDS.items():
        own = [(k, one) for k, one in enumerate(answers, 1) if one.question.kind == kind]
        known = [(k, one.force_error) for k, one in own if one.force_error]
        if not own:
            continue
        rows.append(
            [
                kind,
                why,
                str(len(own)),
                str(sum(bool(one.failure) for _, one in own)),
                plain(MILLI * median(error for _, error in known)) if known else "",
                plain(sum(one.seconds for _, one in own)),
            ]
        )
        if known:
            places[kind] = [k for k, _ in known]
            errors[kind] = [MILLI * error for _, error in known]
    header = ["", "why", "asked", "failed", f"median error when asked ({UNIT})", "s"]
    parts = [page.table(header, rows, left=(0, 1))]
    if errors:
        drawn = plots.errors_by_kind(places, errors, UNIT)
        caption = "How wrong the world of its time was about each structure, before it learned it."
        parts.append(page.figures([page.figure(drawn, caption)]))
    worst = sorted(answers, key=lambda one: -(one.force_error or 0.0))[:SHOWN]
    told = [
        [one.question.name, plain(MILLI * one.force_error), one.question.reason]
        for one in worst
        if one.force_error
    ]
    if told:
        parts.append(page.paragraph("What the worlds were most wrong about:"))
        parts.append(page.table(["", UNIT, "why it was asked"], told, left=(0, 2)))
    failed = [[one.question.name, one.failure] for one in answers if one.failure][:SHOWN]
    if failed:
        parts.append(page.paragraph("Failures of the reference, which are not asked again:"))
        parts.append(page.table(["", "what it said"], failed, left=(0, 1)))
    return parts

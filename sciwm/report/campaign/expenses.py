"""Sections on what a campaign spent, on whose ideas, and what was lost on the way."""

import math
from collections import Counter

from sciwm.discovery.analysis import scorecard
from sciwm.report import page
from sciwm.report.campaign.amounts import percent
from sciwm.report.campaign.record import CampaignRecord
from sciwm.report.numerals import plain
from sciwm.report.page import Page

STYLE = """
.worded thead th { white-space: normal; min-width: 4rem; }
.worded td:last-child { min-width: 17rem; }
"""

EXAMPLES = 3
"""Different reasons shown for each stage of failure, at most."""


def failed(sheet: Page, record: CampaignRecord) -> None:
    """Adds the section on candidates without a measurement: how many failed where, and why."""
    heading = "What failed, and where"
    found = scorecard.failures(record.hypotheses)
    if not found:
        sheet.section(heading, page.paragraph("Nothing has failed."))
        return
    rows = []
    for stage, reasons in found.items():
        common = Counter(reasons).most_common(EXAMPLES)
        texts = [f"{reason} ({count}×)" if count > 1 else reason for reason, count in common]
        share = percent(len(reasons) / len(record.hypotheses))
        rows.append([stage, str(len(reasons)), share, "; ".join(texts)])
    sheet.section(
        heading,
        worded(
            page.table(
                ["stage", "candidates", "of all", "most frequent reasons"], rows, left=(0, 3)
            )
        ),
    )


def costs(sheet: Page, record: CampaignRecord) -> None:
    """Adds the section on what an outcome costs in a learned world and with the reference."""
    heading = "Cost of one outcome"
    names = list(dict.fromkeys([*record.model_cost, *record.reference_cost]))
    if not names:
        sheet.section(heading, page.paragraph("No costs were recorded."))
        return
    rows = []
    for name in names:
        model = record.model_cost.get(name, math.nan)
        reference = record.reference_cost.get(name, math.nan)
        factor = reference / model if model > 0 else math.nan
        rows.append([name.replace("_", " "), plain(model), plain(reference), plain(factor)])
    sheet.section(
        heading,
        page.table(["", "model, s", "reference, s", "reference / model"], rows),
        page.note("Seconds for one molecule, measured in this campaign, training not included."),
    )


def proposers(sheet: Page, record: CampaignRecord) -> None:
    """Adds the section on what became of each proposer's candidates."""
    heading = "What each proposer earned"
    found = scorecard.earnings(record.hypotheses)
    if not found:
        sheet.section(heading, page.paragraph("Nothing has been proposed yet."))
        return
    rows = [
        [
            one.proposer, str(one.asked), str(one.rejected), str(one.measured), str(one.hits),
            plain(one.seconds), plain(1000 * one.hits_per_second),
        ]
        for one in found
    ]  # fmt: skip
    header = ["", "proposed", "rejected", "measured", "hits", "reference s", "hits per 1,000 s"]
    sheet.section(
        heading,
        page.table(header, rows),
        page.note("A hit is bettered by fewer than a tenth of all that was measured."),
    )


def models(sheet: Page, record: CampaignRecord) -> None:
    """Adds the section on the models that predicted, with their errors."""
    heading = "Models"
    if not record.models:
        sheet.section(heading, page.paragraph("No model has been trained yet."))
        return
    names = [n for n in record.outcomes if any(n in model.errors for model in record.models)]
    extra = sorted({n for model in record.models for n in model.errors} - set(names))
    rows = []
    for model in record.models:
        used = sorted({h.round for h in record.hypotheses if h.model == model.version})
        span = f"{used[0]} to {used[-1]}" if len(used) > 1 else "".join(str(k) for k in used)
        rows.append(
            [
                model.version,
                "promoted" if model.promoted else "refused",
                span,
                f"{model.trained_on:,}" if model.trained_on else "",
                *(plain(model.errors.get(name)) for name in (*names, *extra)),
                model.why,
            ]
        )
    errors = [quantity_name(name, record.units[name]) for name in names]
    header = ["version", "", "predicted in rounds", "trained on", *errors, *extra, "why"]
    sheet.section(heading, worded(page.table(header, rows, left=(0, 1, len(header) - 1))))


def worded(table: str) -> str:
    """A table whose last column holds sentences, which must not be squeezed by the others."""
    return f'<div class="worded">{table}</div>'


def quantity_name(name: str, unit: str) -> str:
    """Head of a column of errors."""
    words = f"error of {name.replace('_', ' ')}"
    return f"{words}, {unit}" if unit else words

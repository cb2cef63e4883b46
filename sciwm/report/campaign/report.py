"""The page of a discovery campaign: what was found, how far to trust it, and what it cost."""

from pathlib import Path

import matplotlib as mpl

from sciwm import __version__
from sciwm.report import page
from sciwm.report.campaign import cards, expenses, findings, geometries, hypothesis_table, trust
from sciwm.report.campaign.amounts import Amounts
from sciwm.report.campaign.glance import glance
from sciwm.report.campaign.record import CampaignRecord
from sciwm.report.page import Page


def write_campaign_report(record: CampaignRecord, target: Path) -> Path:
    """Writes the page of a campaign, which may be empty, under way or finished.

    The same record gives the same bytes.

    Returns:
        The page.
    """
    amounts = {
        name: Amounts.of(record.hypotheses, name, record.units[name]) for name in record.outcomes
    }
    rounds = len({h.round for h in record.hypotheses})
    sheet = Page(
        f"What the campaign {record.name} found",
        f"{record.objective}. {len(record.hypotheses):,} proposals in {rounds:,} rounds, "
        f"sciwm {__version__}",
    )
    sheet.add(
        "<style>", cards.STYLE, geometries.STYLE, hypothesis_table.STYLE, expenses.STYLE, "</style>"
    )
    # Matplotlib names the parts of a drawing at random unless told what to begin with.
    with mpl.rc_context({"svg.hashsalt": "sciwm"}):
        sheet.add(f'<div class="glance">{page.tiles(glance(record, amounts))}</div>')
        findings.best(sheet, record, amounts)
        findings.structures(sheet, record)
        trust.predictions(sheet, record, amounts)
        trust.calibration(sheet, record)
        findings.progress(sheet, record)
        expenses.failed(sheet, record)
        expenses.costs(sheet, record)
        expenses.proposers(sheet, record)
        expenses.models(sheet, record)
        findings.everything(sheet, record, amounts)
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.write(target)
    return target

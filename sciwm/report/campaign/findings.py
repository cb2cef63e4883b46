"""Sections on what a campaign found, and how quickly."""

from sciwm.discovery.analysis import scorecard
from sciwm.report import page, viewer
from sciwm.report.campaign import figures as drawn
from sciwm.report.campaign import geometries, hypothesis_table
from sciwm.report.campaign.amounts import Amounts
from sciwm.report.campaign.cards import cards
from sciwm.report.campaign.record import CampaignRecord
from sciwm.report.page import Page

CARDS = 9
"""Best candidates drawn, at most."""

VIEWS = 3
"""Best candidates shown in three dimensions, at most."""


def best(sheet: Page, record: CampaignRecord, amounts: dict[str, Amounts]) -> None:
    """Adds the section that ranks measured candidates."""
    heading = "Best candidates"
    ranked = scorecard.ranked(record.hypotheses)
    if not ranked:
        sheet.section(heading, page.paragraph("Nothing has been measured yet."))
        return
    order = (
        "By measured score, best first."
        if len(record.goals) == 1
        else "The Pareto front first: what no other candidate betters in every goal."
    )
    sheet.section(
        heading,
        page.paragraph(
            f"{order} In bold, what the reference measured. The bar is the predicted 90 % interval "
            "and the tick its mean; the dot is the measured value, green inside and orange outside."
        ),
        cards(record, ranked[:CARDS], amounts),
    )


def structures(sheet: Page, record: CampaignRecord) -> None:
    """Adds the section with the shapes of the best candidates."""
    heading = "Their structures"
    ranked = scorecard.ranked(record.hypotheses)
    places = {h.candidate.smiles: k for k, h in enumerate(ranked, start=1)}
    shown = [smiles for smiles in places if smiles in record.geometries][:VIEWS]
    if not shown:
        sheet.section(heading, page.paragraph("No structure of a measured candidate is at hand."))
        return
    titles = {smiles: f"{places[smiles]}: {smiles}" for smiles in shown}
    sheet.scripts.append(viewer.SCRIPT)
    sheet.section(heading, *geometries.gallery(record.geometries, titles))


def progress(sheet: Page, record: CampaignRecord) -> None:
    """Adds the section on the best score against what was spent."""
    shown = []
    for goal, text in enumerate(record.goals):
        for seconds in (False, True):
            figure = drawn.progress(record, goal, seconds)
            if figure is not None:
                against = "seconds" if seconds else "runs"
                caption = f"Best score so far ({text}) against {against} of the reference."
                if not seconds:
                    caption += " Failed runs and random controls count as well."
                shown.append(page.figure(figure, caption))
    heading = "Progress"
    if not shown:
        sheet.section(heading, page.paragraph("No run of the reference has given a score yet."))
        return
    parts = [page.figures(shown)]
    if record.baselines and len(record.goals) > 1:
        parts.append(page.note("Other searches are drawn beside campaigns with one goal only."))
    sheet.section(heading, *parts)
    figure = drawn.front(record)
    if figure is not None:
        members = len(scorecard.front(record.hypotheses))
        sheet.section(
            "Pareto front",
            page.figures(
                [
                    page.figure(
                        figure,
                        f"Measured scores of both goals, larger is better. {members} of "
                        f"{len(scorecard.scored(record.hypotheses))} measured candidates are on the "
                        "front: no other is better in one goal and worse in none.",
                    )
                ]
            ),
        )


def everything(sheet: Page, record: CampaignRecord, amounts: dict[str, Amounts]) -> None:
    """Adds the section with all that was measured."""
    heading = "All measured hypotheses"
    ranked = scorecard.ranked(record.hypotheses)
    known = {id(h) for h in ranked}
    rest = [h for h in record.hypotheses if h.measurements and id(h) not in known]
    if not ranked and not rest:
        sheet.section(heading, page.paragraph("Nothing has been measured yet."))
        return
    sheet.scripts.append(hypothesis_table.SCRIPT)
    parts = [hypothesis_table.hypothesis_table(record, [*ranked, *rest], amounts)]
    if rest:
        parts.append(
            page.note(
                f"The last {len(rest)} have no score: they break a requirement of the objective, or it "
                "is not defined for what was measured."
            )
        )
    sheet.section(heading, *parts)

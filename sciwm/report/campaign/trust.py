"""Sections on how far a campaign's predictions could be trusted."""

from collections.abc import Sequence

import numpy as np

from sciwm.discovery.analysis import scorecard
from sciwm.discovery.analysis.winners_curse import Favourites, favourites, guarded_favourites
from sciwm.discovery.problem.hypothesis import Hypothesis
from sciwm.report import page
from sciwm.report.campaign import figures as drawn
from sciwm.report.campaign.amounts import Amounts, percent, share_interval
from sciwm.report.campaign.record import CampaignRecord
from sciwm.report.page import Page


def predictions(sheet: Page, record: CampaignRecord, amounts: dict[str, Amounts]) -> None:
    """Adds the section that holds predictions against measurements."""
    shown = []
    for name, amount in amounts.items():
        figure = drawn.parity(record.hypotheses, name, amount.unit)
        if figure is not None:
            shown.append(
                page.figure(
                    figure,
                    f"Predicted and measured {name.replace('_', ' ')}. The line through each dot is "
                    "its 90 % interval; where it crosses the diagonal, the prediction is confirmed.",
                )
            )
    heading = "Predicted against measured"
    if not shown:
        sheet.section(heading, page.paragraph("No prediction has been put to the test yet."))
        return
    sheet.section(heading, page.figures(shown), *_favourites(record))


def _favourites(record: CampaignRecord) -> list[str]:
    by_mean = favourites(record.hypotheses, record.merit, record.outcomes)
    guarded = guarded_favourites(record.hypotheses, record.merit, record.outcomes)
    if not by_mean.smiles:
        return []

    def row(title: str, found: Favourites) -> list[str]:
        shares = [
            f"{percent(one.value)} ({share_interval(one)})" if one.trials else ""
            for one in (found.worse, found.outside)
        ]
        return [title, str(len(found.smiles)), *shares]

    header = ["", "number", "worse than promised", "outside the interval"]
    return [
        page.paragraph(
            "A search finds the model's errors along with the best molecules: what was predicted too "
            "well comes out on top. How many of the favourites, the fifth of the chosen with the best "
            "predictions, were refuted, with and without the guard:"
        ),
        page.table(
            header,
            [
                row("by predicted mean", by_mean),
                row("by mean less one spread, flagged ones left out", guarded),
            ],
        ),
        page.note(
            "Worse than promised: below the worst score the predicted intervals allow, expected in "
            "about 5 % of all cases for one outcome. Outside: not within the interval, for better or "
            "worse, expected in 10 %. In brackets 95 % intervals of these shares. Both rows rank what "
            "was measured, so they share molecules."
        ),
    ]


def calibration(sheet: Page, record: CampaignRecord) -> None:
    """Adds the section on how often intervals held what they promised."""
    names = record.outcomes
    rounds = sorted({h.round for h in record.hypotheses})
    groups = [[h for h in record.hypotheses if h.round == number] for number in rounds]
    shares = [scorecard.coverage(group, names) for group in groups]
    scores = [
        np.concatenate([scorecard.z_scores(group, name) for name in names])
        if names
        else np.array([])
        for group in groups
    ]
    heading = "Calibration"
    coverage = drawn.coverage(rounds, shares)
    if coverage is None:
        sheet.section(heading, page.paragraph("No interval has been put to the test yet."))
        return
    shown = [
        page.figure(
            coverage,
            "How many measurements of each round lie inside the predicted 90 % intervals. Bars are "
            "95 % Clopper-Pearson intervals; one in twenty misses the dashed line by chance.",
        )
    ]
    deviations = drawn.z_scores(rounds, scores)
    if deviations is not None:
        shown.append(
            page.figure(
                deviations,
                "Errors in units of the spread that the model stated, before calibration. Most should "
                "lie in the band; a shift to one side is a bias. Triangles lie beyond the frame.",
            )
        )
    everything = [
        (f"round {number}", group, group_scores)
        for number, group, group_scores in zip(rounds, groups, scores, strict=True)
    ]
    for decision, title in (("chosen", "all chosen"), ("control", "all random controls")):
        group = [h for h in record.hypotheses if h.decision == decision]
        everything.append(
            (title, group, np.concatenate([scorecard.z_scores(group, name) for name in names]))
        )
    rows = [_calibration_row(*one, names) for one in everything]
    header = ["", "judged", "inside", "95 % interval", "unbounded", "median |z|", "mean z"]
    sheet.section(
        heading,
        page.figures(shown),
        page.table(header, [row for row in rows if row[1] != "0"]),
        page.note(
            "Several outcomes of one molecule count as one case. Intervals without an end hold "
            "everything and are counted apart. Normal errors have a median |z| of 0.67. The chosen are "
            "a biased sample, picked because their predictions were good; the controls are not."
        ),
    )


def _calibration_row(
    title: str, group: Sequence[Hypothesis], z: np.ndarray, names: Sequence[str]
) -> list[str]:
    share = scorecard.coverage(group, names)
    return [
        title,
        str(share.trials),
        percent(share.value),
        share_interval(share),
        str(scorecard.unbounded(group, names)),
        f"{np.median(np.abs(z)):.2f}" if len(z) else "",
        f"{np.mean(z):+.2f}" if len(z) else "",
    ]

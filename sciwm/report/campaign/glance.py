"""The figures of a campaign to know if only ten seconds are left."""

import math

import numpy as np

from sciwm.discovery.analysis import scorecard
from sciwm.discovery.analysis.winners_curse import favourites, guarded_favourites
from sciwm.report.campaign.amounts import Amounts, percent, ratio_interval, share_interval
from sciwm.report.campaign.record import CampaignRecord
from sciwm.report.numerals import plain, quantity


def glance(record: CampaignRecord, amounts: dict[str, Amounts]) -> list[tuple[str, str, str]]:
    """Tiles: value, what it is, and what to compare it with."""
    hypotheses = record.hypotheses
    runs = scorecard.paid(hypotheses)
    found = [*_findings(record, amounts)]
    found.append(
        (
            f"{len(runs):,} of {record.budget_calls:,}",
            "runs of the reference",
            f"{len([h for h in hypotheses if h.decision == 'rejected']):,} of {len(hypotheses):,} "
            "proposals stopped by gates",
        )
    )
    found.append(
        (
            quantity(sum(h.cost for h in runs), "s"),
            "of the reference spent",
            f"budget {quantity(record.budget_seconds, 's')}",
        )
    )
    covered = scorecard.coverage(hypotheses, record.outcomes)
    if covered.trials:
        found.append(
            (
                percent(covered.value),
                "measured inside 90 % intervals",
                f"95 % interval {share_interval(covered)}, n = {covered.trials}",
            )
        )
    gain = scorecard.enrichment(hypotheses)
    if gain.chosen.trials and gain.controls.trials:
        value, between = gain.ratio.value, f"95 % interval {ratio_interval(gain.ratio)}"
        rates = f"{percent(gain.chosen.value)} against {percent(gain.controls.value)}"
        known = math.isfinite(value)
        found.append(
            (
                f"{plain(value)} ×" if known else rates,
                "enrichment in hits over random controls"
                if known
                else "hits, chosen against controls",
                f"{between}, {rates}" if known else f"enrichment: {between}",
            )
        )
    by_mean = favourites(hypotheses, record.merit, record.outcomes)
    if by_mean.smiles:
        guarded = guarded_favourites(hypotheses, record.merit, record.outcomes)
        found.append(
            (
                percent(by_mean.outside.value),
                "of the favourites refuted",
                f"95 % interval {share_interval(by_mean.outside)}; with the guard "
                f"{percent(guarded.outside.value)}",
            )
        )
    return found


def _findings(record: CampaignRecord, amounts: dict[str, Amounts]) -> list[tuple[str, str, str]]:
    """The best candidate of each goal, by the outcome that its goal speaks of."""
    scored = scorecard.scored(record.hypotheses)
    found = []
    for goal, text in enumerate(record.goals) if scored else ():
        best = scored[int(np.argmax([h.measured_score[goal] for h in scored]))]
        named = [name for name in record.outcomes if name in text and name in best.measurements]
        if len(named) != 1:
            found.append((plain(best.measured_score[goal]), f"best score: {text}", ""))
            continue
        amount, prediction = amounts[named[0]], best.predictions.get(named[0])
        beside = f"predicted {amount.predicted(prediction)}" if prediction else "not predicted"
        measured = amount.with_unit(amount.measured(best.measurements[named[0]]))
        found.append((measured, f"best: {text}", beside))
    return found

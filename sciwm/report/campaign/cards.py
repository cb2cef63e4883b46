"""The best candidates as cards: formula, prediction beside measurement, origin and verdict."""

from collections.abc import Sequence
from html import escape

from sciwm.discovery.problem.hypothesis import Hypothesis
from sciwm.report.campaign import drawings
from sciwm.report.campaign.amounts import Amounts
from sciwm.report.campaign.record import CampaignRecord

STYLE = """
.glance .tiles { grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .9rem;
  margin: 1rem 0; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: .7rem .9rem .8rem;
  min-width: 0; break-inside: avoid; }
.card header { display: flex; justify-content: space-between; font-size: .88rem; }
.card > svg { display: block; width: 100%; height: auto; margin: .2rem 0 .3rem; }
.card code { font-size: .82rem; }
.card .long { display: block; max-height: 3.2em; overflow-y: auto; line-height: 1.35; }
.card .values { display: grid; grid-template-columns: 1fr auto; column-gap: .6rem;
  font-size: .88rem; font-variant-numeric: tabular-nums; margin-top: .5rem; }
.card .values span { text-align: right; }
.card .values span:first-child { text-align: left; }
.card .values .whole { grid-column: 1 / -1; }
.card .soft { color: var(--soft); font-size: .82rem; line-height: 1.4; margin: .45rem 0 0; }
svg.interval { display: block; width: 100%; height: 14px; overflow: visible; margin: .15rem 0 0; }
"""

VERDICT_STYLES = {"confirmed": "pass", "refuted": "fail", "undecided": "warn"}

VERDICT_MARKS = {"confirmed": "✓", "refuted": "✗", "undecided": "?"}


def cards(record: CampaignRecord, best: Sequence[Hypothesis], amounts: dict[str, Amounts]) -> str:
    """One card for each, all intervals of an outcome on the same scale."""
    ranges = {
        name: drawings.span([(h.predictions.get(name), h.measurements.get(name)) for h in best])
        for name in record.outcomes
    }
    found = [
        _card(place, hypothesis, amounts, ranges) for place, hypothesis in enumerate(best, start=1)
    ]
    return f'<div class="cards">{"".join(found)}</div>'


def mark(hypothesis: Hypothesis) -> str:
    """The verdict, told by a sign and a word as well as by colour."""
    verdict = hypothesis.verdict
    return f'<span class="{VERDICT_STYLES[verdict]}">{VERDICT_MARKS[verdict]} {verdict}</span>'


def _card(
    place: int,
    hypothesis: Hypothesis,
    amounts: dict[str, Amounts],
    ranges: dict[str, tuple[float, float]],
) -> str:
    candidate = hypothesis.candidate
    values = []
    for name, amount in amounts.items():
        prediction = hypothesis.predictions.get(name)
        measurement = hypothesis.measurements.get(name)
        values.append(
            '<div class="values">'
            f"<span>{escape(name.replace('_', ' '))}</span>"
            f"<b>{escape(amount.with_unit(amount.measured(measurement)))}</b>"
            f'<span class="whole">predicted '
            f"{escape(amount.predicted(prediction))}</span></div>"
            + drawings.interval(prediction, measurement, *ranges[name])
        )
    origin = f"Round {hypothesis.round}, proposed by {candidate.proposer}"
    if hypothesis.decision == "control":
        origin += ", drawn at random as a control"
    flags = {p.flag for p in hypothesis.predictions.values() if p.flag}
    soft = [f'<p class="soft">{escape(origin)}.</p>']
    if candidate.parents:
        names = "<br>".join(f"<code>{escape(parent)}</code>" for parent in candidate.parents)
        soft.append(f'<p class="soft"><span class="long">from {names}</span></p>')
    soft += [f'<p class="soft">Flagged: {escape(flag)}</p>' for flag in sorted(flags)]
    return (
        f'<article class="card"><header><b>{place}</b>{mark(hypothesis)}</header>'
        f"{drawings.formula(candidate.smiles)}"
        f'<code class="long">{escape(candidate.smiles)}</code>{"".join(values)}{"".join(soft)}'
        "</article>"
    )

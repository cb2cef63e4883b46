"""Figures of a campaign, each made by a function that returns it, or None where nothing is to be seen."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sciwm.core.frame import Array
from sciwm.discovery.analysis import scorecard
from sciwm.discovery.analysis.binomial_intervals import Share
from sciwm.discovery.problem.hypothesis import Hypothesis
from sciwm.report.campaign.record import CampaignRecord
from sciwm.report.plots import BLACK, BLUE, COLOURS, GREEN, ORANGE

GREY = "#8a939c"

MANY = 400
"""Points beyond which a scatter is drawn as pixels, or the page would grow with it."""

BOUND = 1.645
"""90 % of normal errors are smaller than this many standard deviations."""


def parity(hypotheses: Sequence[Hypothesis], name: str, unit: str) -> Figure | None:
    """Measured against predicted values of one outcome, with the predicted intervals."""
    found = [
        (h, h.predictions[name], h.measurements[name].value)
        for h in hypotheses
        if name in h.predictions
        and name in h.measurements
        and math.isfinite(h.predictions[name].mean)
        and math.isfinite(h.measurements[name].value)
    ]
    if not found:
        return None
    figure, axes = _empty(5.0, 4.6)
    means = np.array([p.mean for _, p, _ in found])
    values = np.array([value for _, _, value in found])
    low, high = min(means.min(), values.min()), max(means.max(), values.max())
    margin = 0.06 * (high - low) or 1.0
    limits = (float(low - margin), float(high + margin))
    # Ends beyond the view are cut off there: one wide interval must not flatten all others.
    lower = np.clip([_end(p.lower, -math.inf) for _, p, _ in found], *limits)
    upper = np.clip([_end(p.upper, math.inf) for _, p, _ in found], *limits)
    kinds = [_kind(h, name) for h, _, _ in found]
    axes.plot(limits, limits, color=BLACK, linewidth=1, zorder=1)
    pixels = len(found) > MANY
    for kind, colour, marker in (
        ("confirmed", GREEN, "o"),
        ("refuted", ORANGE, "D"),
        ("undecided", GREY, "s"),
    ):
        chosen = np.array([k == kind for k in kinds])
        if not chosen.any():
            continue
        axes.hlines(
            values[chosen], lower[chosen], upper[chosen], color=colour, alpha=0.35, lw=1.2,
            zorder=2, rasterized=pixels,
        )  # fmt: skip
        axes.scatter(
            means[chosen], values[chosen], s=22, color=colour, marker=marker, linewidths=0,
            zorder=3, label=f"{kind} ({chosen.sum()})", rasterized=pixels,
        )  # fmt: skip
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.locator_params(nbins=6)
    axes.set_xlabel(_label(f"predicted {_words(name)}", unit))
    axes.set_ylabel(_label(f"measured {_words(name)}", unit))
    _legend(axes)
    return figure


def coverage(rounds: Sequence[int], shares: Sequence[Share]) -> Figure | None:
    """Share of measurements inside the 90 % intervals, round by round."""
    known = [(number, one) for number, one in zip(rounds, shares, strict=True) if one.trials]
    if not known:
        return None
    figure, axes = _empty(5.6, 3.6)
    x = np.array([number for number, _ in known])
    y = np.array([one.value for _, one in known])
    errors = np.array([[one.value - one.low, one.high - one.value] for _, one in known]).T
    axes.axhline(100 * scorecard.NOMINAL, color=BLACK, lw=1, ls="--", label="nominal")
    axes.errorbar(
        x, 100 * y, 100 * np.maximum(errors, 0), fmt="o", color=BLUE, capsize=3, lw=1.3,
        markersize=5, label="measured, 95 % interval",
    )  # fmt: skip
    axes.set(ylim=(0, 104), xlim=(x.min() - 0.6, x.max() + 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("round")
    axes.set_ylabel("inside the 90 % interval (%)")
    _legend(axes)
    return figure


def z_scores(rounds: Sequence[int], scores: Sequence[Array]) -> Figure | None:
    """Errors in units of the stated spread, round by round, beside the band of normal errors."""
    if not any(len(one) for one in scores):
        return None
    figure, axes = _empty(5.6, 3.6)
    axes.axhspan(-BOUND, BOUND, color="#e3edf5", zorder=0, label="90 % of normal errors")
    axes.axhline(0.0, color=BLACK, lw=0.7, zorder=1)
    largest = max(float(np.abs(one).max()) for one in scores if len(one))
    reach = min(max(1.1 * largest, 2.5), 8.0)
    for number, found in zip(rounds, scores, strict=True):
        # Spread out sideways by a golden-ratio sequence: repeatable, and neighbours lie apart.
        aside = 0.5 * ((np.arange(len(found)) * 0.618) % 1 - 0.5)
        far = np.abs(found) > reach
        axes.scatter(
            number + aside[~far], found[~far], s=14, color=BLUE, alpha=0.6, linewidths=0, zorder=2,
            rasterized=len(found) > MANY,
        )  # fmt: skip
        for sign, marker in ((1, "^"), (-1, "v")):
            beyond = far & (np.sign(found) == sign)
            heights = np.full(beyond.sum(), 0.97 * sign * reach)
            axes.scatter(number + aside[beyond], heights, s=24, color=ORANGE, marker=marker)
    axes.set(ylim=(-reach, reach), xlim=(min(rounds) - 0.6, max(rounds) + 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("round")
    axes.set_ylabel("(measured - predicted) / spread")
    _legend(axes)
    return figure


def progress(record: CampaignRecord, goal: int, seconds: bool) -> Figure | None:
    """Best score so far of one goal against runs of the reference, or its seconds."""
    spent, best = scorecard.progress(record.hypotheses, goal)
    if not np.isfinite(best).any() or (seconds and spent[-1] <= 0):
        return None
    figure, axes = _empty(5.6, 3.8)
    x = spent if seconds else np.arange(1, len(best) + 1)
    known = np.isfinite(best)
    axes.step(x[known], best[known], where="post", color=BLUE, lw=2, label=record.name, zorder=3)
    axes.plot(x[known][-1:], best[known][-1:], "o", color=BLUE, markersize=5, zorder=3)
    beside = record.baselines if not seconds and len(record.goals) == 1 else {}
    for colour, (name, curve) in zip(COLOURS[1:] * len(beside), beside.items(), strict=False):
        points = [(calls, value) for calls, value in curve if math.isfinite(value)]
        if points:
            calls, values = zip(*points, strict=True)
            axes.step(calls, values, where="post", color=colour, lw=1.3, ls="--", label=name)
    axes.set_xlim(left=0)
    if not seconds:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("seconds of the reference" if seconds else "runs of the reference")
    axes.set_ylabel(f"best score: {_shortened(record.goals[goal])}")
    if beside:
        _legend(axes)
    return figure


def front(record: CampaignRecord) -> Figure | None:
    """Measured scores of two goals, and those that nothing betters in both."""
    found = scorecard.scored(record.hypotheses)
    if len(record.goals) != 2 or not found:
        return None
    figure, axes = _empty(5.6, 4.4)
    for decision, colour, marker, label in (
        ("chosen", BLUE, "o", "chosen"),
        ("control", GREY, "s", "random control"),
    ):
        scores = np.array([h.measured_score for h in found if h.decision == decision])
        if len(scores):
            axes.scatter(
                scores[:, 0], scores[:, 1], s=22, color=colour, marker=marker, alpha=0.7,
                linewidths=0, label=label, rasterized=len(scores) > MANY,
            )  # fmt: skip
    best = np.array(sorted(h.measured_score for h in scorecard.front(found)))
    # Everything below and to the left of the stairs is bettered by a member of the front.
    axes.step(best[:, 0], best[:, 1], where="pre", color=ORANGE, lw=1.6, zorder=1)
    axes.scatter(
        best[:, 0],
        best[:, 1],
        s=60,
        facecolors="none",
        edgecolors=ORANGE,
        linewidths=1.6,
        label="Pareto front",
    )
    for axis, goal in zip((axes.xaxis, axes.yaxis), record.goals, strict=True):
        axis.set_label_text(f"score: {_shortened(goal)}")
    _legend(axes)
    return figure


def _kind(hypothesis: Hypothesis, name: str) -> str:
    held = scorecard.contained(hypothesis.predictions[name], hypothesis.measurements[name])
    return "undecided" if held is None else "confirmed" if held else "refuted"


def _end(value: float, unknown: float) -> float:
    return unknown if math.isnan(value) else value


def _shortened(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _words(name: str) -> str:
    return _shortened(name.replace("_", " "))


def _label(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


def _legend(axes: Axes) -> None:
    """Above the axes, where it hides nothing."""
    legend = axes.legend(
        frameon=False, fontsize=9, ncols=3, loc="lower left", bbox_to_anchor=(0, 1),
        borderaxespad=0.2, columnspacing=1.2, handletextpad=0.5,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_text(_shortened(text.get_text(), 24))


def _empty(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=10)
    axes.xaxis.label.set_fontsize(11)
    axes.yaxis.label.set_fontsize(11)
    axes.spines[["top", "right"]].set_visible(False)
    # User text such as a name with a dollar sign is no formula.
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_parse_math(False)
    return figure, axes

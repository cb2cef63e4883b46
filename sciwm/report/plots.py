"""Figures, each made by a function that returns it; nothing global, nothing shown.

Colours are those of Okabe and Ito, told apart by colour-blind readers as well.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from sciwm.simulation.observables.observable import Observable

BLACK, BLUE, ORANGE, GREEN = "#000000", "#0072B2", "#D55E00", "#009E73"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", BLACK)
"""Without Okabe and Ito's yellow, which is faint on white."""

POINTS = 20_000
"""Points drawn in a parity plot, at most."""


def parity(predicted: ArrayLike, reference: ArrayLike, quantity: str, unit: str) -> Figure:
    """Predictions against references, with the line on which they would agree.

    Args:
        predicted, reference: (K,) values.
        quantity: Names both axes.
        unit: Of both; empty in reduced units.
    """
    p, r = np.ravel(predicted), np.ravel(reference)
    if len(p) > POINTS:
        chosen = np.random.default_rng(0).choice(len(p), POINTS, replace=False)
        p, r = p[chosen], r[chosen]
    figure, axes = _empty(4.6, 4.4)
    low, high = float(min(p.min(), r.min())), float(max(p.max(), r.max()))
    margin = 0.03 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color=BLACK, linewidth=1, zorder=1)
    axes.scatter(r, p, s=9, alpha=0.4, color=BLUE, linewidths=0, zorder=2, rasterized=True)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.locator_params(nbins=5)
    axes.set_xlabel(label(f"reference {quantity}", unit))
    axes.set_ylabel(label(f"predicted {quantity}", unit))
    return figure


def error_histogram(predicted: ArrayLike, reference: ArrayLike, quantity: str, unit: str) -> Figure:
    """How often each error occurs, on a logarithmic scale that shows the tail."""
    error = np.ravel(predicted) - np.ravel(reference)
    figure, axes = _empty(5.0, 3.6)
    axes.hist(error, bins=81, color=BLUE)
    axes.axvline(0.0, color=BLACK, linewidth=1)
    axes.set_yscale("log")
    axes.set_xlabel(label(f"error of {quantity}", unit))
    axes.set_ylabel("number of values")
    return figure


def error_bars(errors: Mapping[str, float], nulls: Mapping[str, float], unit: str) -> Figure:
    """Errors of several groups, such as species, beside those of the null model.

    Args:
        errors, nulls: Root mean square error by name.
    """
    figure, axes = _empty(max(3.6, 1.4 + 0.8 * len(errors)), 3.6)
    places = np.arange(len(errors))
    axes.bar(places - 0.2, list(errors.values()), 0.4, color=BLUE, label="model")
    axes.bar(places + 0.2, [nulls[name] for name in errors], 0.4, color=ORANGE, label="null model")
    axes.set_yscale("log")
    axes.set_xticks(places, list(errors))
    axes.set_ylabel(label("RMSE", unit))
    axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def learning_curve(log: Path) -> Figure:
    """Training loss and validation errors against step, from a run's `log/metrics.csv`.

    Raises:
        ValueError: If the file holds no steps yet.
    """
    with log.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = [name for name in (rows[0] if rows else {}) if name.startswith(("train/", "valid/"))]
    if not names:
        raise ValueError(f"{log} holds no losses yet")
    figure, axes = _empty(5.6, 3.8)
    for colour, name in zip(COLOURS * len(names), names, strict=False):
        points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        if points:
            steps, values = zip(*points, strict=True)
            style = "-" if name.startswith("train/") else "o-"
            axes.plot(steps, values, style, color=colour, markersize=4, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss, errors in eV, Å or reduced")
    axes.legend(frameon=False)
    return figure


def energy_drift(times: ArrayLike, energies: ArrayLike, time_unit: str, energy_unit: str) -> Figure:
    """Total energy against time, with the straight line through it.

    Args:
        times: (T,).
        energies: (T,) or (S, T), one line for each system.
    """
    t = np.asarray(times, dtype=float)
    figure, axes = _empty(5.6, 3.6)
    for colour, series in zip(COLOURS * len(t), np.atleast_2d(energies), strict=False):
        change = series - series[0]
        axes.plot(t, change, color=colour, linewidth=1)
        slope, start = np.polyfit(t, change, 1)
        axes.plot(t, start + slope * t, color=colour, linestyle="--", linewidth=1)
    axes.axhline(0.0, color=BLACK, linewidth=0.7)
    axes.set_xlabel(label("time", time_unit))
    axes.set_ylabel(label("change of the total energy", energy_unit))
    return figure


def curves(observables: Mapping[str, Observable], title: str | None = None) -> Figure:
    """The same curve from several sources, such as a spectrum or a pair distribution, with errors.

    Args:
        observables: By source, such as "reference" and "imagined"; each along a curve.
        title: Of the vertical axis; the observable's name where absent.

    Raises:
        ValueError: If there are none, or one of them is a single number.
    """
    figure, axes = _empty(5.6, 3.6)
    if not observables:
        raise ValueError("no curves to draw")
    for colour, (source, found) in zip(COLOURS, observables.items(), strict=False):
        if found.x is None:
            raise ValueError(f"{found.name} of {source} is a single number, not a curve")
        value, error = np.asarray(found.value), np.nan_to_num(np.asarray(found.error))
        axes.plot(found.x, value, color=colour, linewidth=1.4, label=source)
        axes.fill_between(found.x, value - error, value + error, color=colour, alpha=0.2, lw=0)
    axes.set_xlabel(label(found.x_name, found.x_unit))
    axes.set_ylabel(label(title or found.name, found.unit))
    axes.legend(frameon=False)
    return figure


def time_series(
    times: ArrayLike, series: Mapping[str, ArrayLike], x_label: str, y_label: str
) -> Figure:
    """Quantities against time: a bond length, a coordinate, an energy.

    Args:
        times: (T,), shared by all.
        series: (T,) values by name; a shorter one ends early.
    """
    t = np.asarray(times, dtype=float)
    figure, axes = _empty(5.6, 3.6)
    for colour, (name, values) in zip(COLOURS * len(series), series.items(), strict=False):
        y = np.asarray(values, dtype=float)
        axes.plot(t[: len(y)], y, color=colour, linewidth=1.3, label=name)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(frameon=False)
    return figure


def bands(
    interval: float,
    expected: Mapping[str, ArrayLike],
    lines: Mapping[str, Sequence[ArrayLike]],
    x_label: str,
) -> Figure:
    """What was expected of some quantities over time, and how they went, side by side.

    Args:
        interval: Time from one value to the next.
        expected: (2, T) ends of what was expected, by label.
        lines: (T,) each, or shorter where one ended early.
    """
    figure = Figure(figsize=(4.6 * len(expected), 3.4), layout="constrained")
    for number, (name, ends) in enumerate(expected.items(), 1):
        low, high = np.asarray(ends)
        axes = figure.add_subplot(1, len(expected), number)
        axes.spines[["top", "right"]].set_visible(False)
        times = interval * np.arange(len(low))
        axes.fill_between(times, low, high, color=ORANGE, alpha=0.3, lw=0, label="imagined")
        for k, line in enumerate(map(np.asarray, lines[name])):
            told = None if k else "true"
            axes.plot(times[: len(line)], line, color=BLACK, linewidth=1, label=told)
        axes.set_xlabel(x_label)
        axes.set_ylabel(name)
        axes.legend(frameon=False)
    return figure


def horizon(
    times: ArrayLike, model: ArrayLike, null: ArrayLike, time_unit: str, error_unit: str
) -> Figure:
    """Position errors against the time since the last known frame: mean, median, 95th percentile.

    Args:
        times: (K,).
        model, null: (W, K) errors of W windows.
    """
    figure, axes = _empty(5.6, 3.8)
    for name, colour, errors in (("model", BLUE, model), ("constant velocity", ORANGE, null)):
        e = np.asarray(errors)
        axes.plot(times, np.median(e, axis=0), color=colour, label=f"{name}, median")
        axes.plot(times, e.mean(axis=0), "--", color=colour, label=f"{name}, mean")
        high = np.percentile(e, 95, axis=0, method="higher")
        axes.plot(times, high, ":", color=colour, label=f"{name}, 95 %")
    axes.set_yscale("log")
    axes.set_xlabel(label("time", time_unit))
    axes.set_ylabel(label("mean squared position error", error_unit))
    axes.legend(frameon=False, fontsize=9)
    return figure


def error_against_calls(
    calls: ArrayLike, errors: ArrayLike, low: ArrayLike, high: ArrayLike, goal: float, unit: str
) -> Figure:
    """How an error falls with what was asked, with its intervals and the goal.

    Args:
        calls: (R,) of the reference, until each error was measured.
        errors, low, high: (R,) each with the ends of its interval; a high end may be infinite.
        goal: In the unit of the errors.
    """
    x, y = np.asarray(calls, dtype=float), np.asarray(errors, dtype=float)
    below = y - np.asarray(low, dtype=float)
    above = np.asarray(high, dtype=float) - y
    above = np.where(np.isfinite(above), above, 0.0)
    figure, axes = _empty(5.6, 3.8)
    axes.errorbar(x, y, (below, above), fmt="o-", color=BLUE, capsize=3, label="fresh frames")
    axes.axhline(goal, color=ORANGE, linestyle="--", label="goal")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("calls of the reference")
    axes.set_ylabel(label("force error", unit))
    axes.legend(frameon=False)
    return figure


def errors_by_kind(
    places: Mapping[str, ArrayLike], errors: Mapping[str, ArrayLike], unit: str
) -> Figure:
    """How wrong a model was about each structure when it was asked.

    Args:
        places: (K,) number of the question, by kind.
        errors: (K,) likewise.
    """
    figure, axes = _empty(5.6, 3.8)
    for colour, (kind, x) in zip(COLOURS, places.items(), strict=False):
        axes.plot(x, errors[kind], "o", markersize=4, alpha=0.7, color=colour, label=kind)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("question")
    axes.set_ylabel(label("force error when asked", unit))
    axes.legend(frameon=False, ncols=2, fontsize=9)
    return figure


def save(figures: Mapping[str, Figure], folder: Path) -> Sequence[Path]:
    """Writes each figure as NAME.png and returns the files."""
    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=150)
        paths.append(path)
    return paths


def _empty(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of a size in inches, with text that stays readable at half width of a page."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=10)
    axes.xaxis.label.set_fontsize(11)
    axes.yaxis.label.set_fontsize(11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def label(name: str, unit: str) -> str:
    """A quantity and its unit, as an axis is marked."""
    return f"{name} ({unit})" if unit else name

"""Figures of a comparison between imagined and true motion."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sciwm.core.frame import Array
from sciwm.core.units import MOLECULAR
from sciwm.report import plots
from sciwm.report.comparison import MotionComparison, total_energy_change
from sciwm.report.coordinates import Coordinate

TRUE, IMAGINED, NULL = plots.BLACK, plots.ORANGE, plots.BLUE

AVERAGED = 20
"""Running means are over this share of a run: long against vibrations, short against drift."""


def paths(comparison: MotionComparison) -> Figure:
    """Bond lengths and a dihedral angle over time, and beside each how often each value occurs."""
    chosen = comparison.coordinates
    figure = Figure(figsize=(9.0, 1.5 * len(chosen) + 0.7), layout="constrained")
    grid = figure.subplots(len(chosen), 2, squeeze=False, width_ratios=(5, 1), sharey="row")
    for (series, histogram), coordinate in zip(grid, chosen, strict=True):
        draw_course(series, comparison, coordinate)
        _draw_occurrence(histogram, comparison, coordinate)
    grid[0, 0].legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    grid[0, 1].set_title("whole run", fontsize=10)
    grid[-1, 0].set_xlabel(_time_label(comparison))
    return figure


def parting(comparison: MotionComparison) -> Figure:
    """Distance between imagined and true positions over time, on a logarithmic scale."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    draw_parting(figure.add_subplot(), comparison)
    return figure


def spectrum(comparison: MotionComparison) -> Figure:
    """Vibrational densities of states of both."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    draw_spectra(figure.add_subplot(), comparison)
    return figure


def energies(comparison: MotionComparison) -> Figure | None:
    """Change of the total energy, which the true law conserves; None where it is unknown."""
    scale, unit = (1e3, "meV/atom") if comparison.true.units is MOLECULAR else (1.0, "")
    series = {
        name: scale * change
        for name, motion in (("true", comparison.true), ("imagined", comparison.imagined))
        if (change := total_energy_change(motion)) is not None
    }
    if not series:
        return None
    label = f"change of total energy ({unit})" if unit else "change of total energy per particle"
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, change in series.items():
        axes.plot(comparison.times, change, color=_colour(name), lw=0.6, alpha=0.3)
        width = max(len(change) // AVERAGED, 1)
        smooth = np.convolve(change, np.full(width, 1 / width), mode="valid")
        middle = comparison.times[width // 2 :][: len(smooth)]
        axes.plot(middle, smooth, color=_colour(name), lw=1.8, label=f"{name}, running mean")
    _finish(axes, _time_label(comparison), label)
    return figure


def draw_course(axes: Axes, comparison: MotionComparison, coordinate: Coordinate) -> None:
    """One internal coordinate over time: a bond while the paths agree, an angle to the end.

    Bonds vibrate so fast that more of them could not be told apart.
    """
    bond = len(coordinate.atoms) == 2
    window = max(2.0 * comparison.together, 0.1 * comparison.times[-1])
    shown = comparison.times <= (window if bond else comparison.times[-1])
    for name, values in _both(comparison, coordinate).items():
        course = values if bond else _unbroken(values)
        style = "-" if name == "true" else "--"
        axes.plot(
            comparison.times[shown], course[shown], style, color=_colour(name), lw=1.3, label=name
        )
    axes.set_ylabel(f"{coordinate.title}\n({coordinate.unit})")
    axes.spines[["top", "right"]].set_visible(False)


def draw_parting(axes: Axes, comparison: MotionComparison) -> None:
    """The distance from the truth, of imagination and of the null model."""
    length = comparison.true.units.length
    times = comparison.times[1:]
    null = comparison.standing_still[1:]
    axes.plot(times, comparison.separation[1:], color=IMAGINED, lw=1.4, label="imagined")
    axes.plot(times, null, color=NULL, lw=1, label="null: nothing moves")
    if comparison.parted:
        axes.axvline(comparison.together, color=plots.BLACK, lw=1, linestyle=":")
    axes.set_yscale("log")
    label = "distance from the truth"
    _finish(axes, _time_label(comparison), f"{label} ({length})" if length else label)


def draw_spectra(axes: Axes, comparison: MotionComparison) -> None:
    """Both spectra along the same axis, as far as the true one has any weight."""
    for name, found in comparison.spectra.items():
        assert found.x is not None
        style = "-" if name == "true" else "--"
        axes.plot(found.x, found.value, style, color=_colour(name), lw=1.4, label=name)
        if name == "true":
            share = np.cumsum(found.value) / np.sum(found.value)
            axes.set_xlim(0.0, 1.1 * float(found.x[np.searchsorted(share, 0.999)]))
    axes.set_yticks([])  # normalised to unit area: only the shape tells
    unit = f"{found.x_name} ({found.x_unit})" if found.x_unit else found.x_name
    _finish(axes, unit, "vibrational spectrum")


def _draw_occurrence(axes: Axes, comparison: MotionComparison, coordinate: Coordinate) -> None:
    both = _both(comparison, coordinate)
    edges = np.histogram_bin_edges(np.concatenate(list(both.values())), bins=40).tolist()
    for name, values in both.items():
        axes.hist(
            values, edges, histtype="step", orientation="horizontal", color=_colour(name), lw=1.2
        )
    axes.set_xticks([])
    axes.spines[["top", "right"]].set_visible(False)


def _both(comparison: MotionComparison, coordinate: Coordinate) -> dict[str, Array]:
    return {
        "true": coordinate.values(comparison.true),
        "imagined": coordinate.values(comparison.imagined),
    }


def _colour(name: str) -> str:
    return TRUE if name == "true" else IMAGINED


def _unbroken(angles: Array) -> Array:
    """The same with NaN where the angle jumps from 180° to -180°, so that no line is drawn."""
    broken = angles.copy()
    broken[1:][np.abs(np.diff(angles)) > 180.0] = np.nan
    return broken


def _time_label(comparison: MotionComparison) -> str:
    unit = comparison.true.units.time
    return f"time ({unit})" if unit else "time"


def _finish(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)

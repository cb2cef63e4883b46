"""The picture of a run: true and imagined motion as a film strip, and what became of it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from sciwm.core.frame import Array
from sciwm.report import appearance
from sciwm.report.comparison import MotionComparison
from sciwm.report.comparison_figures import draw_course, draw_parting, draw_spectra
from sciwm.simulation.observables.motion import Motion

MOMENTS = 7


def overview(comparison: MotionComparison) -> Figure:
    """Moments of both motions, an internal coordinate, the parting of paths, and the spectra.

    Raises:
        ValueError: If the motion has no bonds to draw, or is too short for a spectrum.
    """
    if not comparison.coordinates or not comparison.spectra:
        raise ValueError(
            f"{len(comparison.true)} frames of {len(comparison.true.numbers)} particles; the "
            "overview draws a molecule with bonds over at least 64 frames"
        )
    figure = Figure(figsize=(10.5, 5.6), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=(1.15, 1))
    strip = figure.add_subfigure(grid[0])
    below = figure.add_subfigure(grid[1])
    rows = strip.subplots(2, MOMENTS)
    end = min(3.0 * comparison.together, comparison.times[-1])
    moments = np.searchsorted(comparison.times, np.linspace(0.0, end, MOMENTS) - 1e-9)
    axes = _viewing_axes(comparison.true)
    for row, name in zip(rows, ("true", "imagined"), strict=True):
        _draw_moments(row, getattr(comparison, name), moments.tolist(), axes)
        row[0].set_ylabel(name, fontsize=12)
    for axis, moment in zip(rows[0], moments, strict=True):
        axis.set_title(f"{comparison.times[moment]:g} {comparison.true.units.time}", fontsize=10)
    course, parting, spectra = below.subplots(1, 3)
    draw_course(course, comparison, comparison.coordinates[-1])
    course.set_xlabel(parting.get_xlabel() or f"time ({comparison.true.units.time})")
    course.legend(frameon=False, fontsize=9, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    draw_parting(parting, comparison)
    draw_spectra(spectra, comparison)
    # Where molecules hardly vibrate, between the bending of bonds and the stretching of X-H.
    spectra.legend(
        frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(0.32, 1), handlelength=1.2
    )
    return figure


def _viewing_axes(motion: Motion) -> Array:
    """(3, 3) rows: across, up and towards the reader, so that a molecule is seen at its widest."""
    places = motion.without_drift().positions[0]
    return np.linalg.svd(places, full_matrices=True)[2]


def _draw_moments(row: np.ndarray, motion: Motion, moments: list[int], viewing: Array) -> None:
    places = motion.without_drift().positions[moments] @ viewing.T
    sizes, colours = appearance.radii(motion), appearance.colours(motion)
    sticks = appearance.sticks(motion)
    reach = 0.4 + float(np.abs(places).max())
    for axes, frame in zip(row, places, strict=True):
        _draw_molecule(axes, frame, sizes, colours, sticks)
        height = 0.4 + float(np.abs(places[..., 1]).max())
        axes.set(xlim=(-reach, reach), ylim=(-height, height), aspect="equal", xticks=[], yticks=[])
        axes.spines[:].set_visible(False)


def _draw_molecule(
    axes: Axes, places: Array, sizes: Array, colours: list[str], sticks: np.ndarray
) -> None:
    """Balls and sticks, the nearer ones in front."""
    for i, j in sticks:
        depth = places[[i, j], 2].mean()
        x, y = places[[i, j], 0], places[[i, j], 1]
        axes.plot(x, y, color="#6b7178", lw=3, zorder=10 + depth, solid_capstyle="round")
    for place, size, colour in zip(places, sizes, colours, strict=True):
        ball = Circle(
            tuple(place[:2]), size, facecolor=colour, edgecolor="#333333", lw=0.8,
            zorder=10.01 + place[2],
        )  # fmt: skip
        axes.add_patch(ball)

"""What a trajectory shows, whoever wrote it: numbers with error bars, curves, and a page of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sciwm.core.geometry import cell_heights
from sciwm.core.units import MOLECULAR
from sciwm.data.h5md import H5MDFile
from sciwm.report import page, plots, viewer
from sciwm.report.comparison import conserved_by
from sciwm.report.coordinates import Coordinate, telling_coordinates
from sciwm.report.page import Page
from sciwm.simulation.observables.bonding import bond_changes
from sciwm.simulation.observables.diffusion import (
    BLOCKS,
    diffusion_coefficient,
    mean_squared_displacement,
)
from sciwm.simulation.observables.gyration import radius_of_gyration
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.observable import Observable
from sciwm.simulation.observables.pair_distribution import pair_distribution
from sciwm.simulation.observables.statistics import mean_with_error
from sciwm.simulation.observables.thermodynamics import (
    density,
    energy_drift,
    energy_fluctuation,
    equipartition,
    temperature,
)
from sciwm.simulation.observables.vibration import vibrational_density_of_states

SEGMENTS = 4
"""Of a motion for its spectrum: they give it error bars."""

ANGLES = np.linspace(-180.0, 180.0, 73)
"""Edges of the bins of dihedral angles."""

FARTHEST = 10.0
"""Pair distances that are counted in a system without a cell, at most."""


@dataclass
class Analysis:
    """What one trajectory shows.

    Attributes:
        name: Of the trajectory.
        motion: What was measured.
        numbers: Observables that are a number.
        curves: Observables along a curve.
        missing: What could not be measured, each with the reason.
    """

    name: str
    motion: Motion
    numbers: list[Observable] = field(default_factory=list)
    curves: list[Observable] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def take(self, name: str, observe: Callable[[], Observable | list[Observable]]) -> None:
        """Adds what is measured, or the reason why it cannot be."""
        try:
            found = observe()
        except ValueError as error:
            self.missing.append(f"{name}: {error}")
            return
        for one in found if isinstance(found, list) else [found]:
            (self.numbers if one.x is None else self.curves).append(one)


def measure(name: str, motion: Motion) -> Analysis:
    """Everything that can be measured of a motion without asking further."""
    found = Analysis(name, motion)
    periodic = bool(motion.pbc.all())
    conserved = conserved_by(motion)
    found.take("temperature", lambda: temperature(motion, conserved))
    if len(np.unique(motion.numbers)) > 1:
        found.take("equipartition", lambda: list(equipartition(motion, conserved).values()))
    found.take("energy drift", lambda: energy_drift(motion))
    found.take("energy fluctuation", lambda: energy_fluctuation(motion))
    if periodic:
        found.take("density", lambda: density(motion))
        still = motion.without_drift()
        found.take("diffusion", lambda: diffusion_coefficient(still, _lags(motion)))
        found.take("mean squared displacement", lambda: mean_squared_displacement(still))
    else:
        found.take("radius of gyration", lambda: radius_of_gyration(motion))
    if motion.units is MOLECULAR:
        found.take("bonds", lambda: _changes(motion))
    for coordinate in telling_coordinates(motion):
        found.take(coordinate.name, lambda one=coordinate: _course(one, motion))  # type: ignore[misc]
    found.take("pair distances", lambda: pair_distribution(motion, _reach(motion)))
    found.take("vibrations", lambda: vibrational_density_of_states(motion, SEGMENTS))
    return found


def analyse(path: Path) -> list[Analysis]:
    """Of every trajectory of an H5MD file that has more than one frame.

    Raises:
        ValueError: If there is none.
    """
    with H5MDFile(path) as file:
        found = [
            measure(one.name, Motion.from_trajectory(one, file.units))
            for one in file.trajectories
            if one.n_frames > 1
        ]
    if not found:
        raise ValueError(f"{path} holds no trajectory of two frames or more; nothing moves in it")
    return found


def write_page(path: Path, found: list[Analysis], out: Path) -> None:
    """One HTML page with the numbers, curves and a film of each trajectory."""
    sheet = Page(f"Motion in {path.name}", "What the trajectory shows, with standard errors.")
    for one in found:
        parts = [page.table(["", "value", "unit"], table_of(one))]
        drawings = [
            page.figure(plots.curves({one.name: curve}), curve.name) for curve in one.curves
        ]
        if drawings:
            parts.append(page.figures(drawings))
        if one is found[0]:
            try:
                parts.append(viewer.viewer({one.name: one.motion}))
                sheet.scripts.append(viewer.SCRIPT)
            except ValueError as error:
                parts.append(page.note(f"No film: {error}."))
        parts += [page.note(f"Not measured: {reason}.") for reason in one.missing]
        sheet.section(one.name, *parts)
    sheet.write(out)


def table_of(found: Analysis) -> list[list[str]]:
    """Rows of name, value with its standard error, and unit."""
    rows = []
    for one in found.numbers:
        text = str(one).removeprefix(one.name).removesuffix(one.unit).strip()
        rows.append([one.name, text, one.unit])
    return rows


def _lags(motion: Motion) -> tuple[float, float]:
    """From a tenth to all of the longest lag that has error bars."""
    longest = (len(motion) // BLOCKS // 2) * motion.frame_spacing
    return 0.1 * longest, longest


def _reach(motion: Motion) -> float:
    if not motion.pbc.any():
        reach = 1.5 * float(np.linalg.norm(np.ptp(motion.positions[0], axis=0)))
        return min(reach + 1.0, FARTHEST) if motion.units is MOLECULAR else reach
    heights = np.array([cell_heights(cell, motion.pbc).min() for cell in motion.cells])
    return 0.999 * float(heights.min()) / 2


def _changes(motion: Motion) -> list[Observable]:
    changes = bond_changes(motion)
    return [
        Observable(f"bonds {kind}", sum(one.kind == kind for one in changes), 0.0, "")
        for kind in ("broken", "formed")
    ]


def _course(coordinate: Coordinate, motion: Motion) -> Observable:
    """The mean of a bond, or how often each value of an angle occurs."""
    values = coordinate.values(motion)
    if len(coordinate.atoms) == 2:
        mean, error = mean_with_error(values)
        return Observable(coordinate.name, float(mean), float(error), coordinate.unit)
    width = ANGLES[1] - ANGLES[0]
    shown = np.array([np.histogram(one, ANGLES)[0] / width for one in values])
    density_of_angles, error = mean_with_error(shown)
    centres = 0.5 * (ANGLES[1:] + ANGLES[:-1])
    return Observable(
        coordinate.name, density_of_angles, error, "1/°", centres, "dihedral angle", "°"
    )

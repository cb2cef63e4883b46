"""An imagined trajectory beside the true one: how long the paths agree, and the statistics after that."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sciwm.core.frame import Array
from sciwm.data.h5md import H5MDFile
from sciwm.report.alignment import separation
from sciwm.report.coordinates import Coordinate, telling_coordinates
from sciwm.report.numerals import plus_minus
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.observable import Observable
from sciwm.simulation.observables.statistics import mean_with_error
from sciwm.simulation.observables.thermodynamics import (
    Conserved,
    energy_drift,
    energy_fluctuation,
    kinetic_energies,
    temperature,
)
from sciwm.simulation.observables.vibration import vibrational_density_of_states

SAME_START = 1e-3
"""Starts are the same that differ by less than this share of the typical distance and speed."""

PARTED = 0.5
"""Paths have parted when they are this share as far apart as the truth is from standing still."""

SHORTEST_SPECTRUM = 64
"""Frames; fewer leave nothing to see in a spectrum."""


def read_motion(path: str) -> Motion:
    """The first trajectory of an H5MD file."""
    with H5MDFile(path) as file:
        return Motion.from_trajectory(file.trajectories[0], file.units)


def read_stride(path: str) -> tuple[str, float] | None:
    """What moved the systems of an H5MD file and how far at once; None where the file does not say."""
    with H5MDFile(path) as file:
        found = file.parameters
    if not {"integrator", "dt"} <= found.keys():
        return None
    return str(found["integrator"]), float(found["dt"])


@dataclass(frozen=True, eq=False)
class MotionComparison:
    """Two motions of the same particles, frame by frame at the same times.

    Attributes:
        true: What happened.
        imagined: What the model says.
    """

    true: Motion
    imagined: Motion

    @staticmethod
    def of(true: Motion, imagined: Motion) -> "MotionComparison":
        """Cuts both to the times they share.

        Raises:
            ValueError: If their particles differ, or their times cannot be brought together.
        """
        if not np.array_equal(true.numbers, imagined.numbers):
            raise ValueError(
                f"the true trajectory has particles {_composition(true)}, the imagined one "
                f"{_composition(imagined)}; simulate from a frame of the true one"
            )
        if true.units is not imagined.units:
            raise ValueError(
                f"the true trajectory is in {true.units.name} units, the imagined one in "
                f"{imagined.units.name}"
            )
        spacing = max(true.frame_spacing, imagined.frame_spacing)
        pair = [_thinned(motion, spacing) for motion in (true, imagined)]
        frames = min(map(len, pair))
        if frames < 3:
            raise ValueError(
                f"the trajectories share {frames} frames, {spacing:g} {true.units.time} apart; "
                "simulate for longer"
            )
        return MotionComparison(*(_first(motion, frames) for motion in pair))

    @property
    def times(self) -> Array:
        """(T,) since the start."""
        return np.arange(len(self.true), dtype=np.float64) * self.true.frame_spacing

    @property
    def _free(self) -> bool:
        """Whether place and orientation mean nothing."""
        return not self.true.pbc.any() and self.true.dimension == 3

    @cached_property
    def separation(self) -> Array:
        """(T,) between imagined and true positions, root mean square over particles."""
        return separation(self.imagined.positions, self.true.positions, self._free)

    @cached_property
    def standing_still(self) -> Array:
        """(T,) the same for a null model that leaves everything where it was."""
        start = np.broadcast_to(self.true.positions[0], self.true.positions.shape)
        return separation(start, self.true.positions, self._free)

    @property
    def same_start(self) -> bool:
        """Whether both begin with the same positions and, as far as known, velocities."""
        scale = max(float(np.median(self.standing_still)), 1e-12)
        if float(self.separation[0]) > max(SAME_START * scale, 1e-5):
            return False
        true, imagined = self.true.velocities, self.imagined.velocities
        if true is None or imagined is None:
            return True
        difference = np.linalg.norm(true[0] - imagined[0])
        return bool(difference <= SAME_START * np.linalg.norm(true[0]))

    @property
    def together(self) -> float:
        """How long the paths stay together: until they are half as far apart as the truth
        typically is from where it started."""
        limit = PARTED * float(np.median(self.standing_still))
        beyond = np.flatnonzero(self.separation > limit)
        return float(self.times[beyond[0]] if len(beyond) else self.times[-1])

    @property
    def parted(self) -> bool:
        return self.together < self.times[-1]

    @cached_property
    def coordinates(self) -> list[Coordinate]:
        return telling_coordinates(self.true)

    @cached_property
    def spectra(self) -> dict[str, Observable]:
        """Vibrational density of states of both; empty for motions too short to have one."""
        if len(self.true) < SHORTEST_SPECTRUM:
            return {}
        return {
            "true": vibrational_density_of_states(self.true),
            "imagined": vibrational_density_of_states(self.imagined),
        }

    @property
    def overlap(self) -> float:
        """Area that the two spectra share, between 0 and 1."""
        return shared_area(self.spectra["true"], self.spectra["imagined"])

    @property
    def overlap_of_halves(self) -> float:
        """The same between the first and the second half of the true motion: what one and the
        same law gives in two samples of this kind."""
        half = len(self.true) // 2
        return shared_area(
            vibrational_density_of_states(_first(self.true, half)),
            vibrational_density_of_states(_last(self.true, half)),
        )

    def statistics(self) -> list[tuple[str, str, str, str]]:
        """Rows of name, true value, imagined value, and unit, with their statistical errors."""
        rows = []
        for coordinate in self.coordinates:
            if len(coordinate.atoms) == 2:
                means = [
                    mean_with_error(coordinate.values(motion))
                    for motion in (self.true, self.imagined)
                ]
                true, imagined = (plus_minus(float(mean), float(error)) for mean, error in means)
                rows.append((f"mean {coordinate.name}", true, imagined, coordinate.unit))
        conserved = conserved_by(self.true)
        thermal: list[Callable[[Motion], Observable]] = [
            lambda motion: temperature(motion, conserved),
            energy_drift,
            energy_fluctuation,
        ]
        for measure in thermal:
            pair = [_measured(measure, motion) for motion in (self.true, self.imagined)]
            known = next((one for one in pair if one is not None), None)
            if known is not None:
                shown = [
                    "-" if one is None else plus_minus(float(one.value), float(one.error))
                    for one in pair
                ]
                rows.append((known.name, shown[0], shown[1], known.unit))
        return rows


def conserved_by(motion: Motion) -> Conserved:
    """Which momenta a motion keeps at zero, as told by its first frame."""
    if motion.velocities is None:
        return "nothing"
    momenta = motion.masses[:, None] * motion.velocities[0]
    if np.linalg.norm(momenta.sum(axis=0)) > 1e-3 * np.linalg.norm(momenta, axis=1).sum():
        return "nothing"
    arms = motion.without_drift().positions[0]
    turning = np.cross(arms, momenta)
    if motion.pbc.any() or (
        np.linalg.norm(turning.sum(axis=0)) > 1e-3 * np.linalg.norm(turning, axis=1).sum()
    ):
        return "momentum"
    return "momentum and angular momentum"


def shared_area(first: Observable, second: Observable) -> float:
    """Integral of the smaller of two densities of unit area along the same axis."""
    assert first.x is not None
    low = np.minimum(first.value, second.value)
    return float(low.sum() * (first.x[1] - first.x[0]))


def total_energy_change(motion: Motion) -> Array | None:
    """(T,) total energy per particle, less that of the first frame; None where it is unknown."""
    if motion.energy is None or motion.velocities is None:
        return None
    total = (motion.energy + kinetic_energies(motion).sum(axis=1)) / len(motion.numbers)
    return total - total[0]


def _measured(measure: Callable[[Motion], Observable], motion: Motion) -> Observable | None:
    try:
        return measure(motion)
    except ValueError:  # no velocities, or no energies: nothing to measure it by
        return None


def _thinned(motion: Motion, spacing: float) -> Motion:
    """Every n-th frame, such that they are `spacing` apart."""
    ratio = spacing / motion.frame_spacing
    stride = round(ratio)
    if abs(ratio - stride) > 1e-6 * ratio:
        raise ValueError(
            f"frames {motion.frame_spacing:g} and {spacing:g} {motion.units.time} apart never meet; "
            "simulate with `--every` such that one is a multiple of the other"
        )
    return _cut(motion, slice(None, None, stride), spacing)


def _first(motion: Motion, frames: int) -> Motion:
    return _cut(motion, slice(0, frames), motion.frame_spacing)


def _last(motion: Motion, frames: int) -> Motion:
    return _cut(motion, slice(len(motion) - frames, None), motion.frame_spacing)


def _cut(motion: Motion, frames: slice, spacing: float) -> Motion:
    return replace(
        motion,
        positions=motion.positions[frames],
        timestep=spacing,
        velocities=None if motion.velocities is None else motion.velocities[frames],
        energy=None if motion.energy is None else motion.energy[frames],
        cell=motion.cell if motion.cell.ndim == 2 else motion.cell[frames],
    )


def _composition(motion: Motion) -> str:
    kinds, counts = np.unique(motion.numbers, return_counts=True)
    return ", ".join(f"{n} of type {kind}" for kind, n in zip(kinds, counts, strict=True))

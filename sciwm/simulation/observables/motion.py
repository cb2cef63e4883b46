"""A recorded path of one system, as observables read it: continuous and evenly spaced."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase.data import atomic_masses
from numpy.typing import NDArray

from sciwm.core.frame import Array, Frame
from sciwm.core.geometry import completed_cell, minimum_image
from sciwm.core.units import MOLECULAR, UnitSystem
from sciwm.data.h5md import Trajectory

LONGEST_STEP = 0.4
"""Share of the cell that a particle may cross between frames and still be followed for certain."""


@dataclass(frozen=True, eq=False)
class Motion:
    """One system over T evenly spaced frames.

    Attributes:
        numbers: (N,) atomic numbers or particle types.
        masses: (N,).
        positions: (T, N, 3) on the continuous path, not folded back into the box.
        timestep: Time between frames; None where unknown.
        velocities: (T, N, 3).
        energy: (T,) potential energy.
        cell: (3, 3), or (T, 3, 3) where the box changes; zero rows where nothing repeats.
        pbc: (3,) which cell vectors repeat.
        dimension: 2 or 3.
        units: Of all of these.
    """

    numbers: NDArray[np.int64]
    masses: Array
    positions: Array
    timestep: float | None
    velocities: Array | None = None
    energy: Array | None = None
    cell: Array = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(3, dtype=bool))
    dimension: int = 3
    units: UnitSystem = MOLECULAR

    def __post_init__(self) -> None:
        frames, atoms = self.positions.shape[:2]
        shapes = {
            "numbers": (self.numbers, (atoms,)),
            "masses": (self.masses, (atoms,)),
            "positions": (self.positions, (frames, atoms, 3)),
            "velocities": (self.velocities, (frames, atoms, 3)),
            "energy": (self.energy, (frames,)),
            "cell": (self.cell, (3, 3) if self.cell.ndim == 2 else (frames, 3, 3)),
            "pbc": (self.pbc, (3,)),
        }
        for name, (array, shape) in shapes.items():
            if array is not None and array.shape != shape:
                raise ValueError(
                    f"{name} has shape {array.shape}, but {frames} frames of {atoms} "
                    f"particles need {shape}"
                )
        if self.timestep is not None and self.timestep <= 0:
            raise ValueError(f"timestep={self.timestep} between frames must be positive")

    @staticmethod
    def from_trajectory(
        trajectory: Trajectory, units: UnitSystem, frames: slice = slice(None)
    ) -> "Motion":
        """Frames of an H5MD trajectory, with periodic crossings undone.

        Raises:
            ValueError: If the frames are not one evenly spaced run of the same particles, or move
                too far in one step to be followed through the boundary.
        """
        start, stop, stride = frames.indices(trajectory.n_frames)
        length = len(range(start, stop, stride))
        if stride < 1 or length == 0:
            raise ValueError(
                f"{frames} picks no forward run out of the {trajectory.n_frames} frames of "
                f"{trajectory.name!r}"
            )
        inside = [int(b) for b in trajectory.breaks if start < b < stop]
        if inside:
            raise ValueError(
                f"{trajectory.name!r} is restarted at frame {inside[0]}, so frames {start} to "
                f"{stop} are no single path; choose frames on one side of it"
            )
        first = trajectory.frame(start)
        if len(first) != trajectory.n_particles:
            raise ValueError(
                f"{trajectory.name!r} holds {len(first)} of {trajectory.n_particles} particles at "
                f"frame {start}; observables need the same particles throughout"
            )
        window = trajectory.window(start, length, stride)
        picked = np.arange(start, stop, stride)
        images = trajectory.read("images", picked) if "images" in trajectory.fields else None
        timestep = trajectory.timestep
        return Motion(
            numbers=first.numbers,
            masses=_masses(first, units),
            positions=continuous(window.positions, window.cell, first.pbc, images),
            timestep=None if timestep is None else timestep * stride,
            velocities=window.velocities,
            energy=window.energy,
            cell=window.cell,
            pbc=first.pbc,
            dimension=trajectory.dimension,
            units=units,
        )

    @staticmethod
    def from_frames(frames: Sequence[Frame], units: UnitSystem = MOLECULAR) -> "Motion":
        """Frames that follow one another in time.

        Raises:
            ValueError: If there are none, their particles differ, or their times are uneven.
        """
        if not frames:
            raise ValueError("no frames to measure; give at least one")
        first = frames[0]
        for k, frame in enumerate(frames):
            if not np.array_equal(frame.numbers, first.numbers):
                raise ValueError(f"frame {k} holds other particles than frame 0")
        cell = np.stack([frame.cell for frame in frames])
        images = _stacked([frame.images for frame in frames])
        flags = None if images is None else images.astype(np.int64)
        return Motion(
            numbers=first.numbers,
            masses=_masses(first, units),
            positions=continuous(
                np.stack([frame.positions for frame in frames]), cell, first.pbc, flags
            ),
            timestep=_spacing([frame.time for frame in frames]),
            velocities=_stacked([frame.velocities for frame in frames]),
            energy=_stacked([frame.energy for frame in frames]),
            cell=cell,
            pbc=first.pbc,
            dimension=first.dimension,
            units=units,
        )

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def cells(self) -> Array:
        """(T, 3, 3) the box at each frame."""
        return np.broadcast_to(self.cell, (len(self), 3, 3))

    @property
    def frame_spacing(self) -> float:
        """The time between frames, for observables that cannot do without.

        Raises:
            ValueError: If it is unknown.
        """
        if self.timestep is None:
            raise ValueError(
                "the time between frames is unknown or uneven, and this observable needs it; "
                "build the motion with `timestep`"
            )
        return self.timestep

    def of_species(self, species: int | None) -> NDArray[np.bool_]:
        """(N,) bool, the particles of one type; all of them where `species` is None.

        Raises:
            ValueError: If there is no such particle.
        """
        if species is None:
            return np.ones(len(self.numbers), dtype=bool)
        rows = self.numbers == species
        if not rows.any():
            raise ValueError(
                f"no particle of type {species}; this system has {np.unique(self.numbers).tolist()}"
            )
        return rows

    def without_drift(self) -> "Motion":
        """The same motion seen from its centre of mass."""
        weights = self.masses[:, None] / self.masses.sum()
        velocities = self.velocities
        if velocities is not None:
            velocities = velocities - (weights * velocities).sum(axis=1, keepdims=True)
        centre = (weights * self.positions).sum(axis=1, keepdims=True)
        return replace(self, positions=self.positions - centre, velocities=velocities)


def continuous(
    positions: Array, cell: Array, pbc: NDArray[np.bool_], images: NDArray[np.int64] | None = None
) -> Array:
    """(T, N, 3) positions with boundary crossings undone.

    Image flags decide where there are any; otherwise every step is taken to be the shortest one.
    Steps are added up in Cartesian space, which under changing boxes keeps diffusion right where
    unfolding whole positions does not (von Bülow, Bullerjahn and Hummer 2020).

    Args:
        positions: (T, N, 3), folded or not.
        cell: (3, 3) or (T, 3, 3).
        pbc: (3,).
        images: (T, N, 3) box crossings.

    Raises:
        ValueError: If a particle moves so far in one step that the shortest image is a guess.
    """
    if not np.any(pbc):
        return positions
    cells = np.broadcast_to(cell, (len(positions), 3, 3))
    if images is not None:
        return positions + images @ cells
    steps = np.empty_like(positions[1:])
    for t in range(1, len(positions)):
        steps[t - 1] = minimum_image(positions[t] - positions[t - 1], cells[t], pbc)
        share = np.abs(steps[t - 1] @ np.linalg.inv(completed_cell(cells[t], pbc)))[:, pbc]
        if share.size and share.max() > LONGEST_STEP:
            particle = int(share.max(axis=1).argmax())
            raise ValueError(
                f"particle {particle} moves {share.max():.2f} of the cell between frames {t - 1} "
                f"and {t}, so the way it took through the boundary is a guess; store frames more "
                "often, or store image flags"
            )
    return np.concatenate([positions[:1], positions[:1] + np.cumsum(steps, axis=0)])


def _masses(frame: Frame, units: UnitSystem) -> Array:
    if frame.masses is not None:
        return frame.masses
    return atomic_masses[frame.numbers] if units is MOLECULAR else np.ones(len(frame))


def _stacked(values: Sequence) -> Array | None:
    return None if any(value is None for value in values) else np.stack(values)


def _spacing(times: Sequence[float | None]) -> float | None:
    if len(times) < 2 or any(time is None for time in times):
        return None
    steps = np.diff(np.array(times, dtype=np.float64))
    if steps[0] <= 0 or not np.allclose(steps, steps[0], rtol=1e-6):
        raise ValueError(
            f"frames are unevenly spaced in time: steps from {steps.min():.6g} to "
            f"{steps.max():.6g}; choose an evenly spaced run"
        )
    return float(steps[0])

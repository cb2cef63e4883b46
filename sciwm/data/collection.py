"""Many trajectory files seen as one numbered list of frames, read only when asked for."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from sciwm.core.frame import Frame
from sciwm.core.plausibility import Oddity, frame_oddity, oddity
from sciwm.core.units import UnitSystem
from sciwm.data.h5md import H5MDFile
from sciwm.data.h5md.trajectory import Trajectory, Window


@dataclass(frozen=True, order=True)
class Entry:
    """Where a frame, or the first frame of a window, is found."""

    file: int
    trajectory: int
    frame: int


class Collection:
    """Trajectory files, opened lazily in every process that reads them.

    Args:
        paths: H5MD files.

    Raises:
        ValueError: If the files are in different unit systems, or there are none.
    """

    def __init__(self, paths: Sequence[str | Path]):
        if not paths:
            raise ValueError("no data files were given")
        self.files = [H5MDFile(path) for path in paths]
        self.paths = [Path(path) for path in paths]
        self._sound_frames = _Marks()
        self._sound_motion = _Marks()

    @cached_property
    def units(self) -> UnitSystem:
        names = {file.units.name for file in self.files}
        if len(names) > 1:
            listing = ", ".join(f"{file.path} ({file.units.name})" for file in self.files)
            raise ValueError(f"files in different unit systems cannot be mixed: {listing}")
        return self.files[0].units

    @property
    def trajectories(self) -> list[Trajectory]:
        """Those of all files."""
        return [one for file in self.files for one in file.trajectories]

    def trajectory(self, entry: Entry) -> Trajectory:
        return self.files[entry.file].trajectories[entry.trajectory]

    def frame(self, entry: Entry) -> Frame:
        """One frame.

        Raises:
            ValueError: If a number in it is beyond what can be.
        """
        trajectory = self.trajectory(entry)
        frame = trajectory.frame(entry.frame)
        if self._sound_frames.lack(entry, trajectory, 1, 1):
            self._require_plausible(entry, frame_oddity(frame, self.units))
            self._sound_frames.set(entry, 1, 1)
        return frame

    def window(self, entry: Entry, length: int, stride: int) -> Window:
        """The frames from one on.

        Raises:
            ValueError: If a position or velocity in it is beyond what can be.
        """
        trajectory = self.trajectory(entry)
        window = trajectory.window(entry.frame, length, stride)
        if self._sound_motion.lack(entry, trajectory, length, stride):
            self._require_plausible_motion(entry, window, stride)
            self._sound_motion.set(entry, length, stride)
        return window

    def _require_plausible_motion(self, first: Entry, window: Window, stride: int) -> None:
        """Raises ValueError if a position or velocity in a window is beyond what can be."""
        named = (
            ("positions", "length", window.positions),
            ("velocities", "velocity", window.velocities),
        )
        for name, quantity, values in named:
            found = None if values is None else oddity(quantity, values, self.units)
            if found is not None:
                entry = replace(first, frame=first.frame + found.row * stride)
                self._require_plausible(entry, found.of(name))

    def _require_plausible(self, entry: Entry, found: Oddity | None) -> None:
        if found is not None:
            raise ValueError(
                f"{self.paths[entry.file]}: {self.trajectory(entry).name!r}, frame {entry.frame}: "
                f"{found.sentence}. Import the data anew with --skip_bad true, or correct its units"
            )

    @cached_property
    def frames(self) -> list[Entry]:
        """Every frame of every trajectory."""
        return [
            Entry(f, t, k)
            for f, file in enumerate(self.files)
            for t, trajectory in enumerate(file.trajectories)
            for k in range(trajectory.n_frames)
        ]

    def windows(self, length: int, stride: int) -> list[Entry]:
        """The first frame of every window that lies inside one unbroken run.

        Raises:
            ValueError: If a trajectory is no time series.
        """
        entries = []
        for f, file in enumerate(self.files):
            for t, trajectory in enumerate(file.trajectories):
                if not trajectory.consecutive or trajectory.timestep is None:
                    raise ValueError(
                        f"{file.path}: {trajectory.name!r} is not a time series (its frames have no "
                        "times, or uneven ones), so motion cannot be learnt from it; give the time "
                        "between frames with `sciwm import --timestep`, or train on forces"
                    )
                span = (length - 1) * stride
                runs = [0, *trajectory.breaks.tolist(), trajectory.n_frames]
                for start, stop in pairwise(runs):
                    entries += [Entry(f, t, k) for k in range(start, stop - span)]
        return entries

    def fingerprint(self) -> dict[str, object]:
        """Names, sizes and hashes of the files' beginnings and ends, to recognise them again."""
        described = []
        for path in self.paths:
            digest = hashlib.sha256()
            with path.open("rb") as stream:
                digest.update(stream.read(1 << 20))
                stream.seek(max(path.stat().st_size - (1 << 20), 0))
                digest.update(stream.read())
            described.append(
                {"name": path.name, "bytes": path.stat().st_size, "sha256": digest.hexdigest()}
            )
        return {"files": described, "units": self.units.name, "frames": len(self.frames)}


class _Marks:
    """Frames that were looked at already: what is read again, epoch after epoch, is what it was."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], bytearray] = {}

    def lack(self, first: Entry, trajectory: Trajectory, length: int, stride: int) -> bool:
        """Whether some of so many frames of a trajectory were not looked at."""
        key = first.file, first.trajectory
        if key not in self._seen:
            self._seen[key] = bytearray(trajectory.n_frames)
        return not all(self._seen[key][_frames(first, length, stride)])

    def set(self, first: Entry, length: int, stride: int) -> None:
        """Says that they were looked at; after `lack` alone."""
        seen = self._seen[first.file, first.trajectory]
        seen[_frames(first, length, stride)] = bytes([True]) * length


def _frames(first: Entry, length: int, stride: int) -> slice:
    return slice(first.frame, first.frame + length * stride, stride)


def geometry_hash(frame: Frame) -> bytes:
    """The same for frames that agree to 1e-6 Å in everything a model sees."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(frame.numbers.tobytes())
    # Adding zero turns -0.0 into 0.0, which would hash differently.
    digest.update((np.round(frame.positions, 6) + 0.0).tobytes())
    digest.update((np.round(frame.cell, 6) + 0.0).tobytes())
    return digest.digest()

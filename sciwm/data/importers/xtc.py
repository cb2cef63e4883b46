"""GROMACS XTC: positions of limited precision, decompressed by MDAnalysis frame by frame.

In nm and ps. MDAnalysis' reader of single frames, unlike the one behind `Universe`, keeps no file
of offsets beside the source; being C, it trusts what it reads, so it runs in a process of its own
while the headers are checked here.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count as counted
from pathlib import Path
from typing import IO

import numpy as np

from sciwm.core.frame import Array, Frame
from sciwm.data.importers.elements import numbers_of_atoms, required_mdanalysis
from sciwm.data.importers.isolation import Record, isolated
from sciwm.data.importers.source import ImportOptions, SourceError, foreign_reader
from sciwm.data.importers.source_units import GROMACS, SourceUnits

_MAGICS = (1995, 2023)
"""Version 2023 counts the bytes of a frame in 64 bits."""
_UNCOMPRESSED = 9
"""Frames of so few atoms hold plain numbers."""
_LONGEST_RUN = 16
"""Atoms that may share one entry of the compressed stream; their number is kept in five bits."""
_LARGEST_INDEX = 73
"""Entries in the table of integer sizes that the compression uses."""


class XTC:
    """One run; XTC has neither velocities nor forces."""

    name = "GROMACS XTC"
    accepts = frozenset({"topology", "elements"})

    def matches(self, path: Path) -> bool:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(4)
        return len(start) == 4 and struct.unpack(">i", start)[0] in _MAGICS

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return GROMACS.overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        with path.open("rb") as headers:
            header = _Header.read(headers, path, 0, None)
            if header is None:
                return
            with isolated(_decompressed, path) as records:
                numbers = numbers_of_atoms(header.count, options, path)
                index = 0
                while header is not None:
                    # Whether another frame follows properly is told before this one is believed.
                    following = _Header.read(headers, path, index + 1, header.count)
                    raw = next(records, None)
                    if raw is None or not header.bounds(raw["positions"]):
                        raise _damaged(path, index)
                    # A box without volume means that nothing repeats.
                    box = raw["box"].astype(np.float64)
                    periodic = np.linalg.matrix_rank(np.nan_to_num(box)) == 3
                    yield units.applied(
                        Frame(
                            numbers=numbers,
                            positions=raw["positions"].astype(np.float64),
                            cell=box * periodic,
                            pbc=np.full(3, periodic),
                            time=float(raw["time"]),
                            step=int(raw["step"]),
                            trajectory=path.name,
                        )
                    )
                    header, index = following, index + 1
                if next(records, None) is not None:
                    raise _damaged(path, index)


def _decompressed(path: Path) -> Iterator[Record]:
    """Positions (N, 3), box (3, 3), time and step of every frame, in the file's units."""
    required_mdanalysis(path)
    from MDAnalysis.lib.formats.libmdaxdr import XTCFile

    with foreign_reader(path, "frame 0"):
        file = XTCFile(str(path))
    with file:
        for index in counted():
            # A run of atoms that is longer than the frame ends in the rows behind it.
            rows = np.full((file.n_atoms + _LONGEST_RUN, 3), np.nan, dtype=np.float32)
            with foreign_reader(path, f"frame {index}"):
                try:
                    raw = file.read_direct_x(rows[: file.n_atoms])
                except StopIteration:
                    return
            if not np.isnan(rows[file.n_atoms :]).all():
                raise _damaged(path, index)
            yield {
                "positions": rows[: file.n_atoms],
                "box": raw.box,
                "time": np.array(raw.time),
                "step": np.array(raw.step),
            }


@dataclass(frozen=True)
class _Header:
    """What stands before the positions of a frame.

    Attributes:
        count: Number of atoms.
        precision: Steps per nm.
        extremes: (2, 3) lowest and highest coordinates, in steps; None for frames of plain numbers.
    """

    count: int
    precision: float = 1.0
    extremes: np.ndarray | None = None

    @staticmethod
    def read(file: IO[bytes], path: Path, index: int, expected: int | None) -> "_Header | None":
        """The next frame, whose positions are skipped; None at the end of the file.

        Raises:
            SourceError: If it is not a frame of `expected` atoms that ends within the file.
        """
        start = file.read(56)
        if not start:
            return None
        if len(start) == 56:
            magic, count = struct.unpack(">2i", start[:8])
            repeated = struct.unpack(">i", start[52:])[0]
            sound = magic in _MAGICS and count == repeated == (expected or count) and count > 0
            header = _Header(count)
            if sound and count <= _UNCOMPRESSED:
                length = 12 * count
            elif sound:
                long = magic == 2023
                rest = file.read(40 if long else 36)
                sound = len(rest) == (40 if long else 36)
                if sound:
                    precision, *extremes, smallest, length = struct.unpack(
                        ">f7i" + ("q" if long else "i"), rest
                    )
                    low, high = box = np.array(extremes).reshape(2, 3)
                    header = _Header(count, precision, box)
                    sound = 0 <= smallest < _LARGEST_INDEX and length > 0
                    sound &= bool((low <= high).all())
                    sound &= precision.is_integer() and precision > 0  # never a fraction
                    length += -length % 4  # records are padded to whole words
            if sound and file.tell() + length <= path.stat().st_size:
                file.seek(length, 1)
                return header
        raise _damaged(path, index)

    def bounds(self, positions: Array) -> bool:
        """Whether the lowest and highest coordinates of (N, 3) `positions` are the stated ones."""
        if self.extremes is None:
            return True
        # Nothing but their extremes sums the coordinates up: a slip of the decompression shows here.
        axes = np.ascontiguousarray(positions.T)  # a hundred times faster than along columns
        found = np.stack([axes.min(axis=1), axes.max(axis=1)]) * self.precision
        rounding = 0.5 + 3e-7 * np.abs(self.extremes)
        return bool((np.abs(found - self.extremes) <= rounding).all())


def _damaged(path: Path, index: int) -> SourceError:
    return SourceError(
        path, f"frame {index}", "is damaged or breaks off", "Copy the file again, or cut it there"
    )

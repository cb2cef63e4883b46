"""GROMACS XTC: positions of limited precision, decompressed by MDAnalysis frame by frame.

In nm and ps. MDAnalysis' reader of single frames, unlike the one behind `Universe`, keeps no file
of offsets beside the source; being C, it trusts every header, so these are read here first.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from sciwm.core.frame import Frame
from sciwm.data.importers.elements import numbers_of_atoms, required_mdanalysis
from sciwm.data.importers.source import ImportOptions, SourceError, foreign_reader
from sciwm.data.importers.source_units import GROMACS, SourceUnits

_MAGICS = (1995, 2023)
"""Version 2023 counts the bytes of a frame in 64 bits."""
_UNCOMPRESSED = 9
"""Frames of so few atoms hold plain numbers."""
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
        required_mdanalysis(path)
        from MDAnalysis.lib.formats.libmdaxdr import XTCFile

        with path.open("rb") as headers:
            count = _pass_header(headers, path, 0, None)
            if count is None:
                return
            numbers = numbers_of_atoms(count, options, path)
            with foreign_reader(path, "frame 0"):
                file = XTCFile(str(path))
            with file:
                index = 0
                following: int | None = count
                while following is not None:
                    # A frame that another does not follow properly would crash the decompression.
                    following = _pass_header(headers, path, index + 1, count)
                    with foreign_reader(path, f"frame {index}"):
                        raw = file.read()
                    # A box without volume means that nothing repeats.
                    periodic = np.linalg.matrix_rank(np.nan_to_num(raw.box)) == 3
                    yield units.applied(
                        Frame(
                            numbers=numbers,
                            positions=raw.x.astype(np.float64),
                            cell=raw.box.astype(np.float64) * periodic,
                            pbc=np.full(3, periodic),
                            time=float(raw.time),
                            step=int(raw.step),
                            trajectory=path.name,
                        )
                    )
                    index += 1


def _pass_header(file: IO[bytes], path: Path, index: int, expected: int | None) -> int | None:
    """Number of atoms of the next frame, which is skipped; None at the end of the file.

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
        if sound and count <= _UNCOMPRESSED:
            length = 12 * count
        elif sound:
            long = magic == 2023
            rest = file.read(40 if long else 36)
            sound = len(rest) == (40 if long else 36)
            if sound:
                *bounds, smallest, length = struct.unpack(">7i" + ("q" if long else "i"), rest[4:])
                low, high = np.array(bounds).reshape(2, 3)
                sound = 0 <= smallest < _LARGEST_INDEX and length > 0 and bool((low <= high).all())
                length += -length % 4  # records are padded to whole words
        if sound and file.tell() + length <= path.stat().st_size:
            file.seek(length, 1)
            return count
    raise SourceError(
        path, f"frame {index}", "is damaged or breaks off", "Copy the file again, or cut it there"
    )

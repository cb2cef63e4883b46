"""GROMACS TRR: positions, velocities and forces in full precision, read without GROMACS' library.

Big-endian XDR records of single or double precision, in nm, ps and kJ/mol; velocities and forces
where a frame has them.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from sciwm.core.frame import Array, Frame
from sciwm.data.importers.elements import numbers_of_atoms
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import GROMACS, SourceUnits

_MAGIC = struct.pack(">i", 1993)
_VERSION = struct.pack(">ii", 13, 12) + b"GMX_trn_file"
_SIZES = ("ir", "energy", "box", "virial", "pressure", "topology", "symbols", "x", "v", "f")


class TRR:
    """One run."""

    name = "GROMACS TRR"
    accepts = frozenset({"topology", "elements"})

    def matches(self, path: Path) -> bool:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) == _MAGIC

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return GROMACS.overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        numbers: np.ndarray | None = None
        with path.open("rb") as file:
            index = 0
            while (raw := _Frame.read(file, path, index)) is not None:
                index += 1
                if numbers is None:
                    numbers = numbers_of_atoms(raw.count, options, path)
                if raw.count != len(numbers):
                    raise raw.error(f"has {raw.count} atoms, the first frame {len(numbers)}")
                if raw.positions is None:
                    continue  # velocities may be stored more often than positions
                yield units.applied(
                    Frame(
                        numbers=numbers,
                        positions=raw.positions,
                        cell=raw.box,
                        pbc=np.full(3, raw.box.any()),
                        velocities=raw.velocities,
                        forces=raw.forces,
                        time=raw.time,
                        step=raw.step,
                        trajectory=path.name,
                    )
                )


class _Frame:
    """One record of the file, in its own units."""

    def __init__(self, path: Path, index: int):
        self._path = path
        self._index = index
        self.count = 0
        self.step = 0
        self.time = 0.0
        self.box = np.zeros((3, 3))
        self.positions: Array | None = None
        self.velocities: Array | None = None
        self.forces: Array | None = None

    @staticmethod
    def read(file: IO[bytes], path: Path, index: int) -> "_Frame | None":
        """The next record; None at the end of the file."""
        magic = file.read(4)
        if not magic:
            return None
        frame = _Frame(path, index)
        if magic != _MAGIC or file.read(len(_VERSION)) != _VERSION:
            raise frame.error("does not start like a TRR frame")
        *lengths, frame.count, frame.step, _ = struct.unpack(">13i", frame._exactly(file, 52))
        sizes = dict(zip(_SIZES, lengths, strict=True))
        vectors = {sizes[name] for name in "xvf"} - {0}
        width = sizes["box"] // 9 or (max(vectors, default=0) // (3 * max(frame.count, 1)))
        if (
            width not in (4, 8)
            or frame.count < 1
            or min(lengths) < 0
            or sizes["box"] not in (0, 9 * width)
            or vectors - {3 * width * frame.count}
        ):
            raise frame.error(f"has {frame.count} atoms but blocks of {sizes} bytes")
        kind = f">f{width}"
        frame.time = float(np.frombuffer(frame._exactly(file, 2 * width), dtype=kind)[0])
        blocks = {name: frame._exactly(file, size) for name, size in sizes.items()}

        def vectors_of(name: str) -> Array | None:
            values = np.frombuffer(blocks[name], dtype=kind).astype(np.float64)
            return values.reshape(-1, 3) if len(values) else None

        box = vectors_of("box")
        # A box without volume means that nothing repeats.
        if box is not None and np.linalg.matrix_rank(np.nan_to_num(box)) == 3:
            frame.box = box
        frame.positions, frame.velocities, frame.forces = map(vectors_of, "xvf")
        return frame

    def error(self, reason: str) -> SourceError:
        return SourceError(self._path, f"frame {self._index}", reason, "Copy the file again")

    def _exactly(self, file: IO[bytes], size: int) -> bytes:
        content = file.read(size)
        if len(content) < size:
            raise self.error("the file breaks off")
        return content

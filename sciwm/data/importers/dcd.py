"""DCD trajectories of CHARMM, NAMD, OpenMM and X-PLOR.

A sequence of Fortran records in either byte order, with record marks of 32 or 64 bits. Lengths in
Å; the time between steps is kept in AKMA units (48.88821 fs). Frames may hold only the atoms that
are free to move. Written from the description in the CHARMM and NAMD documentation.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from ase.geometry import cellpar_to_cell

from sciwm.core.frame import Array, Frame
from sciwm.data.importers.elements import numbers_of_atoms
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import SourceUnits

AKMA_TIME = 48.88821
"""fs"""


class DCD:
    """Positions and boxes; a DCD file has neither elements nor forces."""

    name = "DCD"
    accepts = frozenset({"topology", "elements"})

    def matches(self, path: Path) -> bool:
        return path.is_file() and _layout(path) is not None

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return SourceUnits().overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        with path.open("rb") as file:
            header = _Header(path, file)
            numbers = numbers_of_atoms(header.count, options, path)
            positions = np.zeros((header.count, 3))
            index = 0
            while header.more():
                cell, pbc = header.read_cell(index)
                # Only the first frame holds the atoms that never move.
                rows = slice(None) if index == 0 or header.free is None else header.free
                expected = header.count if index == 0 or header.free is None else len(header.free)
                for axis in range(3):
                    positions[rows, axis] = header.read_floats(expected, index)
                if header.four_dimensional:
                    header.record(f"frame {index}")
                step = header.first_step + index * header.steps_per_frame
                timestep = options.timestep or header.timestep
                yield units.applied(
                    Frame(
                        numbers=numbers,
                        positions=positions.copy(),
                        cell=cell,
                        pbc=pbc,
                        step=step,
                        time=step * timestep / units.factor("time") if timestep else None,
                        trajectory=path.name,
                    )
                )
                index += 1
            if index < header.declared:
                options.remarks.say(
                    f"the header declares {header.declared} frames, and the file holds {index}: if its "
                    "program has ended, the others are lost; copy the file again"
                )


@dataclass(frozen=True)
class _Layout:
    order: str
    mark: str

    @property
    def width(self) -> int:
        return struct.calcsize(self.mark)


def _layout(path: Path) -> _Layout | None:
    """Byte order and width of record marks, told from the first record: 84 bytes of header."""
    with path.open("rb") as file:
        start = file.read(12)
    for order in "<>":
        for mark in "iq":
            layout = _Layout(order, mark)
            width = layout.width
            if len(start) < 12 or start[width : width + 4] not in (b"CORD", b"VELD"):
                continue
            if struct.unpack(order + mark, start[:width])[0] == 84:
                return layout
    return None


class _Header:
    """What stands before the frames, and the record reader."""

    def __init__(self, path: Path, file: IO[bytes]):
        self.path = path
        self._file = file
        self._size = path.stat().st_size
        layout = _layout(path)
        if layout is None:
            raise SourceError(path, "header", "is no DCD file")
        self._layout = layout
        first = self.record("header")
        if first[:4] != b"CORD":
            raise SourceError(path, "header", "holds velocities only", "Import the positions")
        control = np.frombuffer(first[4:], dtype=layout.order + "i4")
        self.declared, self.first_step, self.steps_per_frame = map(int, control[:3])
        charmm = control[19] != 0
        # X-PLOR keeps the time step as a double, CHARMM as a float; both in AKMA units.
        delta = np.frombuffer(first[40:48], dtype=layout.order + ("f4" if charmm else "f8"))[0]
        self.timestep = float(delta) * AKMA_TIME if np.isfinite(delta) and delta > 0 else None
        self.has_cell = bool(charmm and control[10])
        self.four_dimensional = bool(charmm and control[11])
        self.record("titles")
        self.count = int(np.frombuffer(self.record("atom count"), dtype=layout.order + "i4")[0])
        self.free: np.ndarray | None = None
        if control[8] > 0:
            indices = np.frombuffer(self.record("free atoms"), dtype=layout.order + "i4")
            self.free = indices.astype(np.int64) - 1
            if self.free.min(initial=0) < 0 or self.free.max(initial=0) >= self.count:
                raise SourceError(
                    path, "free atoms", f"lists atoms beyond {self.count}", "Copy it again"
                )

    def more(self) -> bool:
        return self._file.tell() < self._size

    def record(self, where: str) -> bytes:
        """The content of the next record.

        Raises:
            SourceError: If the file breaks off, or the marks before and after it differ.
        """
        width, form = self._layout.width, self._layout.order + self._layout.mark
        mark = self._file.read(width)
        length = struct.unpack(form, mark)[0] if len(mark) == width else -1
        if length < 0 or self._file.tell() + length + width > self._size:
            raise SourceError(
                self.path,
                where,
                "the file breaks off inside a record",
                "Copy it again, or cut the unfinished frame",
            )
        content = self._file.read(length)
        if struct.unpack(form, self._file.read(width))[0] != length:
            raise SourceError(self.path, where, "the marks around a record differ", "Copy it again")
        return content

    def read_floats(self, count: int, index: int) -> Array:
        content = self.record(f"frame {index}")
        if len(content) != 4 * count:
            raise SourceError(
                self.path,
                f"frame {index}",
                f"holds {len(content) // 4} coordinates, not {count}",
                "Copy it again",
            )
        return np.frombuffer(content, dtype=self._layout.order + "f4").astype(np.float64)

    def read_cell(self, index: int) -> tuple[Array, np.ndarray]:
        """The box of the next frame; none if the file or the frame has none."""
        nothing = np.zeros((3, 3)), np.zeros(3, dtype=bool)
        if not self.has_cell:
            return nothing
        raw = np.frombuffer(self.record(f"frame {index}"), dtype=self._layout.order + "f8")
        if len(raw) != 6 or not np.isfinite(raw).all():
            raise SourceError(
                self.path, f"frame {index}", f"box of {raw.tolist()}", "Copy it again"
            )
        a, gamma, b, beta, alpha, c = raw
        angles = np.array([alpha, beta, gamma])
        if (raw == 0).all() or min(a, b, c) <= 0:
            return nothing
        if (np.abs(angles) <= 1).all():
            angles = np.degrees(np.arccos(angles))  # NAMD keeps cosines
        elif (angles <= 0).any() or (angles >= 180).any() or angles.max() < 20:
            # CHARMM keeps the symmetric shape matrix: xx, xy, yy, xz, yz, zz.
            xx, xy, yy, xz, yz, zz = raw
            return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]), np.ones(3, dtype=bool)
        return cellpar_to_cell([a, b, c, *angles]), np.ones(3, dtype=bool)

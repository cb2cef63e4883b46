"""LAMMPS text dumps, plain or compressed (https://docs.lammps.org/dump.html).

Positions may be wrapped, unwrapped or scaled; particles in any order; boxes sheared. A dump knows
neither its units (unless it has ITEM: UNITS) nor, as a rule, its elements: the user says both.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sciwm.core.frame import Array, Frame
from sciwm.core.units import REDUCED
from sciwm.data.importers.elements import numbers_from_symbols, numbers_of_atoms, numbers_of_types
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import STYLES, SourceUnits
from sciwm.data.importers.text import NumberedLines, first_lines

# Kept apart from positions: scaled coordinates become Cartesian through box and origin.
_POSITIONS = (
    (("xu", "yu", "zu"), False, True),
    (("x", "y", "z"), False, False),
    (("xsu", "ysu", "zsu"), True, True),
    (("xs", "ys", "zs"), True, False),
)
"""(columns, scaled, unwrapped), best first: unwrapped keep the path, Cartesian keep the digits."""

_READ = {
    *("id", "type", "element", "mass", "q", "ix", "iy", "iz", "vx", "vy", "vz", "fx", "fy", "fz"),
    *(name for names, _, _ in _POSITIONS for name in names),
}
"""Columns that a frame is made of."""


class LammpsDump:
    """One frame per ITEM: TIMESTEP."""

    name = "LAMMPS dump"
    accepts = frozenset({"topology", "elements"})

    def matches(self, path: Path) -> bool:
        if not path.is_file():
            return False
        lines = [line.strip() for line in first_lines(path, 12)]
        return "ITEM: NUMBER OF ATOMS" in lines or "ITEM: TIMESTEP" in lines

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        lines = [line.strip() for line in first_lines(path, 12)]
        stated = lines[lines.index("ITEM: UNITS") + 1] if "ITEM: UNITS" in lines[:-1] else None
        if options.units is not None:
            return STYLES.get(stated or "", SourceUnits()).overridden(options.units)
        if stated in STYLES:
            return STYLES[stated]
        raise SourceError(
            path,
            "",
            "a LAMMPS dump does not say which units it was written in",
            f"Pass the unit style of the run, --units with one of {', '.join(STYLES)}",
        )

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        with NumberedLines(path) as lines:
            populations: dict[bytes, str] = {}
            index = 0
            while (block := _Block.read(lines, index)) is not None:
                ids, frame = _frame(block, units, options)
                # Where particles enter or leave, another trajectory begins.
                key = b"" if ids is None else ids.tobytes()
                name = populations.setdefault(key, str(len(populations) or ""))
                yield units.applied(frame.with_(trajectory=name))
                index += 1


class _Block:
    """The raw content of one frame.

    Attributes:
        where: Frame and line, for messages.
        step: Integrator step.
        time: ITEM: TIME, in the dump's units, where it is there.
        cell: (3, 3) rows.
        origin: (3,) lower corner of the box.
        pbc: (3,).
        columns: Column name -> (N,) values; text for elements, numbers otherwise.
    """

    def __init__(self, lines: NumberedLines, index: int):
        self.lines = lines
        self.where = f"frame {index} (line {lines.number})"
        self.index = index
        self.step: int | None = None
        self.time: float | None = None
        self.count: int | None = None
        self.cell: Array | None = None
        self.origin = np.zeros(3)
        self.pbc = np.ones(3, dtype=bool)
        self.columns: dict[str, np.ndarray] = {}

    @staticmethod
    def read(lines: NumberedLines, index: int) -> "_Block | None":
        """The next frame; None at the end of the file."""
        line = lines.next_filled()
        if line is None:
            return None
        block = _Block(lines, index)
        while line is not None:
            item, _, rest = line.strip().removeprefix("ITEM:").strip().partition(" ")
            if not line.startswith("ITEM:"):
                raise block.error(f"expected an ITEM: header, got {line.strip()!r}")
            if item == "ATOMS":
                block._read_atoms(rest.split())
                return block
            block._read_item(item, rest)
            line = lines.next_filled()
        raise block.error("the file ends inside a frame, after items that no ITEM: ATOMS follows")

    def error(self, reason: str, remedy: str = "") -> SourceError:
        position = f"frame {self.index} (line {self.lines.number})"
        return SourceError(
            self.lines.path, position, reason, remedy or "The dump is damaged; write it again"
        )

    def _read_item(self, item: str, rest: str) -> None:
        if item == "TIMESTEP":
            self.step = int(self._numbers(1)[0])
        elif item == "TIME":
            self.time = float(self._numbers(1)[0])
        elif item == "UNITS":
            self.lines.next()
        elif item == "NUMBER":
            self.count = int(self._numbers(1)[0])
        elif item == "BOX":
            self._read_box(rest.split()[1:])
        else:
            raise self.error(f"unknown item {item!r}")

    def _numbers(self, count: int) -> Array:
        line = self.lines.next()
        try:
            numbers = np.array([float(word) for word in (line or "").split()])
        except ValueError:
            numbers = np.zeros(0)
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise self.error(f"expected {count} number(s), got {line!r}")
        return numbers

    def _read_box(self, words: list[str]) -> None:
        flags = [word for word in words if len(word) == 2 and set(word) <= set("pfsm")]
        if flags:
            self.pbc = np.array([flag == "pp" for flag in flags])
        if "abc" in words:
            rows = np.array([self._numbers(4) for _ in range(3)])
            self.cell, self.origin = rows[:, :3], rows[:, 3]
            return
        sheared = words[:3] == ["xy", "xz", "yz"]
        rows = np.array([self._numbers(3 if sheared else 2) for _ in range(3)])
        low, high = rows[:, 0].copy(), rows[:, 1].copy()
        xy, xz, yz = rows[:, 2] if sheared else (0.0, 0.0, 0.0)
        # LAMMPS writes the bounds of the box that encloses the sheared one (Howto_triclinic).
        low[0] -= min(0.0, xy, xz, xy + xz)
        high[0] -= max(0.0, xy, xz, xy + xz)
        low[1] -= min(0.0, yz)
        high[1] -= max(0.0, yz)
        length = high - low
        if (length <= 0).any():
            raise self.error(f"the box has edges of length {length.tolist()}")
        self.cell = np.array([[length[0], 0, 0], [xy, length[1], 0], [xz, yz, length[2]]])
        self.origin = low

    def _read_atoms(self, names: list[str]) -> None:
        if self.count is None or self.cell is None or self.step is None:
            raise self.error("ITEM: ATOMS comes before TIMESTEP, NUMBER OF ATOMS or BOX BOUNDS")
        if not names:
            raise self.error("ITEM: ATOMS names no columns", "Dump with a custom style")
        first = self.lines.number + 1
        rows = self.lines.take(self.count)
        if len(rows) < self.count or any(row.startswith("ITEM:") for row in rows[-1:]):
            raise self.error(f"announces {self.count} atoms, but fewer lines follow")
        texts = {"element", "typelabel"}
        dtype = np.dtype([(f"c{i}", "U24" if n in texts else "f8") for i, n in enumerate(names)])
        try:
            table = np.loadtxt(rows, dtype=dtype, comments=None, ndmin=1)
        except ValueError:
            table = None
        if table is None or len(table) != len(rows):
            raise _bad_row(self, names, texts, rows, first)
        self.columns = {name: table[f"c{i}"] for i, name in enumerate(names)}


def _bad_row(
    block: _Block, names: list[str], texts: set[str], rows: list[str], first: int
) -> SourceError:
    """The error that names the first line which does not fit its columns."""
    for line, row in enumerate(rows):
        words = row.split()
        fits = len(words) == len(names)
        for name, word in zip(names, words, strict=False):
            if name not in texts:
                try:
                    float(word)
                except ValueError:
                    fits = False
        if not fits:
            return SourceError(
                block.lines.path,
                f"frame {block.index} (line {first + line})",
                f"{row.strip()!r} does not fit the columns {' '.join(names)}",
                "The dump is damaged; write it again",
            )
    return block.error("the atoms cannot be read")


def _frame(
    block: _Block, units: SourceUnits, options: ImportOptions
) -> tuple[np.ndarray | None, Frame]:
    """The particle ids and the frame, in order of ids, in the dump's units."""
    columns = block.columns
    ids = None
    if "id" in columns:
        order = np.argsort(columns["id"], kind="stable")
        columns = {name: column[order] for name, column in columns.items()}
        ids = columns["id"].astype(np.int64)
        if (np.diff(ids) == 0).any():
            twice = ids[:-1][np.diff(ids) == 0][0]
            raise block.error(f"particle id {twice} appears twice")
    options.remarks.leave_unread(name for name in columns if name not in _READ)
    positions, images = _positions(block, columns)
    n = len(positions)

    def vectors(names: tuple[str, str, str]) -> Array | None:
        if not set(names) <= set(columns):
            return None
        return np.stack([columns[name] for name in names], axis=1)

    time = block.time
    if time is None and options.timestep is not None and block.step is not None:
        time = block.step * options.timestep / units.factor("time")
    assert block.cell is not None
    return ids, Frame(
        numbers=_numbers(block, columns, n, units, options),
        positions=positions,
        cell=block.cell * block.pbc[:, None],
        pbc=block.pbc,
        velocities=vectors(("vx", "vy", "vz")),
        forces=vectors(("fx", "fy", "fz")),
        masses=columns.get("mass"),
        charges=columns.get("q"),
        images=images,
        time=time,
        step=block.step,
    )


def _positions(block: _Block, columns: dict[str, np.ndarray]) -> tuple[Array, np.ndarray | None]:
    """Cartesian positions, and box crossings where the dump tells the continuous path."""
    for names, scaled, unwrapped in _POSITIONS:
        if not set(names) <= set(columns):
            continue
        positions = np.stack([columns[name] for name in names], axis=1)
        if scaled:
            positions = block.origin + positions @ block.cell
        images = None
        if unwrapped:
            images = np.zeros(positions.shape, dtype=np.int64)
        elif {"ix", "iy", "iz"} <= set(columns):
            flags = np.stack([columns[name] for name in ("ix", "iy", "iz")], axis=1)
            images = flags.astype(np.int64) * block.pbc
        return positions, images
    raise block.error(
        f"the columns {' '.join(columns)} hold no positions", "Dump x y z, xu yu zu or xs ys zs"
    )


def _numbers(
    block: _Block,
    columns: dict[str, np.ndarray],
    count: int,
    units: SourceUnits,
    options: ImportOptions,
) -> np.ndarray:
    """Atomic numbers, the user's before the dump's; or particle types where units are reduced."""
    path = block.lines.path
    types = columns["type"].astype(np.int64) if "type" in columns else None
    whole = "a formula in the order of the ids (--elements Na256Cl256) or a topology (--topology "
    whole += "system.pdb)"
    if types is None and "," in (options.elements or ""):
        raise SourceError(
            path,
            block.where,
            f"elements {options.elements!r} names one per particle type, but the dump has no types",
            f"Pass {whole}, or dump the column type",
        )
    if types is not None and (numbers := numbers_of_types(types, options, path)) is not None:
        return numbers
    if options.elements is not None or options.topology is not None:
        return numbers_of_atoms(count, options, path)
    if "element" in columns:
        return numbers_from_symbols(columns["element"], path, block.where)
    if units.system is REDUCED:
        return np.ones(count, dtype=np.int64) if types is None else types
    if types is None:
        raise SourceError(
            path,
            block.where,
            "has neither elements nor particle types",
            f"Pass {whole}, or dump one of the columns element and type",
        )
    raise SourceError(
        path,
        block.where,
        "has particle types but no elements",
        f"Pass one element per type (--elements Na,Cl), {whole}",
    )

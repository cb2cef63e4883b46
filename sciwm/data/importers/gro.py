"""GROMACS GRO files of one or many frames (https://manual.gromacs.org, "gro file format").

Columns of fixed width in nm, and nm/ps where there are velocities; the precision is free, told by
the distance between the decimal points. Time and step stand in the title, as `t=` and `step=`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sciwm.core.frame import Array, Frame
from sciwm.data.importers.elements import numbers_from_names, numbers_of_atoms
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import GROMACS, SourceUnits
from sciwm.data.importers.text import NumberedLines, first_lines

_NAME = slice(10, 15)
_START = 20
"""Where the coordinates of a line begin."""
_BOX = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
"""The places of the box's nine numbers among its row vectors."""


class GRO:
    """One frame after another; successive in time where their titles say when."""

    name = "GRO"
    accepts = frozenset({"topology", "elements"})

    def matches(self, path: Path) -> bool:
        if not path.is_file() or ".gro" not in path.suffixes:
            return False
        lines = first_lines(path, 2)
        return len(lines) == 2 and lines[1].strip().isdigit()

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return GROMACS.overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        elements: dict[tuple[str, ...], np.ndarray] = {}
        with NumberedLines(path) as lines:
            index = 0
            while (title := lines.next()) is not None:
                frame = _frame(lines, title, index, elements, options)
                if frame is None:
                    return
                yield units.applied(frame)
                index += 1


def _frame(
    lines: NumberedLines,
    title: str,
    index: int,
    elements: dict[tuple[str, ...], np.ndarray],
    options: ImportOptions,
) -> Frame | None:
    """The next frame, in nm and ps; None where only blank lines follow."""
    count = lines.next()
    if count is None and not title.strip():
        return None
    where = f"frame {index} (line {lines.number})"
    if count is None or not count.strip().isdigit() or int(count) == 0:
        raise SourceError(
            lines.path,
            where,
            f"should be the number of atoms, but reads {count!r}",
            "Check the atom count of the frame before",
        )
    first = lines.number + 1
    rows = lines.take(int(count))
    box = lines.next()
    if len(rows) < int(count) or box is None:
        raise SourceError(
            lines.path,
            where,
            f"announces {count.strip()} atoms and a box, but the file ends before",
            "The file was cut off; write it again",
        )
    positions, velocities = _vectors(lines.path, rows, index, first)
    names = tuple(row[_NAME].strip() for row in rows)
    if names not in elements:
        elements[names] = (
            numbers_from_names(np.array(names), None, None, lines.path)
            if options.topology is None and options.elements is None
            else numbers_of_atoms(len(rows), options, lines.path)
        )
    cell = _cell(lines.path, box, index, lines.number)
    time, step = re.search(r"\bt=\s*(\S+)", title), re.search(r"\bstep=\s*(\d+)", title)
    return Frame(
        numbers=elements[names],
        positions=positions,
        cell=cell,
        pbc=np.full(3, cell.any()),
        velocities=velocities,
        time=None if time is None else _number(lines.path, time.group(1), index),
        step=None if step is None else int(step.group(1)),
        trajectory="" if time is None else lines.path.name,
    )


def _vectors(path: Path, rows: list[str], index: int, first: int) -> tuple[Array, Array | None]:
    points = [place for place, letter in enumerate(rows[0]) if letter == "." and place >= _START]
    width = points[1] - points[0] if len(points) > 1 else 0
    columns = 6 if len(rows[0].rstrip()) >= _START + 6 * width else 3
    starts = range(_START, _START + columns * width, width or 1)
    table = np.zeros((len(rows), columns))
    for line, row in enumerate(rows):
        try:
            table[line] = [float(row[start : start + width]) for start in starts]
        except ValueError as error:
            raise SourceError(
                path,
                f"frame {index} (line {first + line})",
                f"{row.strip()!r} does not hold {columns} numbers after its first 20 columns",
                "Each atom needs one line; check the atom count of the frame",
            ) from error
    return table[:, :3], table[:, 3:] if columns == 6 else None


def _cell(path: Path, text: str, index: int, line: int) -> Array:
    words = text.split()
    if len(words) not in (3, 9):
        raise SourceError(
            path,
            f"frame {index} (line {line})",
            f"the box reads {text.strip()!r}, not 3 or 9 numbers",
            "Check the atom count of the frame",
        )
    cell = np.zeros((3, 3))
    for place, word in zip(_BOX, words, strict=False):
        cell[place] = _number(path, word, index)
    return cell


def _number(path: Path, word: str, index: int) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise SourceError(
            path, f"frame {index}", f"{word!r} is not a number", "The file is damaged"
        ) from error

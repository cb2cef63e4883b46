"""The grammar of extended XYZ: the comment line, and the columns that it announces."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from sciwm.data.importers.source import SourceError

_PAIR = re.compile(
    r"""("(?:\\.|[^"\\])*"|[^\s=,"]+)          # key
        (?:\s*=\s*
          ("(?:\\.|[^"\\])*"                   # quoted value
          |\{[^}]*\}                           # old braces
          |\[(?:[^\[\]]|\[[^\[\]]*\])*\]       # list, or list of lists
          |[^\s]+))?""",
    re.VERBOSE,
)
_KINDS: dict[str, Any] = {"R": np.float64, "I": np.int64, "S": "U32", "L": "U8"}

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?"
_LOOSE = re.compile(
    rf"\b(?:(E|energy|etot)\s*[:=]?|(\w+)\s*[:=])\s*({_NUMBER})(?!\w)", re.IGNORECASE
)

BARE = "comment"
"""What a comment line is called that is nothing but a number."""

TRUE = {"t", "true", "1"}
FALSE = {"f", "false", "0"}
"""Spellings of a logical, in small letters."""


def parsed_comment(comment: str) -> dict[str, str]:
    """The key=value pairs of a comment line; keys alone mean "T"."""
    pairs = {}
    for match in _PAIR.finditer(comment):
        key, value = match.group(1).strip('"'), match.group(2)
        value = "T" if value is None else value
        if value[0] in '"{':
            value = value[1:-1].replace('\\"', '"')
        pairs[key] = value
    return pairs


def loose_numbers(comment: str) -> dict[str, str]:
    """Numbers in a comment line of plain XYZ, as "E -40.5", "energy: -40.5" or "-40.5" alone."""
    if re.fullmatch(_NUMBER, comment.strip()):
        return {BARE: comment.strip()}
    return {one or other: number for one, other, number in _LOOSE.findall(comment)}


def atom_columns(header: str | None, path: Path, where: str) -> list[tuple[str, str, int]]:
    """(name, kind, width) of each column group."""
    if header is None:
        return [("species", "S", 1), ("pos", "R", 3)]
    parts = header.split(":")
    columns = []
    for name, kind, width in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        if kind not in _KINDS or not width.isdigit() or int(width) == 0:
            raise SourceError(
                path,
                where,
                f"Properties entry {name}:{kind}:{width} is not name:kind:count",
                "The kind is one of R, I, S, L and the count at least 1",
            )
        columns.append((name, kind, int(width)))
    names = [name for name, _, _ in columns]
    if len(parts) % 3 or len(set(names)) < len(names):
        raise SourceError(
            path,
            where,
            f"Properties={header} is not a list of distinct name:kind:count",
            "Correct the header",
        )
    if ("pos", "R", 3) not in columns or not {"species", "Z"} & set(names):
        raise SourceError(
            path,
            where,
            f"Properties={header} lacks pos:R:3, or species:S:1 or Z:I:1",
            "A frame needs elements and positions",
        )
    return columns


def atom_table(
    columns: list[tuple[str, str, int]],
    rows: list[str],
    strict: bool,
    path: Path,
    index: int,
    first: int,
) -> dict[str, np.ndarray]:
    """Each column group as an array; `strict` refuses more fields than the header names."""
    dtype = np.dtype(
        [(f"c{i}", _KINDS[kind], (width,)) for i, (_, kind, width) in enumerate(columns)]
    )
    usecols = None if strict else range(4)
    try:
        table = np.loadtxt(rows, dtype=dtype, comments=None, ndmin=1, usecols=usecols)
    except (ValueError, DeprecationWarning):
        table = None
    if table is None or len(table) != len(rows):
        line, reason = _culprit(columns, rows, strict)
        raise SourceError(
            path,
            f"frame {index} (line {first + line})",
            reason,
            "Each atom needs one line with one field per column of the header",
        )
    values = {}
    for i, (name, kind, _) in enumerate(columns):
        column = table[f"c{i}"]
        if kind == "L":
            known = np.isin(np.char.lower(column), list(TRUE | FALSE))
            if not known.all():
                line = int(np.flatnonzero(~known.all(axis=1))[0])
                raise SourceError(
                    path,
                    f"frame {index} (line {first + line})",
                    f"column {name!r} reads {column[line].tolist()}",
                    "Write T or F",
                )
            continue
        # Scalars come as (N, 1); vectors stay (N, 3).
        values[name] = column[:, 0] if column.shape[1] == 1 else column
    return values


def _culprit(columns: list[tuple[str, str, int]], rows: list[str], strict: bool) -> tuple[int, str]:
    """The first line that does not fit, counted from the first atom, and why."""
    width = sum(width for _, _, width in columns)
    kinds = [(name, _KINDS[kind]) for name, kind, count in columns for _ in range(count)]
    for line, row in enumerate(rows):
        fields = row.split()
        if len(fields) < width or (strict and len(fields) > width):
            return line, f"has {len(fields)} fields where the header has {width}: {row.strip()!r}"
        for (name, kind), field in zip(kinds, fields, strict=False):
            try:
                np.array([field]).astype(kind)
            except ValueError:
                return line, f"{field!r} is not a value of column {name!r}"
    return 0, "cannot be read"

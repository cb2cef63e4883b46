"""Small damage to files and structures, drawn at random."""

import copy
import math
import re
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

NUMBERS = ("nan", "inf", "-inf", "1e37", "-1e37", "1e30", "1e400", "-1", "0", "1e-320", "2147483648",
           "99999999999999999999", "0x10", "1,5", "1d3", "--1", "", "x", "é", "\0")  # fmt: skip

VALUES: tuple[Any, ...] = (None, 0, -1, 1, 2**31, 2**63, 10**12, -0.5, 1e9, 1e37, 1e-320, math.nan, math.inf,
          -math.inf, True, False, "", "x", "nan", "1e9", "é\n", b"x", [], {}, [[]], [1, 2], {"x": 1},
          "y" * 300)  # fmt: skip
"""Instead of any part of a tree: other types, numbers that cannot be, nothing."""

WORDS = (
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80\0\0\0",
)
"""Integers of four bytes at their limits, in both orders."""


def changed_bytes(rng: Random, content: bytes) -> bytes:
    """One to four small changes, half of them near the beginning, where formats keep their sizes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not data:
            break
        at = rng.randrange(min(len(data), 512) if rng.random() < 0.5 else len(data))
        kind = rng.randrange(8)
        if kind <= 1:
            data[at] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
        elif kind == 2:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            del data[at : at + rng.choice((1, 4, 64))]
        elif kind == 5:
            data[at:at] = data[at : at + rng.choice((1, 4, 64))]
        elif kind == 6:
            start = at - at % 4
            data[start : start + 4] = rng.choice(WORDS)
        else:
            number = rng.choice((math.nan, math.inf, 1e37, -1.0))
            pattern = np.array(number, rng.choice(("<f4", ">f4", "<f8", ">f8"))).tobytes()
            start = at - at % 4
            data[start : start + len(pattern)] = pattern
    return bytes(data)


def changed_text(rng: Random, text: str) -> str:
    """One to three changes of numbers, words and lines."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        lines = text.split("\n")
        # Headers repeat in every frame, but the first is read first.
        at = rng.randrange(min(len(lines), 12) if rng.random() < 0.5 else len(lines))
        kind = rng.randrange(8)
        if kind <= 2:
            lines[at] = _changed_field(rng, lines[at])
        elif kind == 3:
            del lines[at]
        elif kind == 4:
            lines.insert(at, lines[at])
        elif kind == 5:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 6:
            lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
            if rng.random() < 0.5:
                del lines[at + 1 :]
        else:
            lines[at] += rng.choice((" 1", ' x="', " \x00", "=", " " + "9" * 400, " é", "\r"))
        text = "\n".join(lines)
    return text


def _changed_field(rng: Random, line: str) -> str:
    fields = list(re.finditer(r"[^\s=\"]+", line))
    if not fields:
        return rng.choice(NUMBERS)
    found = rng.choice(fields)
    return line[: found.start()] + rng.choice(NUMBERS) + line[found.end() :]


def changed_array(rng: Random, array: np.ndarray) -> np.ndarray:
    """Other values, another type or another shape."""
    array = np.array(array)
    kind = rng.randrange(3)
    if kind == 0 and array.dtype.kind in "fiu" and array.size:
        value = rng.choice((math.nan, math.inf, -math.inf, 1e37, 1e30, -1.0, 0.0, 1e-320, 1e9))
        with np.errstate(all="ignore"):
            new = np.array(value).astype(array.dtype)
        if rng.random() < 0.5:
            array.flat[rng.randrange(array.size)] = new
        else:
            array[...] = new
        return array
    if kind == 1:
        try:
            with np.errstate(all="ignore"):
                return array.astype(
                    rng.choice(("i1", "u8", "f2", "f4", "c16", "S3", "bool", ">f8"))
                )
        except ValueError:
            return np.array(rng.choice((b"x", "x", 1.0)))
    shapes = (
        lambda a: a[..., None], lambda a: a[None], lambda a: a.T, lambda a: a.ravel(), lambda a: a[:0],
        lambda a: a[:-1], lambda a: np.concatenate([a, a]), lambda a: a[..., :-1],
        lambda a: np.zeros((), a.dtype), lambda a: np.zeros((3, 0), a.dtype),
    )  # fmt: skip
    return np.array(rng.choice(shapes)(np.atleast_1d(array)))


def changed_tree(rng: Random, tree: Any, values: tuple[Any, ...] = VALUES) -> Any:
    """A copy of nested dictionaries and lists of which parts are gone, renamed or of another kind."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2))):
        places = list(_places(tree))
        if not places:
            break
        parent, key = rng.choice(places)
        kind = rng.randrange(5)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, dict):
            parent[rng.choice(("x", "", f"{key}_", str(key)[:-1], 0))] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(rng.choice(values))
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    parts = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in parts:
        yield tree, key
        yield from _places(value)

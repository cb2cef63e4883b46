"""How many threads a piece of work takes.

Torch gives every operation to all threads that it has, and the caller waits for the last of them at each.
Beside a busy process one of them is not running at that moment, and a step of a molecule, thousands of
operations of a few microseconds, waits for time slices of the operating system instead of computing:
tens of times as long as on one thread (scripts/bench_threads.py). So small work takes one thread, and
large work as many as it keeps busy.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SLOTS_PER_THREAD = 4096
"""Slots of the neighbour table, for models of the presets' size, that make another thread worth its while:
400 atoms of molecules or 120 of a crystal."""


def threads_for(slots: int, asked: int | None = None) -> int:
    """How many threads an evaluation of so many slots of a neighbour table takes.

    As many as are asked for or $SCIWM_THREADS says, else what pays of those that torch may use here.

    Raises:
        ValueError: If either is no positive number.
    """
    fixed = fixed_threads(asked)
    if fixed is not None:
        return fixed
    return max(1, min(slots // SLOTS_PER_THREAD, _usual()))


def most_threads(asked: int | None = None) -> int:
    """How many the largest evaluation takes; see `threads_for`."""
    return fixed_threads(asked) or _usual()


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Torch with so many threads; afterwards with those it had."""
    before = _usual()
    if count == before:
        yield
        return
    _open.append(before)  # a thread that begins between these lines finds it too
    try:
        torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
        _open.remove(before)


_open: list[int] = []
"""What torch had before each block of `on_threads` that is open, in whichever thread."""
_here = threading.local()


def _usual() -> int:
    """How many torch may use in this thread.

    One that begins while a block is open elsewhere inherits the number of that block, which was meant
    for other work, and is given what torch had before.
    """
    if not hasattr(_here, "known"):
        _here.known = True
        for before in _open[:1]:
            torch.set_num_threads(before)
    return torch.get_num_threads()


def fixed_threads(asked: int | None = None) -> int | None:
    """How many are asked for, or $SCIWM_THREADS says; None if neither does.

    Raises:
        ValueError: If either is no positive number.
    """
    name, given = "threads", str(asked)
    if asked is None:
        name, given = "SCIWM_THREADS", os.environ.get("SCIWM_THREADS", "")
        if not given:
            return None
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"{name} must be a number of threads, 1 or more, got {given!r}")
    return int(given)

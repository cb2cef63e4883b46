"""The structures a reference run met on its way, in a file: training data for the next model."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sciwm.core.frame import Frame
from sciwm.core.replacement import successor
from sciwm.data.h5md import H5MDWriter
from sciwm.data.h5md.recorder import CONSTANT_FIELDS, OPTIONAL_FIELDS


def write_frames(
    path: Path, frames: Mapping[str, Sequence[Frame]], parameters: dict[str, Any]
) -> str:
    """Writes an H5MD file with at least one group for each name; whole, or not at all.

    Args:
        frames: By outcome name.
        parameters: Provenance, anything that JSON can hold.

    Returns:
        The SHA-256 of the file; empty, and no file, where there are no frames.
    """
    groups = [
        (f"{name}_{k}", run)
        for name, several in frames.items()
        for k, run in enumerate(_runs(several))
    ]
    if not groups:
        return ""
    with successor(path) as partial:
        with H5MDWriter(partial, creator_note="a reference run", parameters=parameters) as writer:
            for group, run in groups:
                for frame in run:
                    writer.append(frame, group=group)
        with partial.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _runs(frames: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Cut where a frame does not continue the one before."""
    if not frames:
        return
    run = [frames[0]]
    for before, frame in pairwise(frames):
        if _continues(before, frame):
            run.append(frame)
        else:
            yield run
            run = [frame]
    yield run


def _continues(before: Frame, frame: Frame) -> bool:
    """Whether a group may hold both, with time going on."""
    if before.trajectory != frame.trajectory:
        return False
    if before.properties.keys() != frame.properties.keys():
        return False
    for name in OPTIONAL_FIELDS:
        if (getattr(before, name) is None) != (getattr(frame, name) is None):
            return False
    if any(not np.array_equal(getattr(before, n), getattr(frame, n)) for n in CONSTANT_FIELDS):
        return False
    clocks = ((before.step, frame.step), (before.time, frame.time))
    return all(now is None or then is None or then > now for now, then in clocks)

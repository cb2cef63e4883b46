"""Which frames to learn from and which to hold back, such that the two do not leak into each other.

Neighbouring frames of one run are nearly the same picture: drawing validation frames at random from
a time series measures memory, not skill. Each split below keeps apart what its name says.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from sciwm.core.molecules import scaffold
from sciwm.data.collection import Collection, Entry


class LeakageError(ValueError):
    """Training and validation data that are not independent."""


Split = Literal["frame", "time", "trajectory", "molecule"]
"""What is never shared between training and validation.

"frame" suits independent frames only; "time" holds back the end of each trajectory; "trajectory" and
"molecule" hold back whole trajectories, or whole scaffolds (compositions where no SMILES is known).
"""


def split_entries(
    data: Collection,
    entries: Sequence[Entry],
    held_out: float,
    split: Split,
    seed: int,
    gap: int = 0,
) -> tuple[list[Entry], list[Entry]]:
    """Training and validation entries.

    Args:
        held_out: Entries to hold back: a count if at least 1, a share if below.
        gap: Frames left out between the two in a time split, so that windows do not overlap.

    Raises:
        LeakageError: If the split would put neighbouring frames of a time series on both sides.
        ValueError: If either side would be empty.
    """
    wanted = int(held_out) if held_out >= 1 else round(held_out * len(entries))
    if not 0 < wanted < len(entries):
        raise ValueError(
            f"cannot hold back {held_out:g} of {len(entries)} frames; give a count between 1 and "
            f"{len(entries) - 1}, or a share between 0 and 1"
        )
    rng = np.random.default_rng(seed)
    if split == "frame":
        series = {(e.file, e.trajectory) for e in entries}
        for file, number in sorted(series):
            trajectory = data.files[file].trajectories[number]
            if trajectory.timestep is not None and trajectory.n_frames > 1:
                raise LeakageError(
                    f"{data.paths[file]}: {trajectory.name!r} is a time series with "
                    f"{trajectory.timestep:g} {data.units.time} between frames; a random split would "
                    "put near-copies of training frames into validation. Use split: time, or "
                    "split: trajectory"
                )
        order = rng.permutation(len(entries))
        return [entries[i] for i in order[wanted:]], [entries[i] for i in order[:wanted]]
    if split == "time":
        return _split_time(entries, wanted / len(entries), gap)
    key = _trajectory_key if split == "trajectory" else _molecule_key(data)
    return _split_groups(entries, wanted, key, rng)


def _split_time(
    entries: Sequence[Entry], share: float, gap: int
) -> tuple[list[Entry], list[Entry]]:
    train: list[Entry] = []
    valid: list[Entry] = []
    series: dict[tuple[int, int], list[Entry]] = {}
    for entry in entries:
        series.setdefault((entry.file, entry.trajectory), []).append(entry)
    for run in series.values():
        run = sorted(run)
        cut = len(run) - max(round(share * len(run)), 1)
        valid += run[cut:]
        train += [entry for entry in run[:cut] if entry.frame + gap < run[cut].frame]
    if not train:
        raise ValueError("the trajectories are too short to hold back their ends")
    return train, valid


def _trajectory_key(entry: Entry) -> object:
    return entry.file, entry.trajectory


def _molecule_key(data: Collection) -> Callable[[Entry], object]:
    keys: dict[tuple[int, int], object] = {}

    def key(entry: Entry) -> object:
        place = (entry.file, entry.trajectory)
        if place not in keys:
            frame = data.frame(entry)
            composition = tuple(sorted(frame.numbers.tolist()))
            keys[place] = scaffold(frame.smiles) or frame.smiles if frame.smiles else composition
        return keys[place]

    return key


def _split_groups(
    entries: Sequence[Entry],
    wanted: int,
    key: Callable[[Entry], object],
    rng: np.random.Generator,
) -> tuple[list[Entry], list[Entry]]:
    groups: dict[object, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    if len(groups) < 2:
        raise ValueError(
            "all frames belong to one group, so none can be held back whole; use split: time"
        )
    order = list(groups)
    valid: list[Entry] = []
    train: list[Entry] = []
    for position in rng.permutation(len(order)):
        group = groups[order[position]]
        (valid if len(valid) < wanted and len(valid) + len(group) < len(entries) else train).extend(
            group
        )
    return train, valid

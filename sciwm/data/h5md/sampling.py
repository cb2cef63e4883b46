"""When samples were taken: comparing the integrator steps of two elements of one file."""

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.int64]


def breaks(steps: Steps) -> NDArray[np.int64]:
    """Indices of samples whose step does not exceed the one before: a restart, or a duplicate."""
    return np.flatnonzero(np.diff(steps) <= 0) + 1


def evenly_spaced(steps: Steps) -> bool:
    """Whether samples follow one another at a constant interval, apart from the breaks."""
    gaps = np.diff(steps)
    gaps = gaps[gaps > 0]
    return len(gaps) > 0 and bool((gaps == gaps[0]).all())


def spacing(times: NDArray[np.float64], steps: Steps) -> float | None:
    """The constant time between samples, apart from the breaks; None where there is none."""
    gaps = np.diff(times)[np.diff(steps) > 0]
    if len(gaps) == 0:
        return None
    middle = float(np.median(gaps))
    # Times are often stored in single precision, whose rounding grows with the time itself.
    slack = 1e-6 * abs(middle) + 4 * np.finfo(np.float32).eps * float(np.abs(times).max())
    even = middle > 0 and np.abs(gaps - middle).max() <= slack
    return middle if even else None


def matched(steps: Steps, others: Steps) -> NDArray[np.int64]:
    """For each of `steps`, the index of the sample of `others` at that step, or -1.

    A step that occurs several times, after a restart, is matched from the last occurrence
    backwards: what a run leaves out when it is restarted is the end of the part before.
    """
    if len(steps) == len(others) and np.array_equal(steps, others):
        return np.arange(len(steps))
    place = {key: index for index, key in enumerate(_occurrences(others))}
    return np.array([place.get(key, -1) for key in _occurrences(steps)], dtype=np.int64)


def latest(steps: Steps, others: Steps) -> NDArray[np.int64]:
    """For each of `steps`, the index of the last sample of `others` at or before it, or -1."""
    if len(steps) == len(others) and np.array_equal(steps, others):
        return np.arange(len(steps))
    if len(breaks(others)) == 0:
        return np.searchsorted(others, steps, side="right") - 1
    # After a restart a step alone does not say which run it belongs to: carry matches forward.
    return np.maximum.accumulate(matched(steps, others))


def _occurrences(steps: Steps) -> list[tuple[int, int]]:
    """(step, how many samples of the same step follow) for each sample."""
    seen: dict[int, int] = {}
    keys = []
    for step in reversed(steps.tolist()):
        seen[step] = seen.get(step, -1) + 1
        keys.append((step, seen[step]))
    return keys[::-1]

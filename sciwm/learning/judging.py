"""How wrong a world is where it is used: measured on frames of its own motion that it never learned.

A frame's mean squared error varies from frame to frame, and is skewed: most are small, a few are not. The
interval is Student's t about the logarithm of their mean, whose standard error follows from their scatter
(delta method); for scatters as worlds have them (log-normal, up to a factor of two either way) it covers
in 86 to 90 of 100 cases where it says 90.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from sciwm.core.frame import Frame
from sciwm.data.collection import geometry_hash
from sciwm.data.splits import LeakageError
from sciwm.learning.ledger import Answer

CONFIDENCE = 0.9

FEWEST = 4
"""Frames from whose scatter an interval is taken, at least."""


@dataclass(frozen=True)
class Measured:
    """A force error.

    Attributes:
        error: Root mean square error of force components, in eV/Å.
        low, high: Ends of its 90 % interval.
        frames: That it was measured on.
    """

    error: float
    low: float
    high: float
    frames: int


def measured_error(errors: Sequence[float]) -> Measured:
    """The error over several frames with as many atoms each.

    Args:
        errors: Root mean square error of each frame.
    """
    squares = np.square(np.array(errors, dtype=float))
    count = len(squares)
    if count < FEWEST or not squares.mean() > 0:
        error = math.sqrt(squares.mean()) if count else math.nan
        return Measured(error, 0.0, math.inf, count)
    mean = float(squares.mean())
    spread = float(squares.std(ddof=1)) / math.sqrt(count) / mean
    # Of the mean square; the root halves it.
    half = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * spread / 2
    error = math.sqrt(mean)
    return Measured(error, error * math.exp(-half), error * math.exp(half), count)


def force_error_of(
    fresh: Sequence[Answer], learned: Sequence[Answer], structure: Frame
) -> Measured:
    """The error of a world on fresh frames.

    Args:
        fresh: Answers with what the world predicted before it could learn them; failures are left out.
        learned: What it was trained on.

    Raises:
        LeakageError: If it was trained on one of them.
    """
    known = {geometry_hash(one.frame(structure)) for one in learned}
    seen = [one for one in fresh if geometry_hash(one.frame(structure)) in known]
    if seen:
        raise LeakageError(
            f"{len(seen)} of {len(fresh)} frames to measure an error on were trained on, such as "
            f"{seen[0].question.name}; the error would say nothing"
        )
    return measured_error([one.force_error for one in fresh if one.force_error is not None])

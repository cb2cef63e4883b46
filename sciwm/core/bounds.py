"""Numbers that people give, and the bounds they must keep.

Each function takes numbers by the name that people know them by, passes over those left out (None), and
raises ValueError for what is out of bounds or not a number.
"""

import math
import os

LARGEST_SEED = 2_000_000_000
"""Conformers are embedded from signed 32-bit seeds, a few of them counted on from the one given."""

MOST_WORKERS = 1024
"""No machine has more processors, and processes started without end bring it down."""


MOST_READERS = max(16, os.cpu_count() or 1)
"""Processes that read ahead of a training: each holds a few hundred MB, and more than processors idle."""

HIGHEST_RATE = 1e3
"""Of learning: steps a million times as long as usual ones lead nowhere."""

LONGEST_TRAINING = 1e10
"""Seconds of processors: a thousand of them for four months."""


def require_positive(most: float = math.inf, **given: float | None) -> None:
    """Finite and above zero, and no more than that."""
    for name, value in given.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
        if value is not None and value > most:
            raise ValueError(f"{name} must be at most {most:g}, got {value}")


def require_not_negative(**given: float | None) -> None:
    """Finite, zero or above."""
    for name, value in given.items():
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number, zero or above, got {value}")


def require_counts(least: int = 1, most: int | None = None, **given: int | None) -> None:
    """At least so many, and no more than that."""
    for name, value in given.items():
        if value is not None and not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
        if value is not None and most is not None and value > most:
            raise ValueError(f"{name} must be at most {most}, got {value}")


def require_seed(seed: int) -> None:
    """What every generator of random numbers takes."""
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed must be between 0 and {LARGEST_SEED}, got {seed}")

"""Which structures tell the most different things: the farthest from all that is known, one by one."""

from collections.abc import Sequence

import numpy as np

from sciwm.core.frame import Array, Frame
from sciwm.core.neighbours import neighbour_pairs

REACH = 6.0
"""Å, within which atoms of a system that repeats are compared."""

POINTS = 64
"""Numbers that describe the distances between atoms of two elements, at most."""

SAME = 1e-3
"""Structures nearer than this are one; about a thousandth of an Å in each bond."""


def descriptors(frames: Sequence[Frame]) -> Array:
    """(F, D) sorted inverse distances between atoms of each pair of elements, or as many quantiles of them.

    They do not change when a structure is turned, moved, or its like atoms are exchanged; near atoms count
    more than far ones.

    Args:
        frames: Of the same atoms.
    """
    sizes: dict[tuple[int, int], int] = {}
    return np.stack([_descriptor(frame, sizes) for frame in frames])


def _descriptor(frame: Frame, sizes: dict[tuple[int, int], int]) -> Array:
    """(D,) with so many numbers for each pair of elements; the first structure says how many."""
    if np.any(frame.pbc):
        (first, second), shifts = neighbour_pairs(frame.positions, frame.cell, frame.pbc, REACH)
        arms = frame.positions[second] + shifts @ frame.cell - frame.positions[first]
    else:
        first, second = np.triu_indices(len(frame), 1)
        arms = frame.positions[second] - frame.positions[first]
    near = 1.0 / np.linalg.norm(arms, axis=1).clip(min=0.1)
    low = np.minimum(frame.numbers[first], frame.numbers[second])
    high = np.maximum(frame.numbers[first], frame.numbers[second])
    if not sizes:
        for pair in sorted(set(zip(low.tolist(), high.tolist(), strict=True))):
            sizes[pair] = min(int(((low == pair[0]) & (high == pair[1])).sum()), POINTS)
    parts = []
    for pair, size in sizes.items():
        own = near[(low == pair[0]) & (high == pair[1])]
        # Of a periodic system they may have left each other's reach.
        parts.append(np.quantile(own, np.linspace(0, 1, size)) if len(own) else np.zeros(size))
    return np.concatenate(parts)


def farthest(candidates: Array, known: Array, count: int) -> list[int]:
    """Indices of up to `count` candidates, each the farthest from those known and chosen before it.

    What is known already, or comes twice, is not chosen.

    Args:
        candidates: (C, D) descriptors.
        known: (K, D) likewise, one at least.
    """
    if not len(candidates):
        return []
    gap = np.linalg.norm(candidates[:, None] - known[None], axis=2).min(axis=1)
    chosen: list[int] = []
    while len(chosen) < count and gap.max() > SAME:
        best = int(gap.argmax())
        chosen.append(best)
        gap = np.minimum(gap, np.linalg.norm(candidates - candidates[best], axis=1))
    return chosen

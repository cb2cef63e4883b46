"""Chemistry that happened: bonds that broke or formed, and stayed so."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sciwm.core.bonds import bonds, radii_of
from sciwm.core.geometry import minimum_image
from sciwm.simulation.observables.motion import Motion

BROKEN = 1.7
"""A bond longer than this many sums of covalent radii is stretched beyond any vibration."""

LASTING = 5
"""Consecutive frames that tell a reaction from a collision."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class BondChange:
    """One bond that broke or formed.

    Attributes:
        kind: What happened.
        pair: The two atoms, smaller index first.
        frame: The first frame of the new state.
    """

    kind: Literal["broken", "formed"]
    pair: Pair
    frame: int


def bond_changes(motion: Motion, reference: Iterable[Pair] | None = None) -> list[BondChange]:
    """Lasting changes of the bond graph, in order of time.

    A bond breaks when its length stays above 1.7 sums of covalent radii for 5 frames, and one forms
    when two atoms stay within 1.25 for as long: the gap between the two keeps vibration out.

    Args:
        motion: In physical units.
        reference: Bonds at the start; those of the first frame unless given.

    Raises:
        ValueError: If the particles are no atoms.
    """
    radii = radii_of(motion.numbers)
    start = bonds(motion.numbers, motion.positions[0], motion.cells[0], motion.pbc)
    given = start if reference is None else np.array(list(reference), dtype=np.int64).reshape(-1, 2)
    bonded: set[Pair] = {(int(min(pair)), int(max(pair))) for pair in given}
    # How many frames each pair has been out of keeping with the graph.
    waiting: dict[Pair, int] = {}
    changes = []
    for t in range(len(motion)):
        cell = motion.cells[t]
        near = bonds(motion.numbers, motion.positions[t], cell, motion.pbc)
        odd = {(int(i), int(j)) for i, j in near} - bonded
        if bonded:
            first, second = np.array(sorted(bonded)).T
            apart = motion.positions[t, second] - motion.positions[t, first]
            length = np.linalg.norm(minimum_image(apart, cell, motion.pbc), axis=1)
            far = length > BROKEN * (radii[first] + radii[second])
            odd |= set(zip(first[far].tolist(), second[far].tolist(), strict=True))
        waiting = {pair: waiting.get(pair, 0) + 1 for pair in odd}
        for pair in sorted(pair for pair, frames in waiting.items() if frames == LASTING):
            changes.append(
                BondChange("broken" if pair in bonded else "formed", pair, t - LASTING + 1)
            )
            bonded ^= {pair}
            del waiting[pair]
    return changes

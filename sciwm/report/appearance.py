"""What particles look like in pictures: colours, sizes, sticks between bonded atoms."""

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from numpy.typing import NDArray

from sciwm.core.bonds import bonds
from sciwm.core.frame import Array
from sciwm.core.units import MOLECULAR
from sciwm.report.plots import COLOURS
from sciwm.simulation.observables.motion import Motion

MOST_BONDED = 2000
"""Particles that bonds are looked for between, at most."""


def colours(motion: Motion) -> list[str]:
    """Jmol's colours of elements, or one for each particle type."""
    if not _elements(motion):
        return [COLOURS[number % len(COLOURS)] for number in motion.numbers.tolist()]
    rgb = np.round(255 * jmol_colors[motion.numbers]).astype(int)
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in rgb]


def radii(motion: Motion) -> Array:
    """(N,) radii of the balls, in units of length: apart from each other, so that sticks show."""
    if _elements(motion):
        return 0.2 + 0.3 * covalent_radii[motion.numbers]
    spread = float(motion.positions[0].std(axis=0).max()) or 1.0
    return np.full(len(motion.numbers), 0.35 * spread / len(motion.numbers) ** (1 / 3))


def sticks(motion: Motion) -> NDArray[np.int64]:
    """(B, 2) bonds of the first frame; none through periodic images or between mere particles."""
    if not _elements(motion) or motion.pbc.any() or len(motion.numbers) > MOST_BONDED:
        return np.zeros((0, 2), dtype=np.int64)
    return bonds(motion.numbers, motion.positions[0])


def _elements(motion: Motion) -> bool:
    known = (motion.numbers > 0) & (motion.numbers < len(chemical_symbols))
    return motion.units is MOLECULAR and bool(known.all())

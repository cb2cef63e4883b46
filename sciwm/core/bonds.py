"""Which atoms are bonded, by how near they are. Lengths are in Å."""

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from sciwm.core.frame import Array

BOND_SCALE = 1.25
"""Atoms nearer than this many sums of covalent radii (Cordero et al. 2008) count as bonded."""


def bonds(
    numbers: NDArray[np.int64],
    positions: Array,
    cell: Array | None = None,
    pbc: NDArray[np.bool_] | None = None,
    scale: float = BOND_SCALE,
) -> NDArray[np.int64]:
    """(B, 2) bonded pairs i < j in ascending order, by covalent radii, through periodic images.

    Raises:
        ValueError: If an atomic number names no element.
    """
    # Imports the eigenvalue solvers of scipy, a fifth of a second that a model's first energy has no need of.
    from ase.neighborlist import primitive_neighbor_list

    pbc = np.zeros(3, dtype=bool) if pbc is None else np.asarray(pbc, dtype=bool)
    cell = np.zeros((3, 3)) if cell is None else cell
    radii = scale * radii_of(numbers)
    first, second = primitive_neighbor_list("ij", pbc, cell, positions, radii)
    # Both directions and several images of a pair are one bond; an atom's own image is none.
    pairs = np.stack([first, second], axis=1)[first < second]
    return np.unique(pairs, axis=0).astype(np.int64)


def radii_of(numbers: NDArray[np.int64]) -> Array:
    """(N,) covalent radii in Å.

    Raises:
        ValueError: If an atomic number names no element with a known radius.
    """
    numbers = np.asarray(numbers)
    known = (numbers > 0) & (numbers < len(covalent_radii))
    if not known.all():
        raise ValueError(
            f"particle type {numbers[~known][0]} is not an element, so it has no covalent radius; "
            "bonds exist in molecular systems only"
        )
    return covalent_radii[numbers]

"""Boxes. Cells are rows: a fractional vector f is the Cartesian vector f @ cell."""

import numpy as np

from sciwm.core.frame import Array


def completed_cell(cell: Array, pbc: np.ndarray) -> Array:
    """(3, 3) an invertible cell: missing rows become unit vectors normal to the rows that are there.

    Raises:
        ValueError: If the periodic rows are linearly dependent.
    """
    rows = np.where(np.asarray(pbc)[:, None], cell, 0.0)
    periodic = rows[np.asarray(pbc)]
    if len(periodic) and np.linalg.matrix_rank(periodic) < len(periodic):
        raise ValueError(
            f"the cell repeats along {np.flatnonzero(pbc).tolist()} but its rows {periodic.tolist()} "
            "are linearly dependent; give independent cell vectors or switch that axis off in pbc"
        )
    full = rows.copy()
    # The null space of the periodic rows holds the directions in which nothing repeats.
    null = np.linalg.svd(periodic)[2][len(periodic) :] if len(periodic) else np.eye(3)
    full[~np.asarray(pbc)] = null
    return full


def cell_heights(cell: Array, pbc: np.ndarray) -> Array:
    """(3,) distance between opposite faces along each axis; infinite where nothing repeats."""
    inverse = np.linalg.inv(completed_cell(cell, pbc))
    return np.where(pbc, 1.0 / np.linalg.norm(inverse, axis=0), np.inf)


def minimum_image(vectors: Array, cell: Array, pbc: np.ndarray) -> Array:
    """(..., 3) the shortest periodic image of each vector, also in skewed cells.

    Rounding fractional coordinates finds the shortest image only in cells close to orthogonal, so
    the 27 neighbouring images of the rounded one are compared as well.
    """
    if not np.any(pbc):
        return vectors
    full = completed_cell(cell, pbc)
    fractional = vectors @ np.linalg.inv(full)
    reduced = (fractional - np.where(pbc, np.round(fractional), 0.0)) @ full
    if np.allclose(full, np.diag(np.diag(full))):
        return reduced
    steps = np.array(
        [[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)], dtype=float
    )
    steps = steps[(steps[:, ~np.asarray(pbc)] == 0).all(axis=1)]
    images = reduced[..., None, :] + steps @ full
    best = np.argmin((images**2).sum(axis=-1), axis=-1)
    return np.take_along_axis(images, best[..., None, None], axis=-2)[..., 0, :]

"""Reading some rows of a dataset with as few and as small reads as the layout allows."""

from typing import Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Source(Protocol):
    """An open file."""

    @property
    def location(self) -> str:
        """Its path, for messages and keys."""

    def dataset(self, path: str) -> h5py.Dataset:
        """The dataset at an HDF5 path."""


def take(dataset: h5py.Dataset, rows: Rows, columns: slice) -> np.ndarray:
    """(W, ...) the given rows of a dataset, in the order given.

    Args:
        dataset: Of shape (T, ...).
        rows: (W,) in any order, repeats allowed.
        columns: Part of the second axis, where there is one.
    """
    part = (columns,) if dataset.ndim > 1 else ()
    if len(rows) == 0:
        return dataset[(slice(0, 0), *part)]
    low, high = int(rows.min()), int(rows.max()) + 1
    if high - low == len(rows) and (len(rows) == 1 or (np.diff(rows) == 1).all()):
        return dataset[(slice(low, high), *part)]
    # HDF5 decompresses whole chunks anyway: gaps inside a chunk cost nothing to read.
    chunk = dataset.chunks[0] if dataset.chunks else 1
    if high - low <= max(chunk, 2 * len(rows)):
        return dataset[(slice(low, high), *part)][rows - low]
    distinct, place = np.unique(rows, return_inverse=True)
    return np.stack([dataset[(int(row), *part)] for row in distinct])[place]

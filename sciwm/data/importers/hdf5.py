"""Opening HDF5 sources and streaming their rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from sciwm.data.h5md.contained import ContainedFile
from sciwm.data.h5md.errors import FormatError
from sciwm.data.importers.source import SourceError

BLOCK_BYTES = 16 << 20
"""Rows are read in blocks of this size: compressed chunks are large, and unpacked whole."""


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file for reading.

    Raises:
        SourceError: If HDF5 cannot read it; on use of the file, where its data are in another one.
    """
    try:
        file = ContainedFile(path, "r")
    except OSError as error:
        raise SourceError(
            path, "", f"HDF5 cannot open it ({error})", "Copy or download the file again"
        ) from error
    try:
        with file:
            yield file
    except FormatError as error:
        raise SourceError(path, error.where, error.reason, error.remedy) from error


def first_group(path: Path, depth: int) -> dict[str, tuple[int, ...]] | None:
    """Datasets of the first group `depth` levels down, with shapes; None without such a group."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return None
    with opened(path) as file:
        group: h5py.Group | None = file
        for _ in range(depth):
            group = next((child for child in _children(group)), None)
            if group is None:
                return None
        assert group is not None
        return {name: node.shape for name, node in group.items() if isinstance(node, h5py.Dataset)}


def _children(group: h5py.Group) -> Iterator[h5py.Group]:
    return (
        node
        for name, node in group.items()
        if isinstance(node, h5py.Group) and not name.startswith("_")
    )


def rows(dataset: h5py.Dataset, path: Path) -> Iterator[np.ndarray]:
    """One row after another; numbers as float64.

    Raises:
        SourceError: Where the data are damaged.
    """
    size = max(1, int(np.prod(dataset.shape[1:], dtype=np.int64)) * dataset.dtype.itemsize)
    step = max(1, BLOCK_BYTES // size)
    for start in range(0, len(dataset), step):
        try:
            block = dataset[start : start + step]
        except OSError as error:
            raise SourceError(
                path,
                f"{dataset.name}, row {start}",
                f"cannot be read ({error})",
                "Copy or download the file again",
            ) from error
        yield from block.astype(np.float64) if block.dtype.kind == "f" else block


def require_shape(dataset: h5py.Dataset, shape: tuple[int, ...], path: Path) -> None:
    """Refuses a dataset whose leading axes are not `shape`."""
    if dataset.shape[: len(shape)] != shape:
        raise SourceError(
            path,
            dataset.name,
            f"has shape {dataset.shape} where {shape} belongs to the positions",
            "The file is inconsistent; make it again",
        )


def conformers(
    group: h5py.Group, path: Path, positions: str, energy: str | None, forces: str | None
) -> Iterator[tuple[np.ndarray, float | None, np.ndarray | None]]:
    """(positions, energy, forces) of every conformer of a group, in the file's units.

    Raises:
        SourceError: If the shapes do not fit together.
    """
    places = group[positions]
    if places.ndim != 3 or places.shape[2] != 3:
        raise SourceError(path, places.name, f"has shape {places.shape}, not (frames, atoms, 3)")
    streams: list[Iterator] = []
    for name, shape in ((energy, places.shape[:1]), (forces, places.shape)):
        if name is not None and name in group:
            require_shape(group[name], shape, path)
            streams.append(rows(group[name], path))
        else:
            streams.append(iter([None] * len(places)))
    for r, e, f in zip(rows(places, path), *streams, strict=True):
        yield r, None if e is None else float(np.ravel(e)[0]), f


def text(value: object) -> str:
    """An HDF5 string, whether stored as bytes, as str or in an array of one."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0]
    return value.decode() if isinstance(value, bytes) else str(value)

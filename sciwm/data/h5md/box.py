"""The simulation box of a particles group: which axes repeat, and the edges at each frame."""

from dataclasses import dataclass

import h5py
import numpy as np
from numpy.typing import NDArray

from sciwm.core.frame import Array
from sciwm.data.h5md.elements import Clocks, read_element, text
from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.sampling import latest


@dataclass(frozen=True, eq=False)
class Box:
    """The box at every frame.

    Attributes:
        dimension: 1, 2 or 3.
        pbc: (3,) which axes repeat, or (T, 3) in files that state it for every frame.
        cells: (3, 3) rows of the cell, or (B, 3, 3) where it changes; zero rows where nothing
            repeats.
        rows: (T,) index into `cells` for each frame; None where the cell does not change.
    """

    dimension: int
    pbc: NDArray[np.bool_]
    cells: Array
    rows: NDArray[np.int64] | None = None

    def at(self, frames: NDArray[np.int64] | int) -> Array:
        """(W, 3, 3) at some frames, or (3, 3) at one or where the cell does not change."""
        return self.cells if self.rows is None else self.cells[self.rows[frames]]

    def pbc_at(self, frame: int) -> NDArray[np.bool_]:
        """(3,) which axes repeat at one frame."""
        return self.pbc if self.pbc.ndim == 1 else self.pbc[frame]


def read_box(
    group: h5py.Group, steps: NDArray[np.int64] | None, scale: float, clocks: Clocks
) -> Box:
    """The box of a particles group whose positions were sampled at `steps`.

    Boxes of a whole trajectory are small beside its positions, so they are read at once, which
    also finds the boxes that never change although they were written at every step.

    Args:
        group: The particles group.
        steps: (T,) steps of the positions; None where these are fixed.
        scale: Factor from the unit of the edges.
        clocks: Steps and times read so far.

    Raises:
        FormatError: If the box is absent or contradicts itself.
    """
    box = group.get("box")
    file = group.file.filename
    if not isinstance(box, h5py.Group):
        raise FormatError(
            file,
            group.name,
            "there is no group `box`, so nobody can tell whether the system is periodic",
            "Add `box` with the attributes `dimension` and `boundary`",
        )
    pbc = _boundary(box)
    stated = text(box.attrs.get("dimension", len(pbc)))
    if stated not in ("1", "2", "3"):
        raise FormatError(
            file, box.name, f"`dimension` is {stated}, not 1, 2 or 3", "Store spatial axes only"
        )
    dimension = int(stated)
    if len(pbc) == 1:
        # Some writers give one word for all axes.
        pbc = np.repeat(pbc, dimension)
    if len(pbc) != dimension:
        raise FormatError(
            file,
            box.name,
            f"`boundary` names {len(pbc)} axes but `dimension` is {dimension}",
            "Give one word per axis",
        )
    pbc = np.concatenate([pbc, np.zeros(3 - dimension, dtype=bool)])
    if isinstance(box.get("pbc"), h5py.Group):
        pbc = _pbc_of_frames(box["pbc"], steps, pbc, clocks)
    if "edges" not in box:
        if pbc.any():
            raise FormatError(
                file,
                box.name,
                "the boundary is periodic but `edges` is missing",
                "Add the edges, or set `boundary` to none",
            )
        return Box(dimension, pbc, np.zeros((3, 3)))
    element = read_element(box["edges"], clocks)
    dataset = box.file[element.path]
    if element.shape not in ((dimension,), (dimension, dimension)):
        raise FormatError(
            file,
            element.path,
            f"edges of a box of dimension {dimension} cannot have shape {element.shape}",
            f"Store {dimension} lengths, or {dimension} row vectors",
        )
    matrix = len(element.shape) == 2
    if pbc.ndim == 2:
        assert steps is not None
        edges = np.broadcast_to(dataset[()], (len(steps), *element.shape))
        if element.steps is not None:
            edges = dataset[: len(element.steps)][np.maximum(latest(steps, element.steps), 0)]
        return Box(dimension, pbc, scale * _cells(edges, pbc, matrix), np.arange(len(steps)))
    if element.steps is None:
        return Box(dimension, pbc, scale * _cells(dataset[()], pbc, matrix))
    cells = scale * _cells(dataset[: len(element.steps)], pbc, matrix)
    if not np.isfinite(cells).all():
        raise FormatError(
            file,
            element.path,
            f"the box of sample {np.argwhere(~np.isfinite(cells))[0][0]} is not finite",
            "Repair or cut off that part of the run",
        )
    if len(cells) == 0:
        return Box(dimension, pbc, np.zeros((3, 3)))
    if steps is None or (cells == cells[0]).all():
        return Box(dimension, pbc, cells[0])
    rows = latest(steps, element.steps)
    if (rows < 0).any():
        first = int(np.flatnonzero(rows < 0)[0])
        raise FormatError(
            file,
            element.path,
            f"frame {first} (step {steps[first]}) comes before the first box "
            f"(step {element.steps[0]})",
            "Write the box at or before the first frame",
        )
    return Box(dimension, pbc, cells, rows)


def _boundary(box: h5py.Group) -> NDArray[np.bool_]:
    """One truth value per word of the attribute `boundary`: does the axis repeat?"""
    words = [text(word) for word in np.atleast_1d(box.attrs.get("boundary", []))]
    if not words or not set(words) <= {"periodic", "none"}:
        raise FormatError(
            box.file.filename,
            box.name,
            f"`boundary` is {words}, not one of periodic or none for each axis",
            "Set the attribute `boundary` of the box",
        )
    return np.array([word == "periodic" for word in words])


def _pbc_of_frames(
    node: h5py.Group, steps: NDArray[np.int64] | None, pbc: NDArray[np.bool_], clocks: Clocks
) -> NDArray[np.bool_]:
    """(3,) or (T, 3) from ZnH5MD's `pbc`, beside which `boundary` is that of the first frame."""
    element = read_element(node, clocks)
    if steps is None or element.steps is None or len(element.steps) == 0 or element.shape != (3,):
        return pbc
    dataset = node.file[element.path]
    if dataset.dtype.kind not in "biuf":
        return pbc
    values = dataset[: len(element.steps)].astype(np.float64)
    known = np.where(np.isnan(values), pbc, values).astype(bool)[
        np.maximum(latest(steps, element.steps), 0)
    ]
    return known[0] if (known == known[0]).all() else known


def _cells(edges: np.ndarray, pbc: NDArray[np.bool_], matrix: bool) -> Array:
    """(..., 3, 3) row vectors from (..., D) lengths or (..., D, D) rows."""
    rows = edges if matrix else edges[..., None] * np.eye(edges.shape[-1])
    size = rows.shape[-1]
    cells = np.zeros((*rows.shape[:-2], 3, 3))
    cells[..., :size, :size] = rows
    return cells * pbc[..., None]

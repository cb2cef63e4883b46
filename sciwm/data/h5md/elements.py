"""H5MD elements: one quantity, fixed in time or sampled.

An element is a plain dataset (fixed in time) or a group of `value`, `step` and perhaps `time`.
Step and time are explicit, one per sample, or a scalar increment with an optional `offset`.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from sciwm.data.h5md.contents import require_values
from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.layout import UNWRITTEN_STEP

Node: TypeAlias = h5py.Group | h5py.Dataset
"""The HDF5 object that holds an element."""


@dataclass(frozen=True, eq=False)
class Element:
    """Where the samples of one quantity are, and when they were taken.

    Attributes:
        path: HDF5 path of the dataset of values.
        shape: Shape of one sample.
        scale: Factor to sciwm's units; (T,) where it differs between samples.
        steps: (T,) integrator steps; None where the element is fixed in time.
        times: (T,) in the file's unit; None where the file gives none.
        time_unit: Unit of `times`; None where the file gives none.
        fill: The value that marks an absent entry, where the file defines one.
    """

    path: str
    shape: tuple[int, ...]
    scale: float | NDArray[np.float64] = 1.0
    steps: NDArray[np.int64] | None = None
    times: NDArray[np.float64] | None = None
    time_unit: str | None = None
    fill: float | None = None

    @property
    def fixed(self) -> bool:
        return self.steps is None

    def scaled(self, factor: float | NDArray[np.float64]) -> "Element":
        return replace(self, scale=self.scale * factor)

    def shortened(self, length: int) -> "Element":
        """Without the samples from `length` on."""
        if self.steps is None or len(self.steps) <= length:
            return self
        times = None if self.times is None else self.times[:length]
        return replace(self, steps=self.steps[:length], times=times)


Clocks = dict[int, NDArray]
"""Steps and times by the address of their dataset: elements of one group mostly share theirs."""


def read_element(node: Node, clocks: Clocks) -> Element:
    """The element at `node`, its scale left at one.

    Args:
        node: The element.
        clocks: Steps and times read so far, to which those of this element are added.

    Raises:
        FormatError: If it is neither a dataset nor a group of `value` and `step`, or holds no numbers.
    """
    file = node.file.filename
    if isinstance(node, h5py.Dataset):
        require_values(node)
        return Element(node.name, node.shape, fill=_fill(node))
    value, step, time = (_dataset(node, name) for name in ("value", "step", "time"))
    if value is None or step is None:
        raise FormatError(
            file,
            node.name,
            f"a sampled element needs the datasets `value` and `step`, found {sorted(node)}",
            "Add the one that is missing, or store the element as one dataset if it is fixed",
        )
    for dataset in filter(None, (value, step, time)):
        require_values(dataset)
    if value.ndim == 0:
        raise FormatError(
            file, value.name, "a sampled element needs a first axis for time", "Give it one"
        )
    length = value.shape[0]
    steps = _clock(step, length, np.int64, clocks)
    # A crash can leave one dataset longer than the other; what both have is sound.
    written = np.flatnonzero(steps == UNWRITTEN_STEP)
    length = min(length, len(steps), *written[:1])
    times = unit = None
    if time is not None:
        times = _clock(time, length, np.float64, clocks)
        length = min(length, len(times))
        times = _first(times, length)
        unit = text(time.attrs.get("unit"))
        if np.isnan(times).all():
            times = None
    steps = _first(steps, length)
    return Element(value.name, value.shape[1:], 1.0, steps, times, unit, _fill(value))


def text(value: object) -> str | None:
    """A string attribute, stored as bytes or text, alone or in an array of one."""
    if value is None or isinstance(value, h5py.Empty):
        return None
    if isinstance(value, np.ndarray):
        value = value.flat[0] if value.size else ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    # Bytes that are no text come from h5py as lone surrogates, which cannot be printed.
    return str(value).encode("utf-8", "replace").decode().strip("\x00 ") or None


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset | None:
    found = group.get(name)
    return found if isinstance(found, h5py.Dataset) else None


def _clock(dataset: h5py.Dataset, length: int, kind: type, clocks: Clocks) -> NDArray:
    """(T,) steps or times, explicit or spelt out from a scalar increment and its offset."""
    if dataset.ndim == 1:
        address = h5py.h5o.get_info(dataset.id).addr
        if address not in clocks:
            clocks[address] = dataset[()].astype(kind)
        return _first(clocks[address], length)
    if dataset.ndim == 0:
        offset = np.asarray(dataset.attrs.get("offset", 0)).ravel()[0]
        return (np.arange(length) * dataset[()] + offset).astype(kind)
    raise FormatError(
        dataset.file.filename,
        dataset.name,
        f"expected a scalar or one number per sample, got shape {dataset.shape}",
        "Store one step or time per sample",
    )


def _first(values: NDArray, length: int) -> NDArray:
    """The first values; the same array, not a view of it, where these are all."""
    return values if len(values) == length else values[:length]


def _fill(dataset: h5py.Dataset) -> float | None:
    """The fill value a writer chose. HDF5's own default, zero, is a legal id or position."""
    properties = dataset.id.get_create_plist()
    if properties.fill_value_defined() != h5py.h5d.FILL_VALUE_USER_DEFINED:
        return None
    fill = np.asarray(dataset.fillvalue)
    return float(fill) if fill.dtype.kind in "iuf" and fill.ndim == 0 else None

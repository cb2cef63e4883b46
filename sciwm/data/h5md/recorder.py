"""The frames of one particles group on their way into a file."""

import copy
import math
from typing import Any, NamedTuple

import h5py
import numpy as np

from sciwm.core.frame import Frame
from sciwm.core.properties import PROPERTIES, property_field, property_name, require_shape
from sciwm.core.units import REDUCED, UnitSystem, conversion
from sciwm.data.h5md.layout import (
    OBSERVABLE_FIELDS,
    PARTICLE_FIELDS,
    UNWRITTEN_STEP,
    VECTOR_FIELDS,
    WRITTEN_UNITS,
    group_parameters,
)

CHUNK_BYTES = 1 << 16
"""Least size of a chunk: below, the cost of finding it exceeds that of its bytes."""

SMALL_CHUNK_BYTES = 1 << 12
"""Of a file of very many groups, which hold a few frames each and would fill large chunks with nothing."""

MANY_GROUPS = 8
"""Groups from which on chunks become smaller."""

LARGEST_CHUNK_BYTES = 1 << 20
"""Larger chunks do not fit HDF5's default cache and would be read again for every frame."""

CHUNK_FRAMES = 1024
"""Frames per chunk at most."""

CHUNK_SAMPLES = 64
"""Frames per chunk of what is a few numbers per frame: many groups hold only a few frames."""

LABEL_BYTES = 64
"""Room for a label: strings of variable length cannot be appended in a crash-safe way."""

OPTIONAL_FIELDS = (
    "velocities",
    "forces",
    "images",
    "energy",
    "stress",
    "unpaired",
    "label",
    "source_frame",
    "time",
    "step",
)
CONSTANT_FIELDS = ("numbers", "masses", "charges", "pbc", "dimension", "smiles")


class SampledField(NamedTuple):
    """One sampled quantity of a group.

    Attributes:
        field: The attribute of `Frame`.
        path: HDF5 path of the element.
        shape: Of one sample.
        dtype: As stored.
        unit: As stored; None for a pure number.
        scale: Size of that unit in the frame's units.
    """

    field: str
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    unit: str | None
    scale: float


class Recorder:
    """Buffers frames of one group and appends them to its datasets, whole chunks at a time.

    The first frame fixes what every later one must bring: the same particles and fields. Only
    properties may be absent from some frames, where NaN is written.

    Args:
        name: Name of the group.
        first: The first frame.
        units: The units of the frames.
        dtype: Of positions, velocities and forces.
        compression: Of the same.
        frames_per_chunk: See `frames_per_chunk`.
    """

    def __init__(
        self,
        name: str,
        first: Frame,
        units: UnitSystem,
        dtype: str,
        compression: str | None,
        frames_per_chunk: int,
    ):
        self.name = name
        self.written = 0
        # The caller may go on to change these arrays in place.
        self._first = copy.deepcopy(first)
        self._physical = units is not REDUCED
        self._time_unit = conversion(WRITTEN_UNITS["time"], "time") if self._physical else 1.0
        self._fields = {field for field in OPTIONAL_FIELDS if getattr(first, field) is not None}
        self._columns = self._layout(np.dtype(dtype))
        self._buffer: list[dict[str, Any]] = []
        self._compression = compression
        self._frames_per_chunk = frames_per_chunk

    @property
    def n_frames(self) -> int:
        """Frames taken, written or not."""
        return self.written + len(self._buffer)

    @property
    def full(self) -> bool:
        """Whether the frames in the buffer complete a chunk."""
        return self.n_frames % self._frames_per_chunk == 0

    @property
    def waiting_bytes(self) -> int:
        """Room on the disk that the buffered frames need at most."""
        total = 0
        for column in self._columns:
            sample = math.prod(column.shape) * column.dtype.itemsize
            chunk = self._storage(column)["chunks"][0] * sample
            total += len(self._buffer) * sample + 2 * chunk
        return total

    def add(self, frame: Frame) -> None:
        """Take a copy of a frame into the buffer.

        Raises:
            ValueError: If it differs from the first one in more than its values, or is not finite.
        """
        self._require_alike(frame)
        self._require_sound(frame)
        stored: dict[str, Any] = {c.field: self._stored(frame, c) for c in self._columns}
        stored["step"] = self.n_frames if frame.step is None else frame.step
        # Without any time other readers refuse the file, so an unknown one is written as such.
        time = math.nan if frame.time is None else frame.time
        stored["time"] = time / self._time_unit
        self._buffer.append(stored)

    def create(self, file: h5py.File) -> None:
        """Make the group with its datasets, still empty."""
        first, dimension = self._first, self._first.dimension
        group = file.create_group(f"particles/{self.name}")
        box = group.create_group("box")
        box.attrs["dimension"] = dimension
        words = ["periodic" if periodic else "none" for periodic in first.pbc[:dimension]]
        box.attrs["boundary"] = np.array(words, dtype="S8")
        for field in ("numbers", "masses", "charges"):
            values = getattr(first, field)
            if values is not None:
                place = PARTICLE_FIELDS[field]
                dataset = group.create_dataset(place.name, data=values)
                if place.quantity and self._physical:
                    dataset.attrs["unit"] = WRITTEN_UNITS[place.quantity]
        clock = group.create_group(PARTICLE_FIELDS["positions"].name)
        rows: dict[str, Any] = {"shape": (0,), "maxshape": (None,), "chunks": (CHUNK_SAMPLES,)}
        clock.create_dataset("step", dtype=np.int64, fillvalue=UNWRITTEN_STEP, **rows)
        time = clock.create_dataset("time", dtype=np.float64, **rows)
        if self._physical:
            time.attrs["unit"] = WRITTEN_UNITS["time"]
        for column in self._columns:
            element = file.require_group(column.path)
            if element != clock:
                element["step"], element["time"] = clock["step"], clock["time"]
            value = element.create_dataset(
                "value",
                shape=(0, *column.shape),
                maxshape=(None, *column.shape),
                dtype=column.dtype,
                **self._storage(column),
            )
            if column.unit is not None:
                value.attrs["unit"] = column.unit
        notes = file.create_group(group_parameters(self.name))
        notes.attrs["stepped"] = "step" in self._fields
        notes.attrs["timed"] = "time" in self._fields
        if first.smiles is not None:
            notes.attrs["smiles"] = first.smiles

    def write_values(self, file: h5py.File, last: bool) -> None:
        """Append the buffered values. They do not count until `write_clock` has been called.

        Args:
            file: Where the group has been created.
            last: Whether the file is about to be closed, so that chunks will not grow any more.
        """
        for column in self._columns:
            values = np.stack([stored[column.field] for stored in self._buffer])
            dataset = file[f"{column.path}/value"]
            if last or dataset.compression is None:
                _append(dataset, values, self.written)
            else:
                _append_chunks(dataset, values, self.written)

    def write_clock(self, file: h5py.File) -> None:
        """Append steps and times of the buffered frames, which makes their values count."""
        clock = file[f"particles/{self.name}/position"]
        for name in ("time", "step"):
            values = np.array([stored[name] for stored in self._buffer])
            _append(clock[name], values, self.written)
        self.written = self.n_frames
        self._buffer.clear()

    def truncate(self, file: h5py.File, n_frames: int) -> None:
        """Cut all datasets to `n_frames`, which must be written."""
        clock = file[f"particles/{self.name}/position"]
        datasets = [file[f"{column.path}/value"] for column in self._columns]
        for dataset in (*datasets, clock["time"], clock["step"]):
            dataset.resize(n_frames, axis=0)
        self.written = n_frames

    def _layout(self, dtype: np.dtype) -> list[SampledField]:
        n, dimension = len(self._first), self._first.dimension
        double, particles = np.dtype(np.float64), f"particles/{self.name}"
        columns: list[tuple[str, str, tuple[int, ...], np.dtype]] = []
        for field in ("positions", "velocities", "forces", "images"):
            if field in self._fields or field == "positions":
                place = PARTICLE_FIELDS[field]
                kind = np.dtype(np.int32) if field == "images" else dtype
                columns.append((field, f"{particles}/{place.name}", (n, dimension), kind))
        if self._first.pbc.any():
            columns.append(("cell", f"{particles}/box/edges", (dimension, dimension), double))
        for field, place in OBSERVABLE_FIELDS.items():
            if field in self._fields or field == "total_charge":
                shape: tuple[int, ...] = (3, 3) if field == "stress" else ()
                kind = {
                    "label": h5py.string_dtype("utf-8", LABEL_BYTES),
                    "source_frame": np.dtype(np.int64),
                    "unpaired": np.dtype(np.int64),
                }.get(field, double)
                columns.append((field, f"observables/{self.name}/{place.name}", shape, kind))
        for name in sorted(self._first.properties):
            shape = require_shape(name, self._first.properties[name], n).sample_shape(n)
            columns.append((property_field(name), f"observables/{self.name}/{name}", shape, double))
        return [SampledField(*column, *self._unit(column[0])) for column in columns]

    def _unit(self, field: str) -> tuple[str | None, float]:
        """The unit a field is written in, and its size in the units of the frame."""
        name = property_name(field)
        if name is not None:
            return (PROPERTIES[name].written_unit if self._physical else None), 1.0
        places = {**PARTICLE_FIELDS, **OBSERVABLE_FIELDS}
        quantity = "length" if field == "cell" else places[field].quantity
        if quantity is None or not self._physical:
            return None, 1.0
        return WRITTEN_UNITS[quantity], conversion(WRITTEN_UNITS[quantity], quantity)

    def _storage(self, column: SampledField) -> dict[str, Any]:
        """Chunks and filters of a dataset."""
        if column.field not in VECTOR_FIELDS:
            sample_bytes = math.prod(column.shape) * column.dtype.itemsize
            samples = max(1, min(CHUNK_SAMPLES, LARGEST_CHUNK_BYTES // sample_bytes))
            return {"chunks": (samples, *column.shape)}
        particle_bytes = column.shape[1] * column.dtype.itemsize
        particles = max(1, min(column.shape[0], LARGEST_CHUNK_BYTES // particle_bytes))
        filters = {"compression": self._compression, "shuffle": self._compression is not None}
        return {"chunks": (self._frames_per_chunk, particles, column.shape[1]), **filters}

    def _stored(self, frame: Frame, column: SampledField) -> Any:
        """A copy of a field as it goes into the file."""
        name = property_name(column.field)
        if name is not None:
            return np.array(frame.properties.get(name, np.full(column.shape, np.nan)))
        values = getattr(frame, column.field)
        if column.field == "label":
            return np.array(values.encode(), dtype=column.dtype)
        if column.field == "cell":
            values = values * frame.pbc[:, None]
            values = values[: column.shape[0], : column.shape[1]]
        elif column.field in VECTOR_FIELDS:
            values = values[:, : column.shape[1]]
        if column.scale == 1.0:
            return np.array(values, dtype=column.dtype)
        return (np.asarray(values, dtype=np.float64) / column.scale).astype(column.dtype)

    def _require_alike(self, frame: Frame) -> None:
        for field in CONSTANT_FIELDS:
            wanted, given = getattr(self._first, field), getattr(frame, field)
            if (wanted is None) != (given is None) or not np.array_equal(wanted, given):
                raise ValueError(
                    f"frame {self.n_frames} of group {self.name!r} has other {field} than the "
                    f"first: {_short(given)} instead of {_short(wanted)}; write it to another group"
                )
        given_fields = {name for name in OPTIONAL_FIELDS if getattr(frame, name) is not None}
        for odd, verb in (
            (self._fields - given_fields, "lacks"),
            (given_fields - self._fields, "adds"),
        ):
            if odd:
                raise ValueError(
                    f"frame {self.n_frames} of group {self.name!r} {verb} {', '.join(sorted(odd))} "
                    "compared with the first; write it to another group, or give all frames the "
                    "same fields"
                )
        new = frame.properties.keys() - self._first.properties.keys()
        if new:
            raise ValueError(
                f"frame {self.n_frames} of group {self.name!r} adds {', '.join(sorted(new))} compared "
                "with the first; write it to another group, or give the first frame NaN for these"
            )

    def _require_sound(self, frame: Frame) -> None:
        if len(frame) == 0:
            raise ValueError(f"a frame of group {self.name!r} has no particles; leave it out")
        for field in ("positions", "velocities", "forces", "cell", "energy", "stress"):
            values = getattr(frame, field)
            if values is not None and not np.isfinite(values).all():
                place = np.argwhere(~np.isfinite(values))[0].tolist() if np.ndim(values) else []
                raise ValueError(
                    f"{field} of frame {self.n_frames} of group {self.name!r} is not finite"
                    f"{f', first at {place}' if place else ''}; end the run before that frame"
                )
        for name, value in frame.properties.items():
            require_shape(name, value, len(frame))
            if np.isinf(value).any():
                raise ValueError(
                    f"{name} of frame {self.n_frames} of group {self.name!r} is infinite; leave it out "
                    "of that frame"
                )
        if frame.label is not None and len(frame.label.encode()) > LABEL_BYTES:
            raise ValueError(
                f"label {frame.label!r} is longer than {LABEL_BYTES} bytes; shorten it"
            )


def frames_per_chunk(first: Frame, dtype: str, groups: int) -> int:
    """How many frames of positions a chunk of a new group holds.

    Args:
        groups: That the file has already.
    """
    frame_bytes = max(len(first) * first.dimension * np.dtype(dtype).itemsize, 1)
    wanted = CHUNK_BYTES * MANY_GROUPS // max(MANY_GROUPS, groups + 1)
    return min(math.ceil(max(wanted, SMALL_CHUNK_BYTES) / frame_bytes), CHUNK_FRAMES)


def _append(dataset: h5py.Dataset, values: np.ndarray, start: int) -> None:
    dataset.resize(start + len(values), axis=0)
    dataset[start:] = values


def _append_chunks(dataset: h5py.Dataset, values: np.ndarray, start: int) -> None:
    """Append to a compressed dataset, leaving a last chunk that is not full uncompressed.

    A compressed chunk changes its size whenever it grows, and a crash-safe file cannot use the
    space of the old one again: flushing after every frame would write each chunk many times over.
    Uncompressed it is rewritten in place until it is full.
    """
    length = dataset.chunks[0]
    end = start + len(values)
    full = end - end % length
    dataset.resize(end, axis=0)
    if full > start:
        dataset[start:full] = values[: full - start]
    if full < end:
        chunk = np.zeros(dataset.chunks, dtype=dataset.dtype)
        first = max(start, full)
        chunk[: first - full] = dataset[full:first]
        chunk[first - full : end - full] = values[first - start :]
        place = (full, *(0 for _ in dataset.shape[1:]))
        dataset.id.write_direct_chunk(place, chunk.tobytes(), filter_mask=0xFFFFFFFF)


def _short(value: object) -> str:
    shown = " ".join(np.array2string(np.asarray(value), threshold=6, edgeitems=2).split())
    return f"{shown} ({len(value)})" if isinstance(value, np.ndarray) and value.ndim else shown

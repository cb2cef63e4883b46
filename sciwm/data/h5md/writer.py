"""Writing H5MD 1.1 files that other programs open, and that survive the death of their writer."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal

import h5py
import numpy as np

import sciwm
from sciwm.core.frame import Frame
from sciwm.core.properties import PROPERTIES, property_name
from sciwm.core.units import MOLECULAR, REDUCED, UnitSystem
from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.interruption import uninterrupted
from sciwm.data.h5md.layout import CREATOR, FORMAT_VERSION, PARAMETERS, group_parameters
from sciwm.data.h5md.particles import read_group
from sciwm.data.h5md.reader import read_root
from sciwm.data.h5md.recorder import Recorder, frames_per_chunk
from sciwm.data.h5md.replicas import Replicas, create_replicas
from sciwm.data.h5md.storage import Storage
from sciwm.data.h5md.trajectory import Trajectory

FLUSH_SECONDS = 60.0
"""Frames wait no longer than this in memory, however slowly they come."""


class H5MDWriter:
    """Streams frames into an H5MD file, one particles group per system.

    Frames are held back until they fill a chunk, a minute has passed, or `flush` is called. From
    then on they survive a kill of the process: values are written in HDF5's single-writer mode,
    in which the file is sound at every moment, and count only when the step that follows them
    is there too. Only while a new group is set up would a kill do harm.

    Args:
        path: The file; by convention its suffix is .h5md.
        units: The units of the frames.
        creator_note: A line on where the data come from.
        parameters: Anything that JSON can hold: settings, seeds, provenance.
        resume: Continue an existing file, cut to the frames that all its datasets have; its note
            and parameters stay.
        dtype: Of positions, velocities and forces.
        compression: Of the same. Without it files are about a fifth larger, and random windows
            are read several times faster (`scripts/bench_io.py`).

    Raises:
        FileExistsError: If the file exists and is not to be continued.
        FormatError: If the file to be continued was not written by sciwm, or in other units.
        OSError: If another process has it open, or it cannot be created.
    """

    @uninterrupted()
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        units: UnitSystem = MOLECULAR,
        creator_note: str = "",
        parameters: dict | None = None,
        resume: bool = False,
        dtype: Literal["float64", "float32"] = "float64",
        compression: Literal["lzf"] | None = None,
    ):
        self.path = Path(path)
        self.units = units
        self._dtype = dtype
        self._compression = compression
        self._recorders: dict[str, Recorder] = {}
        self._replica_groups: set[str] = set()
        self._flushed = time.monotonic()
        self._closed = False
        self._storage = Storage(self.path, resume)
        try:
            if not self._storage.empty and "h5md" not in self._storage.file:
                # The writer before died at its very start.
                self._storage.clear()
            if "h5md" in self._storage.file:
                self._continue()
            else:
                self._begin(creator_note, parameters or {})
        except BaseException:
            self._storage.close()
            raise

    def __enter__(self) -> "H5MDWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, frame: Frame, group: str = "trajectory") -> None:
        """Add a frame to a group.

        Raises:
            ValueError: If the frame lacks or adds a field, has other particles than the group's
                first frame, or is not finite.
            OSError: If the disk is full. Frames not yet written are kept for the next flush.
        """
        recorder = self._recorders.get(group)
        if recorder is None:
            recorder = self._started(group, frame)
        else:
            recorder.add(frame)
        if recorder.full:
            self._write([recorder])
        elif time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    @uninterrupted()
    def write_replicas(self, group: str, replicas: Replicas) -> None:
        """Write a group that holds many copies of one system, all at once.

        Raises:
            ValueError: If the group exists.
            OSError: If the disk is full.
        """
        self._require_new(group)
        with self._storing(replicas.size):
            self._storage.unprotect()
            file = self._storage.file
            create_replicas(file, group, replicas, self.units, self._dtype, self._compression)
            file.flush()
        self._replica_groups.add(group)

    def n_frames(self, group: str = "trajectory") -> int:
        """Frames of a group, those not yet flushed included; 0 where there is no such group."""
        return self._recorders[group].n_frames if group in self._recorders else 0

    def flush(self) -> None:
        """Write the frames held back, so that they survive a kill.

        Raises:
            OSError: If the disk is full.
        """
        self._flush(last=False)

    @uninterrupted()
    def truncate(self, group: str, n_frames: int) -> None:
        """Drop all frames of a group from `n_frames` on, to go on from there.

        Raises:
            ValueError: If the group has fewer frames.
        """
        if not 0 <= n_frames <= self.n_frames(group):
            raise ValueError(
                f"cannot cut group {group!r} to {n_frames} frames: it has {self.n_frames(group)}"
            )
        if n_frames == self.n_frames(group):
            return
        self.flush()
        self._storage.unprotect()
        self._recorders[group].truncate(self._storage.file, n_frames)
        self._storage.protect()

    @uninterrupted()
    def close(self) -> None:
        """Write what is held back and close the file.

        Raises:
            OSError: If the disk is full; what was written before is safe.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._flush(last=True)
        finally:
            self._storage.close()

    def _flush(self, last: bool) -> None:
        self._flushed = time.monotonic()
        waiting = [one for one in self._recorders.values() if one.n_frames > one.written]
        if waiting:
            self._write(waiting, last)

    @uninterrupted()
    def _write(self, recorders: list[Recorder], last: bool = False) -> None:
        with self._storing(sum(recorder.waiting_bytes for recorder in recorders)):
            self._storage.protect()
            file = self._storage.file
            for recorder in recorders:
                recorder.write_values(file, last)
            # Two flushes: HDF5 orders the writes of one dataset, not those of several.
            file.flush()
            for recorder in recorders:
                recorder.write_clock(file)
            file.flush()

    @contextmanager
    def _storing(self, size: int) -> Iterator[None]:
        """Room for `size` bytes, or an error that says what is safe."""
        try:
            self._storage.claim(size)
            yield
        except OSError as error:
            safe = [f"{one.written} of {name!r}" for name, one in self._recorders.items()]
            raise OSError(
                f"cannot write to {self.path}: {error}. Frames safely written: "
                f"{', '.join(safe) or 'none'}. Make room on the disk, then flush again or continue "
                "the file with resume=True"
            ) from error

    @uninterrupted()
    def _started(self, group: str, frame: Frame) -> Recorder:
        self._require_new(group)
        rows = frames_per_chunk(frame, self._dtype, len(self._recorders))
        recorder = Recorder(group, frame, self.units, self._dtype, self._compression, rows)
        recorder.add(frame)  # before the group exists, which a frame refused must not leave behind
        with self._storing(0):
            self._storage.unprotect()
            recorder.create(self._storage.file)
            self._storage.protect()
        self._recorders[group] = recorder
        return recorder

    def _require_new(self, group: str) -> None:
        if group in self._recorders or group in self._replica_groups:
            raise ValueError(f"{self.path} already has a group {group!r}; choose another name")
        if not group or "/" in group or group == ".":
            raise ValueError(f"{group!r} cannot name a particles group; use a word without slashes")

    def _begin(self, note: str, parameters: dict) -> None:
        """Write what comes before the first group."""
        file = self._storage.file
        signature = file.create_group("h5md")
        signature.attrs["version"] = np.array([1, 1])
        signature.create_group("author").attrs["name"] = np.bytes_("N/A")
        creator = signature.create_group("creator")
        creator.attrs["name"] = np.bytes_(CREATOR)
        creator.attrs["version"] = np.bytes_(sciwm.__version__)
        if self.units is not REDUCED:
            units = signature.create_group("modules/units")
            units.attrs["version"] = np.array([1, 0])
            units.attrs["system"] = np.bytes_("SI")
        file.create_group("particles")
        notes = file.create_group(PARAMETERS)
        notes.attrs["format_version"] = FORMAT_VERSION
        notes.attrs["units"] = np.bytes_(self.units.name)
        for name, text in (("note", note), ("settings", json.dumps(parameters, sort_keys=True))):
            notes[name] = np.bytes_(text.encode() or b" ")
        file.flush()

    def _continue(self) -> None:
        """Take up the groups of the file, cutting each to the frames that are complete."""
        file = self._storage.file
        root = read_root(file)
        if root.scales.creator != CREATOR or root.scales.physical != (self.units is not REDUCED):
            raise FormatError(
                self.path,
                "/h5md",
                f"it was written by {root.scales.creator!r} in "
                f"{'physical' if root.scales.physical else 'reduced'} units, so {self.units.name} frames "
                "cannot be added by sciwm",
                "Write to another file",
            )
        for name in list(file["particles"]):
            notes = group_parameters(name)
            group = file[f"particles/{name}"]
            if "replica" in group:
                self._replica_groups.add(name)
                continue
            metadata = read_group(group, root) if notes in file else None
            if metadata is None or metadata.n_frames == 0:
                for path in (f"particles/{name}", f"observables/{name}", notes):
                    if path in file:
                        del file[path]
                continue
            first = Trajectory(_OpenFile(file), metadata, name).frame(0)
            # Steps are always stored, known or not.
            first = first.with_(step=first.step if file[notes].attrs["stepped"] else None)
            # So are properties, NaN where the first frame had none.
            blank = {
                name: np.full(PROPERTIES[name].sample_shape(len(first)), np.nan)
                for name in map(property_name, metadata.elements)
                if name is not None
            }
            first = first.with_(properties=blank | first.properties)
            rows = file[f"particles/{name}/position/value"].chunks[0]
            recorder = Recorder(name, first, self.units, self._dtype, self._compression, rows)
            recorder.truncate(file, metadata.n_frames)
            self._recorders[name] = recorder
        self._storage.protect()


class _OpenFile:
    """The datasets of a file that is open already."""

    def __init__(self, file: h5py.File):
        self._file = file
        self.location = file.filename

    def dataset(self, path: str) -> h5py.Dataset:
        return self._file[path]

"""Many copies of one small system in a single particles group.

Thousands of short runs of a few particles would cost more to open than to read if each had its
own group. Here all their particles stand side by side in one group, and /particles/<group>/replica
says which copy each belongs to. Other readers see one system of many particles.
"""

import math
from dataclasses import dataclass

import h5py
import numpy as np
from numpy.typing import NDArray

from sciwm.core.frame import Array
from sciwm.core.units import REDUCED, UnitSystem, conversion
from sciwm.data.h5md.layout import (
    OBSERVABLE_FIELDS,
    PARTICLE_FIELDS,
    WRITTEN_UNITS,
    group_parameters,
)

CHUNK_BYTES = 1 << 16
"""Size of a chunk, which holds all frames of as many replicas as fit."""


@dataclass(frozen=True, eq=False)
class Replicas:
    """S runs of the same N particles, T frames each, started from different states.

    Attributes:
        positions: (T, S, N, 3).
        numbers: (N,), or (S, N) where the replicas differ.
        velocities, forces: (T, S, N, 3).
        energy: (T, S).
        masses, charges: (N,) or (S, N).
        steps: (T,) integrator steps, increasing.
        times: (T,).
        cell: (3, 3), the same for all.
        pbc: (3,).
        dimension: 1, 2 or 3.
    """

    positions: Array
    numbers: NDArray[np.int64]
    velocities: Array | None = None
    forces: Array | None = None
    energy: Array | None = None
    masses: Array | None = None
    charges: Array | None = None
    steps: NDArray[np.int64] | None = None
    times: Array | None = None
    cell: Array | None = None
    pbc: NDArray[np.bool_] | None = None
    dimension: int = 3

    def __post_init__(self) -> None:
        if self.positions.ndim != 4 or self.positions.shape[3] != 3:
            raise ValueError(f"positions must be (T, S, N, 3), got {self.positions.shape}")
        frames, copies, particles, _ = self.positions.shape
        wanted = {
            "velocities": [self.positions.shape],
            "forces": [self.positions.shape],
            "energy": [(frames, copies)],
            "numbers": [(particles,), (copies, particles)],
            "masses": [(particles,), (copies, particles)],
            "charges": [(particles,), (copies, particles)],
            "steps": [(frames,)],
            "times": [(frames,)],
            "cell": [(3, 3)],
            "pbc": [(3,)],
        }
        for name, shapes in wanted.items():
            values = getattr(self, name)
            if values is not None and np.shape(values) not in shapes:
                raise ValueError(
                    f"{name} of {copies} replicas of {particles} particles in {frames} frames must "
                    f"have shape {' or '.join(map(str, shapes))}, got {np.shape(values)}"
                )
            if values is not None and not np.isfinite(values).all():
                raise ValueError(f"{name} of the replicas are not finite; leave out the bad runs")
        if not np.isfinite(self.positions).all():
            bad = np.flatnonzero(~np.isfinite(self.positions).all(axis=(0, 2, 3)))
            raise ValueError(f"positions of replica {bad[0]} are not finite; leave that run out")
        if self.pbc is not None and np.any(self.pbc) and self.cell is None:
            raise ValueError("replicas are periodic but have no cell; give one")

    @property
    def size(self) -> int:
        """Bytes of the arrays."""
        arrays = (getattr(self, name) for name in self.__dataclass_fields__)
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))


def create_replicas(
    file: h5py.File,
    name: str,
    replicas: Replicas,
    units: UnitSystem,
    dtype: str,
    compression: str | None,
) -> None:
    """Write a group of replicas."""
    frames, copies, particles, _ = replicas.positions.shape
    dimension = replicas.dimension
    group = file.create_group(f"particles/{name}")
    group["replica"] = np.repeat(np.arange(copies), particles)
    pbc = np.zeros(3, dtype=bool) if replicas.pbc is None else np.asarray(replicas.pbc, dtype=bool)
    box = group.create_group("box")
    box.attrs["dimension"] = dimension
    words = ["periodic" if periodic else "none" for periodic in pbc[:dimension]]
    box.attrs["boundary"] = np.array(words, dtype="S8")
    if replicas.cell is not None and pbc.any():
        edges = np.asarray(replicas.cell)[:dimension, :dimension] * pbc[:dimension, None]
        box["edges"] = _stored(edges, "length", units)
        _label(box["edges"], "length", units)
    for field in ("numbers", "masses", "charges"):
        values = getattr(replicas, field)
        if values is not None:
            place = PARTICLE_FIELDS[field]
            group[place.name] = np.broadcast_to(values, (copies, particles)).ravel()
            _label(group[place.name], place.quantity, units)
    clock = group.create_group("position")
    clock["step"] = np.arange(frames) if replicas.steps is None else np.asarray(replicas.steps)
    times = np.full(frames, np.nan) if replicas.times is None else np.asarray(replicas.times)
    clock["time"] = _stored(times, "time", units)
    _label(clock["time"], "time", units)
    replica_bytes = frames * particles * dimension * np.dtype(dtype).itemsize
    together = min(copies, max(1, math.ceil(CHUNK_BYTES / replica_bytes)))
    chunks = (frames, together * particles, dimension)
    for field in ("positions", "velocities", "forces"):
        values = getattr(replicas, field)
        if values is None:
            continue
        place = PARTICLE_FIELDS[field]
        flat = values[..., :dimension].reshape(frames, copies * particles, dimension)
        _element(file, f"particles/{name}/{place.name}", clock).create_dataset(
            "value",
            data=_stored(flat, place.quantity, units).astype(dtype),
            chunks=chunks,
            compression=compression,
            shuffle=compression is not None,
        )
        _label(group[f"{place.name}/value"], place.quantity, units)
    if replicas.energy is not None:
        place = OBSERVABLE_FIELDS["energy"]
        element = _element(file, f"observables/{name}/{place.name}", clock)
        element["value"] = _stored(replicas.energy, place.quantity, units)
        _label(element["value"], place.quantity, units)
    notes = file.create_group(group_parameters(name))
    notes.attrs["stepped"] = True
    notes.attrs["timed"] = replicas.times is not None


def _element(file: h5py.File, path: str, clock: h5py.Group) -> h5py.Group:
    element = file.require_group(path)
    if element != clock:
        element["step"], element["time"] = clock["step"], clock["time"]
    return element


def _stored(values: np.ndarray, quantity: str | None, units: UnitSystem) -> np.ndarray:
    if units is REDUCED or quantity is None:
        return np.asarray(values)
    return np.asarray(values) / conversion(WRITTEN_UNITS[quantity], quantity)


def _label(dataset: h5py.Dataset, quantity: str | None, units: UnitSystem) -> None:
    if units is not REDUCED and quantity is not None:
        dataset.attrs["unit"] = WRITTEN_UNITS[quantity]

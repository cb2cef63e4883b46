"""TorchSim's HDF5 trajectories (https://github.com/TorchSim/torch-sim), one system per file.

Å and eV, velocities per ASE time. Cells are stored as columns and transposed here. Arrays may be
sampled at steps of their own; one row alone means that the array does not change.
"""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from sciwm.core.frame import Array, Frame
from sciwm.data.importers.hdf5 import opened, rows, text
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import ASE, SourceUnits

_SAMPLED = ("atomic_numbers", "masses", "cell", "velocities", "forces")


class TorchSim:
    """One trajectory, whose steps become times where the user gives the time step."""

    name = "TorchSim HDF5"
    accepts = frozenset({"energy_key"})

    def matches(self, path: Path) -> bool:
        if not path.is_file() or not h5py.is_hdf5(path):
            return False
        with opened(path) as file:
            header = file.get("header")
            return header is not None and text(header.attrs.get("program", "")) == "TorchSim"

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return ASE.overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        with opened(path) as file:
            data, steps = file["data"], file["steps"]
            if "positions" not in data:
                raise SourceError(path, "/data", "holds no positions", "Report them with the state")
            clock = steps["positions"][()]
            pbc = np.broadcast_to(np.ravel(data["pbc"][()])[:3].astype(bool), 3)
            energy_key = options.energy_key or "potential_energy"
            read = {"positions", "pbc", *_SAMPLED, energy_key}
            options.remarks.leave_unread(name for name in data if name not in read)
            rarely = {
                name: _Sampled(data[name], steps[name][()], clock, path)
                for name in (*_SAMPLED, energy_key)
                if name in data
            }

            def at(name: str, k: int) -> Array | None:
                return rarely[name].at(k) if name in rarely else None

            for k, positions in enumerate(rows(data["positions"], path)):
                numbers, columns, energy = at("atomic_numbers", k), at("cell", k), at(energy_key, k)
                if numbers is None:
                    raise SourceError(path, "/data", "holds no atomic_numbers")
                cell = np.zeros((3, 3)) if columns is None else columns.reshape(3, 3).T
                yield units.applied(
                    Frame(
                        numbers=np.ravel(numbers).astype(np.int64),
                        positions=positions,
                        cell=cell * pbc[:, None],
                        pbc=pbc.copy(),
                        velocities=at("velocities", k),
                        forces=at("forces", k),
                        energy=None if energy is None else float(np.ravel(energy)[0]),
                        masses=at("masses", k),
                        step=int(clock[k]),
                        trajectory=path.name,
                    )
                )


class _Sampled:
    """An array with a clock of its own, asked for at the frames of the positions."""

    def __init__(self, dataset: h5py.Dataset, steps: np.ndarray, clock: np.ndarray, path: Path):
        self._static = next(rows(dataset, path)) if len(dataset) == 1 else None
        self._rows = rows(dataset, path)
        self._next = 0
        self._steps = steps
        self._clock = clock

    def at(self, k: int) -> np.ndarray | None:
        """The value at frame `k`, asked for in rising order; None where it was not sampled."""
        if self._static is not None:
            return self._static
        value = None
        while self._next < len(self._steps) and self._steps[self._next] <= self._clock[k]:
            value = next(self._rows)
            sampled = self._steps[self._next] == self._clock[k]
            self._next += 1
            if not sampled:
                value = None
        return value

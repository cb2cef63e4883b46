"""MDTraj's HDF5 format, also written by OpenMM's reporter (https://mdtraj.org, convention "Pande").

nm, ps, kJ/mol and degrees; the topology is a JSON text inside the file.
"""

import json
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import h5py
import numpy as np
from ase.geometry import cellpar_to_cell

from sciwm.core.frame import Frame
from sciwm.data.importers.elements import numbers_from_symbols
from sciwm.data.importers.hdf5 import opened, require_shape, rows, text
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import GROMACS, SourceUnits

_FIELDS = ("coordinates", "velocities", "potentialEnergy", "cell_lengths", "cell_angles", "time")


class MDTrajHDF5:
    """One run."""

    name = "MDTraj HDF5"
    accepts = frozenset[str]()

    def matches(self, path: Path) -> bool:
        if not path.is_file() or not h5py.is_hdf5(path):
            return False
        with opened(path) as file:
            # The specification capitalises the attribute, MDTraj does not.
            stated = file.attrs.get("conventions", file.attrs.get("Conventions", ""))
            return "Pande" in text(stated) and "coordinates" in file

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return GROMACS.overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        with opened(path) as file:
            count, atoms = file["coordinates"].shape[:2]
            numbers = _numbers(path, file)
            if len(numbers) != atoms:
                raise SourceError(
                    path,
                    "/topology",
                    f"names {len(numbers)} atoms, but there are {atoms}",
                    "Make the file again",
                )
            read = {*_FIELDS, "topology"}
            options.remarks.leave_unread(name for name in file if name not in read)
            streams: list[Iterator] = []
            for name in _FIELDS:
                if name in file:
                    require_shape(file[name], (count,), path)
                    streams.append(rows(file[name], path))
                else:
                    streams.append(repeat(None, count))
            for positions, velocities, energy, lengths, angles, time in zip(*streams, strict=True):
                periodic = lengths is not None and (lengths > 0).all()
                yield units.applied(
                    Frame(
                        numbers=numbers,
                        positions=positions,
                        cell=cellpar_to_cell([*lengths, *angles]) if periodic else np.zeros((3, 3)),
                        pbc=np.full(3, periodic),
                        velocities=velocities,
                        energy=None if energy is None else float(energy),
                        time=None if time is None else float(time),
                        trajectory=path.name,
                    )
                )


def _numbers(path: Path, file: h5py.File) -> np.ndarray:
    if "topology" not in file:
        raise SourceError(
            path,
            "/topology",
            "is missing, so the elements are unknown",
            "Save the trajectory with its topology",
        )
    try:
        topology = json.loads(text(file["topology"][()]))
        symbols = {
            atom["index"]: atom["element"]
            for chain in topology["chains"]
            for residue in chain["residues"]
            for atom in residue["atoms"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(
            path, "/topology", f"is not MDTraj's JSON ({error!r})", "Make the file again"
        ) from error
    ordered = np.array([symbols[index] for index in sorted(symbols)])
    return numbers_from_symbols(ordered, path, "/topology")

"""AMBER NetCDF trajectories (https://ambermd.org/netcdf/nctraj.xhtml), as AMBER and OpenMM write.

Å, ps and kcal/mol unless the file says otherwise; velocities come with a scale factor.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase.geometry import cellpar_to_cell
from scipy.io import netcdf_file

from sciwm.core.frame import Frame
from sciwm.data.importers.elements import numbers_of_atoms
from sciwm.data.importers.source import ImportOptions, SourceError, foreign_reader
from sciwm.data.importers.source_units import SourceUnits

_SPELLINGS = {
    "angstrom": "Å",
    "nanometer": "nm",
    "picosecond": "ps",
    "femtosecond": "fs",
    "angstrom/picosecond": "Å/ps",
    "kilocalorie/mole/angstrom": "kcal/mol/Å",
}


_READ = {
    *("coordinates", "velocities", "forces", "time", "cell_lengths", "cell_angles"),
    *("spatial", "cell_spatial", "cell_angular"),
}
"""Variables that a frame is made of, or that name its axes."""


class Amber:
    """One run, with velocities and forces where the file has them."""

    name = "AMBER NetCDF"
    accepts = frozenset({"topology", "elements"})

    def matches(self, path: Path) -> bool:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(8192)
        return head[:3] == b"CDF" and b"AMBER" in head

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        with foreign_reader(path, "header"), _mapped(path) as file:
            length = _spelled(path, file.variables["coordinates"]) or "Å"
            time = _spelled(path, file.variables["time"]) if "time" in file.variables else None
        default = SourceUnits(energy="kcal/mol", length=length, time=time or "ps")
        return default.overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        with _mapped(path) as file:
            options.remarks.leave_unread(name for name in file.variables if name not in _READ)
            count = file.dimensions["atom"]
            numbers = numbers_of_atoms(count, options, path)

            def values(name: str, frame: int) -> np.ndarray | None:
                variable = file.variables.get(name)
                if variable is None:
                    return None
                scale = float(getattr(variable, "scale_factor", 1.0))
                with foreign_reader(path, f"{name}, frame {frame}"):
                    return np.array(variable[frame], dtype=np.float64) * scale

            for k in range(file.variables["coordinates"].shape[0]):
                lengths, angles = values("cell_lengths", k), values("cell_angles", k)
                cell = np.zeros((3, 3))
                if lengths is not None and angles is not None and (lengths > 0).all():
                    cell = cellpar_to_cell([*lengths, *angles])
                time = values("time", k)
                if options.timestep is not None:
                    time = np.array(k * options.timestep / units.factor("time"))
                positions = values("coordinates", k)
                assert positions is not None
                yield units.applied(
                    Frame(
                        numbers=numbers,
                        positions=positions,
                        cell=cell,
                        pbc=np.full(3, cell.any()),
                        velocities=values("velocities", k),
                        forces=values("forces", k),
                        time=None if time is None else float(time),
                        trajectory=path.name,
                    )
                )


@contextmanager
def _mapped(path: Path) -> Iterator[netcdf_file]:
    """The file, read as asked for, not whole."""
    with foreign_reader(path, "header"):
        file = netcdf_file(path, "r", mmap=True)
    try:
        yield file
    finally:
        with warnings.catch_warnings():
            # After an error its traceback still holds arrays, and scipy warns that they live on.
            warnings.simplefilter("ignore", RuntimeWarning)
            file.close()


def _spelled(path: Path, variable: Any) -> str | None:
    unit = getattr(variable, "units", b"")
    text = unit.decode() if isinstance(unit, bytes) else str(unit)
    if text and text.lower() not in _SPELLINGS:
        raise SourceError(path, "units", f"{text!r} is not an AMBER unit", "Pass --units")
    return _SPELLINGS.get(text.lower())

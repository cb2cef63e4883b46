"""Files that name their own atoms, through MDAnalysis: PDB, Tinker; and TNG with a topology.

MDAnalysis converts to Å and ps. The decoder of TNG is compiled, so it runs in a process of its own; the
others are text, and read by Python.
"""

import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from ase.geometry import cellpar_to_cell

from sciwm.core.frame import Frame
from sciwm.data.importers.elements import (
    numbers_of_atoms,
    required_mdanalysis,
    topology_numbers,
)
from sciwm.data.importers.isolation import Record, isolated
from sciwm.data.importers.source import ImportOptions, SourceError, foreign_reader
from sciwm.data.importers.source_units import SourceUnits

_SUFFIXES = (".pdb", ".arc", ".txyz", ".tng")


class MDAnalysisFile:
    """Models or frames one by one; successive in time only if the user says so."""

    name = "PDB, Tinker or TNG"
    accepts = frozenset({"topology", "elements"})

    def matches(self, path: Path) -> bool:
        # These formats have no signature that others could not have.
        return path.is_file() and path.suffix.lower() in _SUFFIXES

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return SourceUnits(time="ps", energy="kJ/mol").overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        compressed = path.suffix.lower() == ".tng"
        named = options.topology is None and options.elements is None and not compressed
        numbers = topology_numbers(path) if named else None
        with isolated(_decompressed, path) if compressed else nullcontext(_read(path)) as records:
            for raw in records:
                if numbers is None:
                    numbers = numbers_of_atoms(len(raw["positions"]), options, path)
                box, time = raw.get("dimensions"), raw.get("time")
                periodic = box is not None and (box[:3] > 0).all()
                yield units.applied(
                    Frame(
                        numbers=numbers,
                        positions=raw["positions"],
                        cell=cellpar_to_cell(box) if periodic else np.zeros((3, 3)),
                        pbc=np.full(3, periodic),
                        velocities=raw.get("velocities"),
                        forces=raw.get("forces"),
                        time=None if time is None else float(time),
                        trajectory="" if time is None else path.name,
                    )
                )


def _read(path: Path) -> Iterator[Record]:
    MDAnalysis = required_mdanalysis(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with foreign_reader(path, ""):
            reader = MDAnalysis.Universe(str(path), to_guess=()).trajectory
        yield from _records(reader, path)


def _decompressed(path: Path) -> Iterator[Record]:
    required_mdanalysis(path)
    with foreign_reader(path, ""):
        reader = _tng_reader(path)
    yield from _records(reader, path)


def _records(reader: Any, path: Path) -> Iterator[Record]:
    """Positions (N, 3) of every frame; box lengths and angles, time, ... where it has them."""
    for k in range(reader.n_frames):
        with foreign_reader(path, f"frame {k}"):
            raw = reader[k]
        found = {
            "positions": raw.positions,
            "dimensions": raw.dimensions,
            "velocities": raw.velocities if raw.has_velocities else None,
            "forces": raw.forces if raw.has_forces else None,
            "time": raw.data.get("time"),
        }
        yield {
            name: np.array(value, dtype=np.float64)
            for name, value in found.items()
            if value is not None
        }


def _tng_reader(path: Path) -> Any:
    from MDAnalysis.coordinates.TNG import HAS_PYTNG, TNGReader

    if not HAS_PYTNG:
        raise SourceError(
            path,
            "",
            "TNG is read by pytng, which is not installed",
            "Install pytng, or convert the file: gmx trjconv -f in.tng -o out.xtc",
        )
    return TNGReader(str(path))

"""Files that name their own atoms, through MDAnalysis: PDB, Tinker; and TNG with a topology.

MDAnalysis converts to Å and ps.
"""

import warnings
from collections.abc import Iterator
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
        MDAnalysis = required_mdanalysis(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix.lower() == ".tng":
                reader = _tng_reader(path)
            else:
                with foreign_reader(path, ""):
                    reader = MDAnalysis.Universe(str(path), to_guess=()).trajectory
            if options.topology is None and options.elements is None and path.suffix != ".tng":
                numbers = topology_numbers(path)
            else:
                numbers = numbers_of_atoms(reader.n_atoms, options, path)
            for k in range(reader.n_frames):
                with foreign_reader(path, f"frame {k}"):
                    raw = reader[k]
                periodic = raw.dimensions is not None and (raw.dimensions[:3] > 0).all()
                time = raw.data.get("time")
                yield units.applied(
                    Frame(
                        numbers=numbers,
                        positions=raw.positions.astype(np.float64),
                        cell=cellpar_to_cell(raw.dimensions) if periodic else np.zeros((3, 3)),
                        pbc=np.full(3, periodic),
                        velocities=raw.velocities.astype(np.float64)
                        if raw.has_velocities
                        else None,
                        forces=raw.forces.astype(np.float64) if raw.has_forces else None,
                        time=None if time is None else float(time),
                        trajectory="" if time is None else path.name,
                    )
                )


def _tng_reader(path: Path) -> Any:
    from MDAnalysis.coordinates.TNG import HAS_PYTNG, TNGReader

    if not HAS_PYTNG:
        raise SourceError(
            path,
            "",
            "TNG is read by pytng, which is not installed",
            "Install pytng, or convert the file: gmx trjconv -f in.tng -o out.xtc",
        )
    with foreign_reader(path, ""):
        return TNGReader(str(path))

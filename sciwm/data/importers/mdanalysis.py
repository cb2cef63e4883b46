"""Files that name their own atoms, through MDAnalysis: GRO, PDB, Tinker; and TNG with a topology.

MDAnalysis converts to Å and ps. GRO and PDB give a box and, in GRO, velocities.
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
from sciwm.data.importers.text import first_lines, open_text

_SUFFIXES = (".gro", ".pdb", ".arc", ".txyz", ".tng")


class MDAnalysisFile:
    """Models or frames one by one; successive in time only if the user says so."""

    name = "GRO, PDB, Tinker or TNG"
    accepts = frozenset({"topology", "elements"})

    def matches(self, path: Path) -> bool:
        # These formats have no signature that others could not have.
        return path.is_file() and path.suffix.lower() in _SUFFIXES

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return SourceUnits(time="ps", energy="kJ/mol").overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        MDAnalysis = required_mdanalysis(path)
        _refuse_further_frames(path)
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


def _refuse_further_frames(path: Path) -> None:
    """Refuses a GRO file of several frames, of which MDAnalysis would read the first only."""
    if path.suffix.lower() != ".gro":
        return
    count = first_lines(path, 2)[1].strip()
    if not count.isdigit():
        raise SourceError(path, "line 2", f"should be the number of atoms, but reads {count!r}")
    with open_text(path) as file:
        lines = sum(1 for line in file if line.strip())
    if lines > int(count) + 3:
        raise SourceError(
            path,
            f"line {int(count) + 4}",
            "more frames follow, and only the first can be read",
            "Convert the file: gmx trjconv -f in.gro -o out.xtc",
        )

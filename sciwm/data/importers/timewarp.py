"""The .npz archives of Timewarp (Klein et al. 2023, arXiv:2302.01170): peptides in OpenMM.

nm, nm/ps and kJ/mol; the elements stand in the PDB file of the same run.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sciwm.core.frame import Frame
from sciwm.data.importers.elements import numbers_of_atoms
from sciwm.data.importers.npz import NpzArray, npz_names
from sciwm.data.importers.source import ImportOptions
from sciwm.data.importers.source_units import GROMACS, SourceUnits


class Timewarp:
    """One run, whose frames may be spaced unevenly."""

    name = "Timewarp npz"
    accepts = frozenset({"topology", "elements"})

    def matches(self, path: Path) -> bool:
        return {"positions", "velocities", "forces", "energies", "step"} <= npz_names(path)

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return GROMACS.overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        arrays = [
            NpzArray(path, name)
            for name in ("positions", "velocities", "forces", "energies", "step", "time")
        ]
        numbers = numbers_of_atoms(arrays[0].shape[1], options, path)
        for positions, velocities, forces, energies, step, time in zip(
            *(array.rows() for array in arrays), strict=True
        ):
            yield units.applied(
                Frame(
                    numbers=numbers,
                    positions=positions.astype(np.float64),
                    velocities=velocities.astype(np.float64),
                    forces=forces.astype(np.float64),
                    energy=float(energies[0]),  # the second one is kinetic
                    step=int(step),
                    time=float(time),
                    trajectory=path.name,
                )
            )

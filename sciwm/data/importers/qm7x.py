"""QM7-X (Hoja et al. 2021, 10.1038/s41597-021-00812-2): /molecule/conformer, in Å and eV."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sciwm.core.frame import Frame
from sciwm.data.importers.hdf5 import first_group, opened
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import SourceUnits


class QM7X:
    """Conformers, each an independent sample."""

    name = "QM7-X HDF5"
    accepts = frozenset({"energy_key", "forces_key"})

    def matches(self, path: Path) -> bool:
        return {"atNUM", "atXYZ"} <= set(first_group(path, 2) or {})

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return SourceUnits().overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        energy = options.energy_key or "ePBE0+MBD"
        forces = options.forces_key or "totFOR"
        with opened(path) as file:
            for molecule in file.values():
                for conformer in molecule.values():
                    read = {"atNUM", "atXYZ", energy, forces}
                    missing = read - set(conformer)
                    if missing:
                        raise SourceError(
                            path,
                            conformer.name,
                            f"lacks {', '.join(sorted(missing))}",
                            "Choose labels with --energy_key and --forces_key",
                        )
                    options.remarks.leave_unread(name for name in conformer if name not in read)
                    yield units.applied(
                        Frame(
                            numbers=np.ravel(conformer["atNUM"][()]).astype(np.int64),
                            positions=conformer["atXYZ"][()].astype(np.float64),
                            energy=float(np.ravel(conformer[energy][()])[0]),
                            forces=conformer[forces][()].astype(np.float64),
                        )
                    )

"""TorchMD-Net's HDF5 files: groups of `types`, `pos` and `energy` or `forces`.

The format leaves units to whoever wrote the file; Å and eV are taken unless the user says
otherwise, and implausible magnitudes are refused later.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sciwm.core.frame import Frame
from sciwm.data.importers.hdf5 import conformers, first_group, opened, require_shape, rows
from sciwm.data.importers.source import ImportOptions
from sciwm.data.importers.source_units import SourceUnits

_READ = {"types", "pos", "energy", "forces", "total_charge"}


class TorchMDNet:
    """Independent samples of one size per group."""

    name = "TorchMD-Net HDF5"
    accepts = frozenset[str]()

    def matches(self, path: Path) -> bool:
        return {"types", "pos"} <= set(first_group(path, 1) or {})

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return SourceUnits().overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        with opened(path) as file:
            for name, group in file.items():
                if name == "_metadata":
                    continue
                options.remarks.leave_unread(one for one in group if one not in _READ)
                shape = group["pos"].shape
                types = group["types"]
                if types.ndim == 1:  # shared by all samples of the group
                    require_shape(types, shape[1:2], path)
                    every: Iterator[np.ndarray] = iter([types[()]] * shape[0])
                else:
                    require_shape(types, shape[:2], path)
                    every = rows(types, path)
                charges = group["total_charge"][()] if "total_charge" in group else None
                samples = conformers(group, path, "pos", "energy", "forces")
                for k, (z, (r, e, f)) in enumerate(zip(every, samples, strict=True)):
                    yield units.applied(
                        Frame(
                            numbers=z.astype(np.int64),
                            positions=r,
                            energy=e,
                            forces=f,
                            total_charge=0.0 if charges is None else float(np.ravel(charges)[k]),
                        )
                    )

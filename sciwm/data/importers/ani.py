"""The ANI data sets: ANI-1, ANI-1x, ANI-2x and COMP6, in Å, hartree and hartree/Å.

ANI-1x and ANI-1ccx (Smith et al. 2020, 10.1038/s41597-020-0473-z) name each level of theory and
mark missing labels by NaN; ANI-1 (Smith et al. 2017, 10.1038/sdata.2017.193) nests molecules in
one group more and writes element symbols; ANI-2x groups conformers by their number of atoms.
"""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from sciwm.core.frame import Frame
from sciwm.data.importers.elements import numbers_from_symbols
from sciwm.data.importers.hdf5 import conformers, first_group, opened, require_shape, rows, text
from sciwm.data.importers.source import ImportOptions
from sciwm.data.importers.source_units import SourceUnits


class ANI:
    """Conformers, each an independent sample."""

    name = "ANI HDF5"
    accepts = frozenset({"energy_key", "forces_key"})

    def matches(self, path: Path) -> bool:
        return any(
            "coordinates" in found and ({"species", "atomic_numbers"} & set(found))
            for found in (first_group(path, 1) or {}, first_group(path, 2) or {})
        )

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return SourceUnits(energy="hartree").overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        with opened(path) as file:
            for group in _molecules(file):
                for frame in _group(group, path, options):
                    yield units.applied(frame)


def _molecules(group: h5py.Group) -> Iterator[h5py.Group]:
    """Every group with coordinates, at whatever depth."""
    if "coordinates" in group:
        yield group
        return
    for child in group.values():
        if isinstance(child, h5py.Group):
            yield from _molecules(child)


def _group(group: h5py.Group, path: Path, options: ImportOptions) -> Iterator[Frame]:
    named = "wb97x_dz.energy" in group
    energy = options.energy_key or ("wb97x_dz.energy" if named else "energies")
    forces = options.forces_key or ("wb97x_dz.forces" if named else "forces")
    # The labels of another level of theory belong to other forces, or to none.
    if options.energy_key is not None and options.forces_key is None:
        forces = energy.replace(".energy", ".forces") if ".energy" in energy else forces
    read = {"coordinates", "atomic_numbers", "species", energy, forces}
    options.remarks.leave_unread(name for name in group if name not in read)
    numbers = group["atomic_numbers" if "atomic_numbers" in group else "species"]
    shape = group["coordinates"].shape
    if numbers.ndim == 2:
        require_shape(numbers, shape[:2], path)
        species: Iterator[np.ndarray] = rows(numbers, path)
    else:
        require_shape(numbers, shape[1:2], path)
        species = iter([numbers[()]] * shape[0])
    for z, (r, e, f) in zip(
        species, conformers(group, path, "coordinates", energy, forces), strict=True
    ):
        if (e is not None and np.isnan(e)) or (f is not None and np.isnan(f).any()):
            continue  # not computed at this level of theory, as the data set documents
        if z.dtype.kind in "OS":
            z = numbers_from_symbols(np.array([text(one) for one in z]), path, group.name)
        yield Frame(numbers=z.astype(np.int64), positions=r, energy=e, forces=f)

"""DeePMD-kit's folders of NumPy arrays (https://docs.deepmodeling.com/projects/deepmd).

A system is a folder with `type.raw` and `set.*` folders; a folder of systems is read in order.
Energies in eV, forces in eV/Å, virials in eV; frames are independent samples.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sciwm.core.frame import Frame
from sciwm.data.importers.elements import numbers_from_symbols, numbers_of_types
from sciwm.data.importers.source import ImportOptions, SourceError, foreign_reader
from sciwm.data.importers.source_units import SourceUnits


class DeepMD:
    """One system or a folder of several."""

    name = "DeePMD folder"
    accepts = frozenset({"elements"})

    def matches(self, path: Path) -> bool:
        return bool(_systems(path))

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return SourceUnits().overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        for system in _systems(path):
            folders = sorted(folder for folder in system.glob("set.*") if folder.is_dir())
            if not folders:
                raise SourceError(system, "", "holds no set.* folder", "Convert raw files to sets")
            for folder in folders:
                for frame in _set(system, folder, options):
                    yield units.applied(frame)


def _systems(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    if (path / "type.raw").is_file():
        return [path]
    return sorted(file.parent for file in path.rglob("type.raw"))


def _set(system: Path, folder: Path, options: ImportOptions) -> Iterator[Frame]:
    coordinates = _array(folder / "coord.npy")
    if coordinates is None:
        raise SourceError(folder, "coord.npy", "is missing", "A set needs coordinates")
    count = len(coordinates)
    forces, energy, box, virial, real = (
        _array(folder / f"{name}.npy", count)
        for name in ("force", "energy", "box", "virial", "real_atom_types")
    )
    with foreign_reader(system, "type.raw"):
        types = np.loadtxt(system / "type.raw", dtype=np.int64, ndmin=1)
    pbc = np.full(3, not (system / "nopbc").exists())
    if pbc.all() and box is None:
        raise SourceError(
            folder,
            "box.npy",
            "is missing in a system that repeats",
            "Add it, or an empty file `nopbc` beside type.raw",
        )
    for k in range(count):
        positions = np.array(coordinates[k], dtype=np.float64).reshape(-1, 3)
        cell = np.zeros((3, 3)) if box is None else np.array(box[k], dtype=np.float64).reshape(3, 3)
        stress = None
        if virial is not None and pbc.all():
            # The virial is minus the strain derivative of the energy.
            tensor = np.array(virial[k], dtype=np.float64).reshape(3, 3)
            stress = -tensor / abs(np.linalg.det(cell))
        yield Frame(
            numbers=_numbers(system, types if real is None else np.array(real[k]), options),
            positions=positions,
            cell=cell * pbc[:, None],
            pbc=pbc,
            energy=None if energy is None else float(np.ravel(energy[k])[0]),
            forces=None if forces is None else np.array(forces[k], dtype=np.float64).reshape(-1, 3),
            stress=stress,
        )


def _array(path: Path, count: int | None = None) -> np.ndarray | None:
    """The array, mapped rather than read; None if it is not there."""
    if not path.exists():
        return None
    with foreign_reader(path, ""):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if count is not None and len(array) != count:
        raise SourceError(
            path, "", f"has {len(array)} frames, but coord.npy has {count}", "Write the set again"
        )
    return array


def _numbers(system: Path, types: np.ndarray, options: ImportOptions) -> np.ndarray:
    names = system / "type_map.raw"
    if options.elements is None and names.exists():
        table = numbers_from_symbols(np.array(names.read_text().split()), names, "")
        if types.max() >= len(table):
            raise SourceError(
                system,
                "type.raw",
                f"has type {types.max()}, but type_map.raw names {len(table)} elements",
                "Types count from 0",
            )
        return table[types]
    numbers = numbers_of_types(types + 1, options, system)
    if numbers is None:
        raise SourceError(
            system,
            "type.raw",
            "has types but there is no type_map.raw"
            if options.elements is None
            else f"has types, which elements {options.elements!r} does not list",
            "Pass one element per type, as in --elements O,H",
        )
    return numbers

"""Everything else that ASE reads: its own .traj and .db, VASP, CP2K, Quantum ESPRESSO, CIF, ..."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import iread
from ase.io.formats import UnknownFileTypeError, filetype, ioformats
from ase.stress import voigt_6_to_full_3x3_stress

from sciwm.core.electrons import MULTIPLICITY_KEYS, unpaired_stated
from sciwm.core.frame import Frame
from sciwm.data.importers.source import ImportOptions, foreign_reader
from sciwm.data.importers.source_units import ASE, SourceUnits

# Formats whose readers may unpickle, or connect to a server.
_EXCLUDED = {"bundletrajectory", "mysql", "postgresql"}


_READ = {
    *("energy", "free_energy", "forces", "stress"),
    *("numbers", "positions", "momenta", "masses", "charge", "config_type"),
    *MULTIPLICITY_KEYS,
}
"""What a frame is made of."""


class ASEFormats:
    """Frames with the energies, forces and stresses that ASE finds beside them."""

    name = "ASE"
    accepts = frozenset[str]()

    def matches(self, path: Path) -> bool:
        if not path.is_file():
            return False
        try:
            kind = filetype(str(path))
        except (UnknownFileTypeError, OSError, ValueError, ImportError):
            return False
        return kind in ioformats and ioformats[kind].can_read and kind not in _EXCLUDED

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return ASE.overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images = iread(str(path), index=":")
            index = 0
            while True:
                with foreign_reader(path, f"frame {index}"):
                    atoms = next(images, None)
                if atoms is None:
                    return
                options.remarks.leave_unread(_unread(atoms))
                yield units.applied(frame_from_atoms(atoms))
                index += 1


def frame_from_atoms(atoms: Atoms) -> Frame:
    """A frame in ASE's units, with the results that ASE read from the file."""
    results = {} if atoms.calc is None else atoms.calc.results
    stress = results.get("stress")
    if stress is not None and np.shape(stress) == (6,):
        stress = voigt_6_to_full_3x3_stress(stress)
    forces = results.get("forces")
    label = atoms.info.get("config_type")
    return Frame(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions,
        cell=np.asarray(atoms.cell) * atoms.pbc[:, None],
        pbc=atoms.pbc,
        velocities=atoms.get_velocities() if atoms.has("momenta") else None,
        forces=None if forces is None else np.asarray(forces, dtype=np.float64),
        energy=_scalar(results["energy"]) if results.get("energy") is not None else None,
        stress=stress if atoms.pbc.all() else None,
        masses=atoms.get_masses() if atoms.has("masses") else None,
        total_charge=_scalar(atoms.info.get("charge", 0.0)),
        unpaired=unpaired_stated(atoms.info),
        label=None if label is None else str(label),
    )


def _unread(atoms: Atoms) -> Iterator[str]:
    """Results, arrays and notes that no frame has a place for."""
    results = {} if atoms.calc is None else atoms.calc.results
    yield from (name for name, value in results.items() if name not in _READ and value is not None)
    yield from (name for name in (*atoms.arrays, *atoms.info) if name not in _READ)


def _scalar(value: object) -> float:
    """A number that some calculators wrap into an array of one."""
    return float(np.asarray(value, dtype=np.float64).reshape(()))

"""SPICE (Eastman et al. 2023, 10.1038/s41597-022-01882-6): a group of conformers per molecule.

Bohr and hartree; the gradient is minus the force. Each dataset states its units, which are
followed. The total charge is that of the molecule's SMILES.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rdkit import Chem

from sciwm.core.frame import Frame
from sciwm.data.importers.hdf5 import conformers, first_group, opened, text
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import SourceUnits

_READ = {"conformations", "atomic_numbers", "smiles", "subset", "dft_total_gradient"}


class Spice:
    """Conformers, each an independent sample."""

    name = "SPICE HDF5"
    accepts = frozenset({"energy_key"})

    def matches(self, path: Path) -> bool:
        return {"conformations", "atomic_numbers"} <= set(first_group(path, 1) or {})

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        default = SourceUnits(length="bohr", energy="hartree", force="hartree/bohr")
        with opened(path) as file:
            group = next(iter(file.values()))
            stated = {
                quantity: text(group[name].attrs["units"]).replace("angstrom", "Å")
                for quantity, name in (
                    ("length", "conformations"),
                    ("energy", "dft_total_energy"),
                    ("force", "dft_total_gradient"),
                )
                if name in group and "units" in group[name].attrs
            }
        described = ",".join(f"{quantity}={unit}" for quantity, unit in stated.items())
        return default.overridden(described or None).overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        energy = options.energy_key or "dft_total_energy"
        with opened(path) as file:
            for name, group in file.items():
                numbers = group["atomic_numbers"][()].astype(np.int64)
                smiles = text(group["smiles"][()]) if "smiles" in group else None
                label = text(group["subset"][()]) if "subset" in group else None
                read = {*_READ, energy}
                options.remarks.leave_unread(one for one in group if one not in read)
                charge = 0.0 if smiles is None else _charge(smiles, path, name)
                for positions, value, gradient in conformers(
                    group, path, "conformations", energy, "dft_total_gradient"
                ):
                    yield units.applied(
                        Frame(
                            numbers=numbers,
                            positions=positions,
                            energy=value,
                            forces=None if gradient is None else -gradient,
                            total_charge=charge,
                            smiles=smiles,
                            label=label,
                        )
                    )


def _charge(smiles: str, path: Path, name: str) -> float:
    # Unsanitised: unusual valences are no obstacle to adding up formal charges.
    molecule = Chem.MolFromSmiles(smiles, sanitize=False)
    if molecule is None:
        raise SourceError(path, f"/{name}/smiles", f"{smiles!r} is not a SMILES", "Correct it")
    return float(Chem.GetFormalCharge(molecule))

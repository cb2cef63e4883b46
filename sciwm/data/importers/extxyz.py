"""XYZ and extended XYZ, plain or compressed (https://github.com/libAtoms/extxyz).

Labels are read under the names that ASE and MACE write: `energy`, `forces`, `stress`, `virial`,
with or without `REF_`. Momenta are in ASE's units, velocities in Å/fs.
`config_type` or `group` becomes the label of the frame, `charge` its total charge, and `spin` or
`multiplicity`, 2S + 1, tells its unpaired electrons. Charges of
single atoms are read only in reduced units, where they act as sources of fields. Properties such as
dipoles are read where the options name them.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_masses

from sciwm.core.electrons import MULTIPLICITY_KEYS, unpaired_stated
from sciwm.core.frame import Array, Frame
from sciwm.core.properties import PROPERTIES
from sciwm.core.units import REDUCED
from sciwm.data.importers.elements import numbers_from_symbols
from sciwm.data.importers.extxyz_syntax import (
    BARE,
    FALSE,
    TRUE,
    atom_columns,
    atom_table,
    loose_numbers,
    parsed_comment,
)
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import ASE, SourceUnits
from sciwm.data.importers.text import NumberedLines, first_lines

ENERGY_KEYS = ("energy", "REF_energy")
FORCES_KEYS = ("forces", "REF_forces", "force")
STRESS_KEYS = ("stress", "REF_stress")
VIRIAL_KEYS = ("virial", "virials", "REF_virial", "REF_virials")
VELOCITY_KEYS = ("velocities", "velo", "vel")

_READ = {
    *MULTIPLICITY_KEYS,
    *("Properties", "Lattice", "pbc", "charge", "total_charge", "config_type", "group", "smiles"),
    *("species", "pos", "Z", "masses", "mass", "momenta"),
    *(*STRESS_KEYS, *VIRIAL_KEYS, *VELOCITY_KEYS),
}
"""Further names that a frame is made of."""


class ExtendedXYZ:
    """One frame after another, refusing what does not match its own header."""

    name = "extended XYZ"
    accepts = frozenset({"energy_key", "forces_key", "properties"})

    def matches(self, path: Path) -> bool:
        if not path.is_file():
            return False
        lines = first_lines(path, 3)
        if len(lines) < 3 or not lines[0].strip().isdigit():
            return False
        if "Properties=" in lines[1] or "Lattice=" in lines[1]:
            return True
        atom = lines[2].split()
        # Tinker's archives start alike, but number their atoms and have no comment line.
        return ".xyz" in path.suffixes and len(atom) >= 4 and not atom[1].isalpha()

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return SourceUnits().overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        with NumberedLines(path) as lines:
            index = 0
            while (line := lines.next_filled()) is not None:
                yield units.applied(_frame(lines, line, index, units, options))
                index += 1


def _frame(
    lines: NumberedLines, line: str, index: int, units: SourceUnits, options: ImportOptions
) -> Frame:
    where = f"frame {index} (line {lines.number})"
    if not line.strip().isdigit() or int(line) == 0:
        raise SourceError(
            lines.path,
            where,
            f"should start with the number of atoms, but reads {line.strip()!r}",
            "Check the atom count of the frame before",
        )
    count = int(line)
    comment = lines.next()
    info = parsed_comment(comment or "")
    first = lines.number + 1
    rows = lines.take(count)
    if len(rows) < count:
        raise SourceError(
            lines.path,
            where,
            f"announces {count} atoms, but the file ends after {len(rows)}",
            "The file was cut off; write it again",
        )
    header = info.get("Properties")
    loose = {} if header else loose_numbers(comment or "")
    if options.energy_key in loose:
        info[options.energy_key] = loose[options.energy_key]
    columns = atom_columns(header, lines.path, where)
    values = atom_table(columns, rows, header is not None, lines.path, index, first)

    def scalar(keys: tuple[str, ...]) -> float | None:
        key, text = _only(keys, info, lines.path, where)
        return None if key is None else _number(text, key, lines.path, where)

    def array(keys: tuple[str, ...]) -> Array | None:
        key, column = _only(keys, values, lines.path, where)
        if key is None:
            return None
        if column.shape != (count, 3) or column.dtype.kind != "f":
            raise SourceError(
                lines.path,
                where,
                f"column {key!r} should be {key}:R:3, one vector per atom",
                "Correct the Properties of the frame",
            )
        return column

    if "species" in values:
        numbers = numbers_from_symbols(values["species"], lines.path, where)
    else:
        numbers = values["Z"].reshape(count).astype(np.int64)
    cell, pbc = _box(info, lines.path, where)
    masses = _per_atom(values, ("masses", "mass"), count)
    forces_keys = _chosen(options.forces_key, FORCES_KEYS, values, lines.path, where)
    energy_keys = _chosen(options.energy_key, ENERGY_KEYS, info, lines.path, where)
    energy = scalar(energy_keys)
    if energy is None and loose:
        what = "are bare numbers" if BARE in loose else f"hold numbers named {', '.join(loose)}"
        options.remarks.say(
            f"the comment lines {what}, which were left. If they are energies, pass --energy_key "
            f"{next(iter(loose))}, and their unit with --units"
        )
    read = {*_READ, *forces_keys, *energy_keys, *options.properties.values()}
    words = {key for key, value in info.items() if value == "T"}
    options.remarks.leave_unread(
        key for key in (*info, *values) if key not in read and key not in words | loose.keys()
    )
    total_charge = scalar(("charge", "total_charge"))
    try:
        unpaired = unpaired_stated(info)
    except ValueError as error:
        raise SourceError(lines.path, where, str(error), "Correct the comment line") from error
    label = info.get("config_type", info.get("group"))
    return Frame(
        numbers=numbers,
        positions=values["pos"],
        cell=cell,
        pbc=pbc,
        velocities=_velocities(values, numbers, masses, array(VELOCITY_KEYS), units),
        forces=array(forces_keys),
        energy=energy,
        stress=_stress(info, cell, pbc, units, lines.path, where),
        masses=masses,
        charges=_per_atom(values, ("charges", "initial_charges"), count)
        if units.system is REDUCED
        else None,
        total_charge=0.0 if total_charge is None else total_charge,
        unpaired=unpaired,
        label=None if label is None else str(label),
        smiles=info.get("smiles"),
        properties=_properties(options.properties, info, values, count, lines.path, where),
    )


def _properties(
    wanted: Mapping[str, str],
    info: Mapping[str, str],
    values: Mapping[str, np.ndarray],
    count: int,
    path: Path,
    where: str,
) -> dict[str, Array | float]:
    """Those that the frame holds, by property name: columns of atoms, or entries of the comment."""
    found: dict[str, Array | float] = {}
    for name, key in wanted.items():
        one = PROPERTIES[name]
        shape = one.sample_shape(count)
        if key not in (values if one.per_atom else info):
            continue
        if one.per_atom:
            flat = np.asarray(values[key])
            sound = flat.dtype.kind == "f" and flat.shape == shape
        else:
            flat = _numbers(info[key], key, path, where)
            sound = flat.size == math.prod(shape)
        if not sound:
            raise SourceError(
                path,
                where,
                f"{key!r} has shape {flat.shape}, but {name} needs {shape}",
                "Name another key, or correct the frame",
            )
        found[name] = flat.reshape(shape) if shape else float(flat[0])
    return found


def _chosen(
    key: str | None, usual: tuple[str, ...], mapping: Mapping[str, Any], path: Path, where: str
) -> tuple[str, ...]:
    """The key that the user named, which must be there, or the usual ones."""
    if key is None:
        return usual
    if key not in mapping:
        raise SourceError(path, where, f"holds no {key!r}", f"It holds {', '.join(mapping)}")
    return (key,)


def _only(
    keys: tuple[str, ...], mapping: Mapping[str, Any], path: Path, where: str
) -> tuple[str | None, Any]:
    """The one key of `keys` that is there, and its value.

    Raises:
        SourceError: If there are several, and they differ.
    """
    found = [key for key in keys if key in mapping]
    if not found:
        return None, None
    if any(not np.array_equal(mapping[key], mapping[found[0]]) for key in found[1:]):
        quantity = "forces_key" if "forces" in keys else "energy_key"
        raise SourceError(
            path,
            where,
            f"holds {' and '.join(found)}, which differ",
            f"Choose one with --{quantity}",
        )
    return found[0], mapping[found[0]]


def _number(text: str, key: str, path: Path, where: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise SourceError(
            path, where, f"{key}={text!r} is not a number", "Correct the comment line"
        ) from error


def _numbers(text: str, key: str, path: Path, where: str) -> Array:
    """A flat array from "1 2 3", "[1, 2, 3]" or "_JSON [[1, 2], [3, 4]]"."""
    text = text.removeprefix("_JSON").strip()
    try:
        if text.startswith("["):
            return np.asarray(json.loads(text), dtype=np.float64).ravel()
        return np.array([float(word) for word in text.replace(",", " ").split()])
    except ValueError as error:
        raise SourceError(
            path, where, f"{key}={text!r} is not a list of numbers", "Correct the comment line"
        ) from error


def _box(info: dict[str, str], path: Path, where: str) -> tuple[Array, np.ndarray]:
    """The cell and what repeats; a lattice that does not repeat is no box."""
    cell = np.zeros((3, 3))
    if "Lattice" in info:
        flat = _numbers(info["Lattice"], "Lattice", path, where)
        if flat.size not in (3, 9):
            raise SourceError(
                path, where, f"Lattice has {flat.size} numbers", "Give the 9 numbers of a, b and c"
            )
        cell = np.diag(flat) if flat.size == 3 else flat.reshape(3, 3)
    pbc = np.full(3, "Lattice" in info)
    if "pbc" in info:
        words = re.findall(r"\w+", info["pbc"].lower())
        words = words * 3 if len(words) == 1 else words
        if len(words) != 3 or not set(words) <= TRUE | FALSE:
            raise SourceError(path, where, f"pbc={info['pbc']!r}", 'Write pbc="T T T"')
        pbc = np.array([word in TRUE for word in words])
    return cell * pbc[:, None], pbc


def _stress(
    info: dict[str, str], cell: Array, pbc: np.ndarray, units: SourceUnits, path: Path, where: str
) -> Array | None:
    """(3, 3) stress, or the virial divided by minus the volume; only a full crystal has one."""
    for keys, is_virial in ((STRESS_KEYS, False), (VIRIAL_KEYS, True)):
        key, text = _only(keys, info, path, where)
        if key is None or not pbc.all():
            continue
        flat = _numbers(text, key, path, where)
        if flat.size not in (6, 9):
            raise SourceError(path, where, f"{key} has {flat.size} numbers", "Give 9, or 6 (Voigt)")
        tensor = (
            flat.reshape(3, 3)
            if flat.size == 9
            else flat[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
        )
        if not is_virial:
            return tensor
        if (volume := abs(np.linalg.det(cell))) == 0:
            return None  # the box itself will be refused
        # The virial is an energy; `applied` will take the quotient for a stress.
        per_volume = units.factor("energy") / units.factor("length") ** 3 / units.factor("stress")
        return -tensor / volume * per_volume
    return None


def _per_atom(values: dict[str, np.ndarray], keys: tuple[str, ...], count: int) -> Array | None:
    for key in keys:
        if key in values and values[key].shape == (count,):
            return values[key].astype(np.float64)
    return None


def _velocities(
    values: dict[str, np.ndarray],
    numbers: np.ndarray,
    masses: Array | None,
    velocities: Array | None,
    units: SourceUnits,
) -> Array | None:
    if velocities is not None or "momenta" not in values:
        return velocities
    weights = atomic_masses[numbers] if masses is None else masses
    # Momenta come in ASE's units whatever the unit of a velocity column would be.
    scale = (
        ASE.factor("velocity") / units.factor("velocity") if units.system is not REDUCED else 1.0
    )
    return values["momenta"] / weights[:, None] * scale

"""The .npz archives of MD17, revised MD17, sGDML, QM7-X and SchNet-style data sets.

MD17 and sGDML: `R`, `E`, `F`, `z`, in kcal/mol (Chmiela et al. 2017, 10.1126/sciadv.1603015);
revised MD17: `coords`, `energies`, `forces`, `nuclear_charges`, in kcal/mol (Christensen and
von Lilienfeld 2020, 10.1088/2632-2153/abba6f). Where `z` has a row per frame, padded with zeros,
molecules differ from frame to frame and energies are in eV, as QM7-X is passed on. Under QM7-X's own
names (`atXYZ`, `atNUM`, `totFOR`, `ePBE0+MBD`; Hoja et al. 2021, 10.1038/s41597-021-00812-2) they are
in eV too; `eAT`, the energy of atomisation, is another one to choose.
"""

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np

from sciwm.core.frame import Frame
from sciwm.data.importers.npz import NpzArray, npz_names
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import SourceUnits

_NAMES = (
    {"positions": "R", "numbers": "z", "energy": "E", "forces": "F"},
    {
        "positions": "coords",
        "numbers": "nuclear_charges",
        "energy": "energies",
        "forces": "forces",
    },
    {"positions": "atXYZ", "numbers": "atNUM", "energy": "ePBE0+MBD", "forces": "totFOR"},
)
_STATED = {"e_unit", "r_unit"}
# sGDML's archives say their units.
_SPELLINGS = {"Ang": "Å", "bohr": "bohr", "kcal/mol": "kcal/mol", "eV": "eV", "Hartree": "hartree"}


class MD17:
    """Conformations of one molecule, or of many padded to one size."""

    name = "MD17 npz"
    accepts = frozenset({"energy_key", "forces_key"})

    def matches(self, path: Path) -> bool:
        return _members(path) is not None

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        members = _members(path) or _NAMES[0]
        padded = len(NpzArray(path, members["numbers"]).shape) == 2
        energy = "eV" if padded or members["positions"] == "atXYZ" else "kcal/mol"
        length = "Å"
        names = npz_names(path)
        if names >= _STATED:
            energy = _spelled(path, "e_unit", energy)
            length = _spelled(path, "r_unit", length)
        return SourceUnits(energy=energy, length=length).overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        members = _members(path)
        if members is None:
            raise SourceError(path, "", "holds no R and z, nor coords and nuclear_charges")
        keys = {"energy": options.energy_key, "forces": options.forces_key}
        members = members | {field: key for field, key in keys.items() if key is not None}
        available = npz_names(path)
        options.remarks.leave_unread(sorted(available - set(members.values()) - _STATED))
        numbers = NpzArray(path, members["numbers"])
        positions = NpzArray(path, members["positions"])
        single = positions.shape[1:] == (3,)  # one conformation, without an axis for frames
        if positions.shape[-1:] != (3,) or len(positions.shape) != (2 if single else 3):
            raise SourceError(
                path,
                members["positions"],
                f"has shape {positions.shape}, not (frames, atoms, 3)",
                "Save one row per frame; molecules of unlike size need padding with zeros",
            )
        columns = {}
        for field in ("energy", "forces"):
            if members[field] in available:
                array = NpzArray(path, members[field])
                expected = positions.shape if field == "forces" else positions.shape[: 1 - single]
                if array.shape[: len(expected)] != expected:
                    raise SourceError(
                        path,
                        members[field],
                        f"has shape {array.shape} beside positions of {positions.shape}",
                        "The arrays belong to different data sets; save them together again",
                    )
                columns[field] = _rows(array, single)
        padded = len(numbers.shape) == 2
        every = numbers.rows() if padded else repeat(numbers.read())
        nothing: Iterator[None] = repeat(None)
        for z, r, energy, forces in zip(
            every,
            _rows(positions, single),
            columns.get("energy", nothing),
            columns.get("forces", nothing),
            strict=False,  # repeat() never ends; shapes were compared above
        ):
            real = z > 0 if padded else slice(None)
            yield units.applied(
                Frame(
                    numbers=z[real].astype(np.int64),
                    positions=r[real].astype(np.float64),
                    energy=None if energy is None else float(np.ravel(energy)[0]),
                    forces=None if forces is None else forces[real].astype(np.float64),
                )
            )


def _rows(array: NpzArray, single: bool) -> Iterator[np.ndarray]:
    return iter([array.read()]) if single else array.rows()


def _members(path: Path) -> dict[str, str] | None:
    """Names of the arrays in this archive by field."""
    available = npz_names(path)
    for names in _NAMES:
        if {names["positions"], names["numbers"]} <= available:
            return names
    return None


def _spelled(path: Path, member: str, default: str) -> str:
    text = str(NpzArray(path, member).read())
    return _SPELLINGS.get(text.removeprefix("b'").rstrip("'"), default)

"""H5MD itself: any legal file, or one of znh5md, rewritten in sciwm's layout and units."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from sciwm.core.frame import Frame
from sciwm.core.units import REDUCED
from sciwm.data.h5md.assumptions import Assumptions
from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.layout import CREATOR, PARTICLE_FIELDS
from sciwm.data.h5md.reader import H5MDFile
from sciwm.data.importers.elements import numbers_of_atoms, numbers_of_types
from sciwm.data.importers.hdf5 import opened
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import ASE, LJ, QUANTITIES, SourceUnits


class H5MD:
    """Every trajectory of the file, one after another."""

    name = "H5MD"
    accepts = frozenset({"topology", "elements", "energy_key", "forces_key"})

    def matches(self, path: Path) -> bool:
        if not path.is_file() or not h5py.is_hdf5(path):
            return False
        with opened(path) as file:
            return _signed(file, 2)

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        """What the numbers of the file mean; `frames` gets them converted from its reader.

        Raises:
            SourceError: If the user states units and so does the file.
        """
        with _refusals(path), H5MDFile(path, assumptions=_assumptions(options, None)) as file:
            lacking = set().union(*(one.unstated for one in file.trajectories)) - {"mass", "charge"}
            if options.units is not None:
                return _stated(options.units, file, lacking)
            if file.units is REDUCED:
                if file.creator != CREATOR:
                    options.remarks.say(
                        "the file states no units, so its numbers are taken for reduced ones and "
                        "its species for particle types. If they are physical, pass --units metal, "
                        "real or another; if not, confirm it with --units lj"
                    )
                return LJ
            if file.by_ase and lacking:
                options.remarks.say(
                    f"the file states no unit of {', '.join(sorted(lacking))}. ZnH5MD wrote it, with "
                    "atomic numbers as species, so Å, eV and ASE's unit of velocity are assumed; "
                    "if it holds others, pass --units"
                )
                return ASE
            return SourceUnits()

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        assumptions = _assumptions(options, self.units(path, options))
        with _refusals(path), H5MDFile(path, assumptions=assumptions) as file:
            _tell(file, options)
            elements = _Elements(file, options)
            for system in file.systems:
                for k in range(len(system)):
                    frame = system.frame(k)
                    ordered = bool(frame.trajectory)
                    yield frame.with_(
                        numbers=elements.of(frame, system.has("numbers")),
                        # Breaks stay inside their group: the steps written with it show them.
                        trajectory=system.name if ordered else "",
                        step=frame.step if ordered else None,
                        time=frame.time if ordered else None,
                    )


class _Elements:
    """Says what element each particle is: the user before the file, the file before nobody."""

    def __init__(self, file: H5MDFile, options: ImportOptions):
        self._file = file
        self._options = options
        self._named = options.elements is not None or options.topology is not None
        self._reduced = file.units is REDUCED
        self._by_count: dict[int, np.ndarray] = {}

    @cached_property
    def _shift(self) -> int:
        """What makes types count from one; some programs count theirs from zero."""
        lowest = [one.frame(0).numbers.min() for one in self._file.trajectories if len(one)]
        return 1 if min(lowest, default=1) == 0 else 0

    def of(self, frame: Frame, stored: bool) -> np.ndarray:
        """(N,) atomic numbers, or particle types where units are reduced.

        Args:
            frame: Whose particles are asked for.
            stored: Whether the file has their species.
        """
        if not self._named and (stored or self._reduced):
            return frame.numbers
        if stored:
            types = frame.numbers + self._shift
            if (numbers := numbers_of_types(types, self._options, self._file.path)) is not None:
                return numbers
        count = len(frame)
        if count not in self._by_count:
            self._by_count[count] = numbers_of_atoms(count, self._options, self._file.path)
        return self._by_count[count]


def _assumptions(options: ImportOptions, units: SourceUnits | None) -> Assumptions:
    """What the user has said about the file; units only where they are given."""
    keys = {"energy": options.energy_key, "forces": options.forces_key}
    names = {field: key for field, key in keys.items() if key is not None}
    if units is None or options.units is None:
        return Assumptions(names=names)
    if units.system is REDUCED:
        return Assumptions({}, names)
    own = {quantity: getattr(units, quantity) for quantity in QUANTITIES}
    further = {"dipole": f"{units.charge} {units.length}", "volume": units.length}
    return Assumptions(own | further, names)


def _stated(text: str, file: H5MDFile, lacking: set[str]) -> SourceUnits:
    """The units that the user states for what the file leaves out."""
    if not lacking or file.creator == CREATOR:
        raise SourceError(file.path, "", "states its own units", "Import it without --units")
    units = (ASE if file.by_ase else SourceUnits()).overridden(text)
    if units.system is REDUCED and file.units is not REDUCED and not file.by_ase:
        raise SourceError(
            file.path,
            "",
            f"states some units, only not of {', '.join(sorted(lacking))}, so {text!r} cannot be",
            "Name the missing units, as in --units energy=eV",
        )
    return units


def _tell(file: H5MDFile, options: ImportOptions) -> None:
    """Reports what the file holds and no frame will have.

    Raises:
        SourceError: If the user has asked for it by name.
    """
    _tell_parts(file, options)
    unreadable: dict[str, str] = {}
    for trajectory in file.trajectories:
        options.remarks.leave_unread(name.rsplit("/", 1)[-1] for name in trajectory.unread)
        unreadable = trajectory.unreadable | unreadable
    for field, reason in unreadable.items():
        told = "; --units can tell it" if "no unit" in reason else ""
        asked = {"energy": options.energy_key, "forces": options.forces_key}.get(field)
        if asked is not None:
            raise SourceError(file.path, asked, f"{reason}{told}", f"It cannot be read as {field}")
        options.remarks.say(f"{field} are not imported: {reason}{told}")


def _tell_parts(file: H5MDFile, options: ImportOptions) -> None:
    """Reports which particles groups became one system, and which could not be told apart."""
    unclear: dict[str, None] = {}
    for system in file.systems:
        if len(system.parts) > 1:
            options.remarks.say(
                f"the particles groups {system.name} share box and steps and hold different "
                "particles, so they are imported as one system"
            )
            lost = {
                name
                for part in system.parts
                for name in part.fields
                if not (
                    system.has(name) if name in PARTICLE_FIELDS else name in system.whole.fields
                )
            }
            for name in sorted(lost):
                options.remarks.say(f"{name} are not known of all these groups together: left out")
        for name in system.subsets:
            options.remarks.leave_out(
                f"particles group {name}: {system.name} holds these particles too", 1
            )
        if system.unclear:
            unclear |= dict.fromkeys([*system.unclear, system.name])
    if unclear:
        names = list(unclear)
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        options.remarks.say(
            f"the particles groups {shown} share box and steps, and nothing tells whether they are "
            "parts of one system: each is imported by itself, and if they are parts, its forces and "
            "energies are NOT those of its own particles. Store the `id` of the particles in every "
            "group, or link their boxes"
        )


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What the reader of H5MD refuses, as an importer says it."""
    try:
        yield
    except FormatError as error:
        raise SourceError(path, error.where, error.reason, error.remedy) from error


def _signed(group: h5py.Group, depth: int) -> bool:
    """Whether `group`, or one `depth` levels below it, holds a group h5md with a version."""
    signature = group.get("h5md")
    if isinstance(signature, h5py.Group):
        return "version" in signature.attrs
    return depth > 0 and any(
        _signed(child, depth - 1) for child in group.values() if isinstance(child, h5py.Group)
    )

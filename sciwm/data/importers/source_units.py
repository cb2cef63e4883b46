"""What the numbers of a source mean, and their conversion to Å, eV, fs, u and e.

A unit is data: every importer states the units of its format, the user may correct them, and what
was applied is written into the imported file.
"""

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from sciwm.core.frame import Frame
from sciwm.core.properties import PROPERTIES
from sciwm.core.units import MOLECULAR, REDUCED, UnitError, UnitSystem, conversion


@dataclass(frozen=True)
class SourceUnits:
    """The unit of each quantity in a source.

    Attributes:
        length, energy, time, mass, charge: Unit strings that `conversion` reads.
        velocity, force, stress: Built from the above where left empty.
        system: Molecular, or reduced: then nothing is converted.
    """

    length: str = "Å"
    energy: str = "eV"
    time: str = "fs"
    mass: str = "u"
    charge: str = "e"
    velocity: str = ""
    force: str = ""
    stress: str = ""
    system: UnitSystem = MOLECULAR

    def __post_init__(self) -> None:
        derived = {
            "velocity": f"{self.length}/{self.time}",
            "force": f"{self.energy}/{self.length}",
            "stress": f"{self.energy}/{self.length}^3",
        }
        for quantity, unit in derived.items():
            if not getattr(self, quantity):
                object.__setattr__(self, quantity, unit)
        for quantity in QUANTITIES:
            self.factor(quantity)  # a unit that cannot be read is refused here, not at frame 1000

    def factor(self, quantity: str) -> float:
        """Size of the source's unit of `quantity` in sciwm's own.

        Raises:
            UnitError: If the unit cannot be read or is not one of `quantity`.
        """
        if self.system is REDUCED:
            return 1.0
        return _size(getattr(self, quantity), quantity)

    def applied(self, frame: Frame) -> Frame:
        """A frame in the source's units, converted to sciwm's."""
        if self.system is REDUCED:
            return frame

        def scaled(value: Any, quantity: str) -> Any:
            return None if value is None else value * self.factor(quantity)

        return frame.with_(
            positions=scaled(frame.positions, "length"),
            cell=scaled(frame.cell, "length"),
            velocities=scaled(frame.velocities, "velocity"),
            forces=scaled(frame.forces, "force"),
            energy=scaled(frame.energy, "energy"),
            stress=scaled(frame.stress, "stress"),
            masses=scaled(frame.masses, "mass"),
            charges=scaled(frame.charges, "charge"),
            time=scaled(frame.time, "time"),
            properties={
                name: value * self._property_factor(name)
                for name, value in frame.properties.items()
            },
        )

    def _property_factor(self, name: str) -> float:
        quantity = PROPERTIES[name].quantity
        if quantity == "dipole":
            return self.factor("charge") * self.factor("length")
        return self.factor("length") ** 3 if quantity == "volume" else self.factor(quantity)

    def overridden(self, text: str | None) -> "SourceUnits":
        """These units, corrected by what the user said.

        Args:
            text: A style ("metal", "real", "lj", ...); "reduced"; an energy unit, which then holds
                for forces and stresses too ("meV"); or single quantities
                ("energy=hartree,force=hartree/bohr").

        Raises:
            UnitError: If the text is none of these.
        """
        if text is None:
            return self
        word = text.strip()
        if word in STYLES:
            return STYLES[word]
        if "=" not in word:
            try:
                conversion(word, "energy")
            except UnitError as error:
                raise UnitError(
                    f"units {text!r} are neither a style ({', '.join(STYLES)}), nor an energy unit "
                    "such as meV or kcal/mol, nor a list such as "
                    "energy=hartree,force=hartree/bohr,length=Å"
                ) from error
            return replace(self, energy=word, force="", stress="", system=MOLECULAR)
        changes = {}
        for part in word.split(","):
            quantity, _, unit = part.partition("=")
            if quantity.strip() not in QUANTITIES:
                raise UnitError(
                    f"unknown quantity {quantity.strip()!r} in units {text!r}; use "
                    f"{', '.join(QUANTITIES)}"
                )
            changes[quantity.strip()] = unit.strip()
        return replace(self, **changes)  # type: ignore[arg-type]

    def __str__(self) -> str:
        if self.system is REDUCED:
            return "reduced units, nothing converted"
        return ", ".join(f"{quantity} {getattr(self, quantity)}" for quantity in QUANTITIES)


_size = lru_cache(conversion)  # asked for at every frame

QUANTITIES = tuple(field.name for field in fields(SourceUnits) if field.name != "system")

ASE_TIME = 10.180505717871194
"""fs in ASE's unit of time, Å sqrt(u/eV)."""

ASE = SourceUnits(velocity=f"{1 / ASE_TIME} Å/fs")
"""Å and eV with velocities in Å per ASE time, as ASE and TorchSim keep them."""

GROMACS = SourceUnits(length="nm", energy="kJ/mol", time="ps")

LJ = SourceUnits(system=REDUCED)

# The unit styles of LAMMPS, https://docs.lammps.org/units.html.
STYLES = {
    "metal": SourceUnits(time="ps", stress="bar"),
    "real": SourceUnits(energy="kcal/mol"),
    "lj": LJ,
    "reduced": LJ,
    "si": SourceUnits(length="m", energy="J", time="s", mass="kg", charge="6.241509074460763e18 e"),
    "cgs": SourceUnits(
        length="0.01 m",
        energy="1e-7 J",
        time="s",
        mass="0.001 kg",
        charge="2.0819434e9 e",
        velocity="0.01 m/s",
        force="1e-5 J/m",
        stress="0.1 J/m^3",
    ),
    # Its unit of time is the fs, but velocities count bohr per atomic unit of time (1.03275 fs).
    "electron": SourceUnits(
        length="bohr", energy="hartree", velocity=f"{1 / 1.03275} bohr/fs", force="hartree/bohr"
    ),
    "micro": SourceUnits(
        length="um",
        energy="1e-15 J",
        time="us",
        mass="1e-15 kg",
        charge="6.241509074460763e6 e",
        force="1e-15 J/um",
        stress="1e-15 J/um^3",
    ),
    "nano": SourceUnits(
        length="nm",
        energy="1e-21 J",
        time="ns",
        mass="1e-21 kg",
        force="1e-21 J/nm",
        stress="1e-21 J/nm^3",
    ),
}

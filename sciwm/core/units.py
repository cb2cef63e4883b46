"""Units: what a number means, as data.

Molecules and materials live in Å, eV, fs, u and e. Particle systems without physical units live
in reduced units, where every constant is one. A file says which; code asks `UnitSystem`.
CODATA 2018 values (NIST SP 961), as ASE and the reference programs use them.
"""

import math
import re
from dataclasses import dataclass

HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # Å
KCAL_PER_MOL = 0.0433641042  # eV, thermochemical calorie
KJ_PER_MOL = 0.010364269656  # eV
BOLTZMANN = 8.617333262e-5  # eV/K
EV_PER_ANGSTROM3_IN_GPA = 160.21766208


@dataclass(frozen=True)
class UnitSystem:
    """The constants that turn forces and masses into motion, and temperature into energy.

    Attributes:
        name: "molecular" or "reduced", as written into files.
        acceleration: Acceleration of a unit mass under a unit force.
        boltzmann: Energy per unit of temperature.
        length, energy, time, mass, temperature: Names of the units, for tables and axes.
    """

    name: str
    acceleration: float
    boltzmann: float
    length: str
    energy: str
    time: str
    mass: str
    temperature: str

    @property
    def force(self) -> str:
        return f"{self.energy}/{self.length}" if self.length else ""

    @property
    def velocity(self) -> str:
        return f"{self.length}/{self.time}" if self.length else ""

    @property
    def stress(self) -> str:
        return f"{self.energy}/{self.length}³" if self.length else ""

    @property
    def reported_stress(self) -> tuple[str, float]:
        """The unit in which people are told stress, and how many of it make one of `stress`."""
        return ("GPa", EV_PER_ANGSTROM3_IN_GPA) if self.length else ("", 1.0)


MOLECULAR = UnitSystem("molecular", 0.00964853321233, BOLTZMANN, "Å", "eV", "fs", "u", "K")
REDUCED = UnitSystem("reduced", 1.0, 1.0, "", "", "", "", "")

UNIT_SYSTEMS = {system.name: system for system in (MOLECULAR, REDUCED)}


def unit_system(name: str) -> UnitSystem:
    """The unit system called `name`.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in UNIT_SYSTEMS:
        raise ValueError(f"unknown unit system {name!r}; use one of {sorted(UNIT_SYSTEMS)}")
    return UNIT_SYSTEMS[name]


# Each unit symbol as (size in Å, eV, fs, u, e, K or their products; dimension).
_SYMBOLS: dict[str, tuple[float, str]] = {
    "angstrom": (1.0, "length"),
    "å": (1.0, "length"),
    "ang": (1.0, "length"),
    "a": (1.0, "length"),
    "nm": (10.0, "length"),
    "pm": (0.01, "length"),
    "um": (1e4, "length"),
    "m": (1e10, "length"),
    "bohr": (BOHR, "length"),
    "fs": (1.0, "time"),
    "ps": (1e3, "time"),
    "ns": (1e6, "time"),
    "us": (1e9, "time"),
    "s": (1e15, "time"),
    "ev": (1.0, "energy"),
    "mev": (1e-3, "energy"),
    "hartree": (HARTREE, "energy"),
    "ha": (HARTREE, "energy"),
    "kcal": (KCAL_PER_MOL, "energy"),
    "kj": (KJ_PER_MOL, "energy"),
    "j": (1.0 / 1.602176634e-19, "energy"),
    "u": (1.0, "mass"),
    "amu": (1.0, "mass"),
    "da": (1.0, "mass"),
    "g": (1.0, "mass"),
    "kg": (1.0 / 1.66053906660e-27, "mass"),
    "e": (1.0, "charge"),
    "k": (1.0, "temperature"),
    "gpa": (1.0 / EV_PER_ANGSTROM3_IN_GPA, "stress"),
    "bar": (1e-4 / EV_PER_ANGSTROM3_IN_GPA, "stress"),
    "kbar": (0.1 / EV_PER_ANGSTROM3_IN_GPA, "stress"),
    # Per mole: kcal, kJ and g above already mean "per mole", so mol itself counts one.
    "mol": (1.0, "amount"),
    "v": (1.0, "voltage"),  # eV/e
}

_BASE = {"length": 0, "time": 1, "energy": 2, "mass": 3, "charge": 4, "temperature": 5}

QUANTITIES: dict[str, dict[str, int]] = {
    "length": {"length": 1},
    "time": {"time": 1},
    "velocity": {"length": 1, "time": -1},
    "energy": {"energy": 1},
    "force": {"energy": 1, "length": -1},
    "stress": {"energy": 1, "length": -3},
    "mass": {"mass": 1},
    "charge": {"charge": 1},
    "temperature": {"temperature": 1},
    "dipole": {"charge": 1, "length": 1},
    "rate": {"time": -1},
    "field": {"energy": 1, "charge": -1, "length": -1},
    "stiffness": {"energy": 1, "length": -2},
}

_FACTOR = re.compile(r"([A-Za-zÅåµ]+)\^?([+-]?\d+)?")


def unit_of(quantity: str, units: UnitSystem) -> str:
    """The unit of a quantity of `QUANTITIES` in a unit system, such as "eV Å^-1"; empty in reduced units."""
    if units is not MOLECULAR:
        return ""
    names = {name: getattr(units, name, "e") for name in _BASE}
    powers = QUANTITIES.get(quantity, {})
    return " ".join(names[base] + ("" if n == 1 else f"^{n}") for base, n in powers.items())


class UnitError(ValueError):
    """A unit string that cannot be read, or that does not fit its quantity."""


def conversion(unit: str, quantity: str) -> float:
    """Size of one `unit` of `quantity` in sciwm's own units (Å, eV, fs, u, e, K).

    Reads H5MD's form (`kJ mol-1 nm-1`, `Angstrom ps-1`) and the everyday one
    (`kcal/mol/Å`, `eV/A^3`, `hartree/bohr`).

    Raises:
        UnitError: If a symbol is unknown, or the dimension is not that of `quantity`.
    """
    text = unit.strip().replace("·", " ").replace("*", " ").replace("³", "3").replace("²", "2")
    factor = 1.0
    dimension = [0] * len(_BASE)
    for position, part in enumerate(text.split("/")):
        for token in part.split():
            sign = 1 if position == 0 else -1
            try:
                factor *= float(token) ** sign
                continue
            except ValueError:
                pass
            match = _FACTOR.fullmatch(token)
            symbol = match.group(1).lower() if match else ""
            if match is None or symbol not in _SYMBOLS:
                raise UnitError(
                    f"unknown unit {token!r} in {unit!r} for {quantity}; known symbols are "
                    f"{', '.join(sorted(_SYMBOLS))}"
                )
            power = sign * int(match.group(2) or 1)
            size, kind = _SYMBOLS[symbol]
            factor *= size**power
            if kind == "stress":
                dimension[_BASE["energy"]] += power
                dimension[_BASE["length"]] -= 3 * power
            elif kind == "voltage":
                dimension[_BASE["energy"]] += power
                dimension[_BASE["charge"]] -= power
            elif kind != "amount":
                dimension[_BASE[kind]] += power
    wanted = [0] * len(_BASE)
    for kind, power in QUANTITIES[quantity].items():
        wanted[_BASE[kind]] = power
    if dimension != wanted:
        raise UnitError(f"{unit!r} is not a unit of {quantity}")
    return factor


_AMOUNT = re.compile(r"\s*([+-]?\d+\.?\d*(?:[eE][+-]?\d+)?)\s*([A-Za-zÅåµ/].*?)?\s*")


PLAIN = "number"
"""The quantity of numbers that have no unit."""


def parse_quantity(text: str, quantity: str, units: UnitSystem) -> float:
    """The value of a text such as `10ps`, `300 K` or `0.5` in a unit system's own units.

    Raises:
        UnitError: If it is no finite number, or the unit does not fit; in reduced units, if it has a
            unit.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise UnitError(f"{text!r} is not a {quantity}; write a number and a unit, such as 10ps")
    value, unit = float(match.group(1)), match.group(2) or ""
    if unit and quantity == PLAIN:
        raise UnitError(f"{text!r} has a unit, where a plain number is wanted")
    if unit and units is REDUCED:
        raise UnitError(
            f"{text!r} has a unit, but this model is in reduced units; give a bare number"
        )
    value *= conversion(unit, quantity) if unit else 1.0
    if not math.isfinite(value):
        raise UnitError(f"{text!r} is too large a {quantity}")
    return value

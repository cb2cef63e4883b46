"""What kinds of quantity an expression may add and compare.

Units that `sciwm.core.units` knows are converted; any other is a label of its own, equal only to
itself, so that an outcome in a unit nobody foresaw can still be compared with numbers in that unit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from sciwm.core.units import MOLECULAR, QUANTITIES, UnitError, conversion

_SYMBOL = re.compile(r"(.+?)\^?(-?\d)?")

_FURTHER: dict[str, tuple[float, dict[str, int]]] = {
    "V": (1.0, {"V": 1}),
    "mV": (1e-3, {"V": 1}),
    "D": (0.20819433, {"charge": 1, "length": 1}),
}
"""Units of measurement beyond those of simulations: electrode potentials and the debye."""

_NAMES = {
    "length": MOLECULAR.length,
    "time": MOLECULAR.time,
    "energy": MOLECULAR.energy,
    "mass": MOLECULAR.mass,
    "temperature": MOLECULAR.temperature,
    "charge": "e",
}


@dataclass(frozen=True)
class Dimension:
    """A product of powers of base quantities and of labels; nothing for a plain number.

    Attributes:
        powers: Ordered pairs of base and power, none of them zero.
    """

    powers: tuple[tuple[str, Fraction], ...] = ()

    @staticmethod
    def of(powers: Mapping[str, Fraction | int]) -> "Dimension":
        return Dimension(tuple(sorted((k, Fraction(v)) for k, v in powers.items() if v)))

    def times(self, other: "Dimension", sign: int = 1) -> "Dimension":
        """Of a product, or of a quotient where the sign is -1."""
        powers = dict(self.powers)
        for base, power in other.powers:
            powers[base] = powers.get(base, Fraction(0)) + sign * power
        return Dimension.of(powers)

    def to(self, exponent: Fraction) -> "Dimension":
        return Dimension.of({base: power * exponent for base, power in self.powers})

    @property
    def unit(self) -> str:
        """The unit values are in once converted, such as "eV" or "eV Å^-1"; empty for a number."""
        return " ".join(
            _NAMES.get(base, base) + ("" if power == 1 else f"^{power}")
            for base, power in self.powers
        )

    def __str__(self) -> str:
        return f"a quantity in {self.unit}" if self.powers else "a plain number"


NUMBER = Dimension()


@dataclass(frozen=True)
class Unit:
    """A unit and its size.

    Attributes:
        size: In `dimension.unit`.
        dimension: Of what it measures.
    """

    size: float
    dimension: Dimension


def known_unit(text: str) -> Unit | None:
    """The unit a text names; None where it names none that is known."""
    text = " ".join(text.split())
    if text in ("", "1"):
        return Unit(1.0, NUMBER)
    whole = _quantity(text)
    if whole is not None:
        return whole
    # A product that is no quantity of a simulation, such as eV^2 or V/Å.
    size, dimension = 1.0, NUMBER
    for place, part in enumerate(text.replace("²", "2").replace("³", "3").split("/")):
        for token in part.split():
            match = _SYMBOL.fullmatch(token)
            factor = _quantity(match.group(1)) if match else None
            if match is None or factor is None:
                return None
            power = int(match.group(2) or 1) * (1 if place == 0 else -1)
            size *= factor.size**power
            dimension = dimension.times(factor.dimension.to(Fraction(power)))
    return Unit(size, dimension)


def _quantity(text: str) -> Unit | None:
    if text in _FURTHER:
        size, powers = _FURTHER[text]
        return Unit(size, Dimension.of(powers))
    for quantity, bases in QUANTITIES.items():
        try:
            return Unit(conversion(text, quantity), Dimension.of(bases))
        except (UnitError, OverflowError):
            continue
    return None


def outcome_unit(text: str) -> Unit:
    """As `known_unit`, and an unknown unit is a label."""
    text = " ".join(text.split())
    return known_unit(text) or Unit(1.0, Dimension.of({text: 1}))

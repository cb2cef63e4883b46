"""What is taken for granted about an H5MD file where it says nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PHYSICAL = {"mass": "u", "charge": "e"}
"""Units that nearly all writers of physical files leave out."""

ASE = {
    "length": "Angstrom",
    "time": "fs",
    "energy": "eV",
    "force": "eV/Angstrom",
    "stress": "eV/Angstrom^3",
    "mass": "u",
    "charge": "e",
    "dipole": "e Angstrom",
    "volume": "Angstrom",
}
"""Of ZnH5MD, which stores what ASE holds; velocities are in Å sqrt(eV/u)."""


@dataclass(frozen=True)
class Assumptions:
    """What the user knows of a file that it does not say itself.

    Attributes:
        units: Quantity -> unit of values that state none, by the names of `core.units.QUANTITIES`;
            a volume by its unit of length. Empty where they are reduced; None where nobody knows.
        names: Field of a frame -> name of its element, where it is not H5MD's own.
    """

    units: Mapping[str, str] | None = None
    names: Mapping[str, str] = field(default_factory=dict)

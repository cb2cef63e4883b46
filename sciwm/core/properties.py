"""What can be known of a structure besides energy and forces: one table for files, models, references."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sciwm.core.units import conversion


@dataclass(frozen=True)
class PropertyDefinition:
    """Something measurable besides energy and forces.

    Attributes:
        unit: Of its values, in molecular units.
        quantity: What kind of thing that is.
        shape: Of one value.
        per_atom: Whether every atom has one, rather than every system.
    """

    unit: str
    quantity: Literal["dipole", "charge", "volume", "energy", "force"]
    shape: tuple[int, ...] = ()
    per_atom: bool = False

    @property
    def written_unit(self) -> str:
        """The unit in letters that every file format takes."""
        return self.unit.replace("Å", "Angstrom").replace("³", "3")

    def size(self, unit: str) -> float:
        """One `unit` in the unit of this property.

        Raises:
            UnitError: If the unit is unknown, or measures something else.
        """
        if self.quantity == "volume":
            return conversion(unit.strip().removesuffix("3").removesuffix("³"), "length") ** 3
        return conversion(unit, self.quantity)

    def sample_shape(self, n_atoms: int) -> tuple[int, ...]:
        """Shape of what one frame of `n_atoms` holds."""
        return (n_atoms, *self.shape) if self.per_atom else self.shape


PROPERTIES = {
    "dipole": PropertyDefinition("e Å", "dipole", (3,)),
    "charges": PropertyDefinition("e", "charge", per_atom=True),
    "polarisability": PropertyDefinition("Å³", "volume", (3, 3)),
    "gap": PropertyDefinition("eV", "energy"),
    "electron_affinity": PropertyDefinition("eV", "energy"),
    "ionisation_energy": PropertyDefinition("eV", "energy"),
    "solvation_energy": PropertyDefinition("eV", "energy"),
    "force_error": PropertyDefinition("eV/Å", "force", per_atom=True),
    "work": PropertyDefinition("eV", "energy"),
}
"""Energies are vertical, and affinities positive where the anion is lower; dipoles of ions are about
the centre of mass; `charges` are the atoms' partial charges, which sum to the total charge; `force_error` is
the error that a model expects of the force on each atom."""

_PREFIX = "properties/"


def property_field(name: str) -> str:
    """The field of a state or a trajectory that holds a property: `charges` alone is another thing."""
    return _PREFIX + name


def property_name(field: str) -> str | None:
    """The property that a field of a state or a trajectory holds; None for any other field."""
    return field.removeprefix(_PREFIX) if field.startswith(_PREFIX) else None


def require_known(names: Iterable[str]) -> None:
    """Raises ValueError if a name is not in `PROPERTIES`."""
    unknown = sorted(set(names) - PROPERTIES.keys())
    if unknown:
        raise ValueError(
            f"unknown properties {', '.join(map(repr, unknown))}; use {', '.join(PROPERTIES)}"
        )


def require_shape(name: str, value: ArrayLike, n_atoms: int) -> PropertyDefinition:
    """The property of that name.

    Raises:
        ValueError: If there is none, or the value of a frame of `n_atoms` has another shape.
    """
    require_known([name])
    wanted = PROPERTIES[name].sample_shape(n_atoms)
    if np.shape(value) != wanted:
        raise ValueError(
            f"{name} of a system of {n_atoms} atoms must have shape {wanted}, got {np.shape(value)}"
        )
    return PROPERTIES[name]

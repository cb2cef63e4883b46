"""Where each field of a frame lives in an H5MD file, and in which unit sciwm writes it.

H5MD 1.1: de Buyl, Colberg and Höfling, Comput. Phys. Commun. 185, 1546 (2014).
"""

from typing import NamedTuple

from sciwm.core.properties import PROPERTIES, property_name


class FieldPlace(NamedTuple):
    """The home of one field.

    Attributes:
        name: H5MD's name of the element.
        quantity: What it measures, as `core.units.conversion` knows it; None for a pure number.
    """

    name: str
    quantity: str | None


PARTICLE_FIELDS = {
    "positions": FieldPlace("position", "length"),
    "velocities": FieldPlace("velocity", "velocity"),
    "forces": FieldPlace("force", "force"),
    "images": FieldPlace("image", None),
    "numbers": FieldPlace("species", None),
    "masses": FieldPlace("mass", "mass"),
    "charges": FieldPlace("charge", "charge"),
}
"""Elements of /particles/<group>."""

VECTOR_FIELDS = frozenset({"positions", "velocities", "forces", "images"})
"""Particle fields with one component per axis; the others have one number per particle."""

LASTING_FIELDS = frozenset({"numbers", "masses", "charges"})
"""Particle fields that keep their value until the next sample, however seldom it is taken."""

OBSERVABLE_FIELDS = {
    "energy": FieldPlace("potential_energy", "energy"),
    "stress": FieldPlace("stress", "stress"),
    "total_charge": FieldPlace("total_charge", "charge"),
    "unpaired": FieldPlace("unpaired_electrons", None),
    "label": FieldPlace("label", None),
    "source_frame": FieldPlace("source_frame", None),
}
"""Elements of /observables/<group>, or of /observables where a file has one group. There too are
those of `core.properties.PROPERTIES`, under their own names and in their own units."""

OTHER_NAMES = {"forces": ("forces",)}
"""What other programs call elements of a particles group, where H5MD's own name is absent."""

ASE_NAMES = {
    "forces": ("forces",),
    "velocities": ("momentum", "momenta"),
    "energy": ("energy",),
}
"""The same for ZnH5MD, whose words are ASE's: elsewhere `energy` may well be the total one, and
momenta have no unit that could be told."""

MOMENTA = frozenset({"momentum", "momenta"})
"""Elements that become velocities when divided by the masses."""

WRITTEN_UNITS = {
    "length": "Angstrom",
    "time": "ps",
    "velocity": "Angstrom ps-1",
    "force": "kJ mol-1 Angstrom-1",
    "energy": "kJ mol-1",
    "stress": "kJ mol-1 Angstrom-3",
    "mass": "u",
    "charge": "e",
}
"""Units other readers know: MDAnalysis refuses any string outside its own short list."""

UNWRITTEN_STEP = -(2**63)
"""Fill value of step datasets: marks a sample whose write a crash cut off."""

CREATOR = "sciwm"

PARAMETERS = "parameters/sciwm"
"""The group of everything that H5MD has no place for."""

FORMAT_VERSION = 1
"""Version of the contents of that group."""


def per_particle(field: str) -> bool:
    """Whether a field has one value for each particle."""
    name = property_name(field)
    return field in PARTICLE_FIELDS if name is None else PROPERTIES[name].per_atom


def group_parameters(group: str) -> str:
    """Where the parameters of one particles group are kept."""
    return f"{PARAMETERS}/groups/{group}"

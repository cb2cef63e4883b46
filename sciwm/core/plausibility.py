"""What no simulation or measurement of matter can have given: numbers of an impossible size.

Each limit lies far beyond what anybody simulates and far below what damaged files hold, so that what
it refuses is a mistake. Numbers that merely look as if they were in another unit are the business of
`data.importers.plausibility`. Reduced units have no scale; there a number must only leave room for its
square in single precision, in which models compute.
"""

from typing import NamedTuple

import numpy as np

from sciwm.core.frame import Array, Frame
from sciwm.core.units import MOLECULAR, UnitSystem


class Limit(NamedTuple):
    """Between what values a quantity can lie, and why not beyond."""

    low: float
    high: float
    unit: str
    reason: str


LIMITS = {
    "length": Limit(-1e7, 1e7, "Å", "nothing that is simulated atom by atom is a millimetre wide"),
    # Nuclei come no nearer to one another, nor to their own images; H2 is 0.74 Å long.
    "box": Limit(0.3, 1e7, "Å", "atoms would overlap with their images, or be a millimetre apart"),
    "velocity": Limit(-2997.92458, 2997.92458, "Å/fs", "nothing is faster than light"),
    # Coulomb's law for bare uranium nuclei 0.1 Å apart: 14.4 eV Å × 92² / (0.1 Å)² = 1.2e7 eV/Å.
    "force": Limit(-1e7, 1e7, "eV/Å", "bare uranium nuclei 0.1 Å apart repel each other so"),
    # Binding energies of all electrons grow as 16 Z^(7/3) eV, to about 1.5e6 eV at Z = 118.
    "energy": Limit(-1e7, 1e7, "eV per particle", "no atom's electrons are bound by a tenth of it"),
    # 2.5e7 GPa are 1.6e5 eV/Å³.
    "stress": Limit(-1e6, 1e6, "eV/Å³", "the centre of the sun has less"),
    # Sites without mass belong to rigid models; a virus as one bead has 1e9 u.
    "mass": Limit(0.0, 1e12, "u", "no particle of a model weighs a picogram, or less than nothing"),
    "charge": Limit(-1e6, 1e6, "e", "no colloid carries as much"),
    # A year is 3e22 fs.
    "time": Limit(-1e23, 1e23, "fs", "no simulation covers years"),
    # k T is 862 eV: atoms have lost all but their inner electrons. Hot plasmas of 1e6 K pass.
    "temperature": Limit(0.0, 1e7, "K", "there are no atoms at that heat"),
    # Bonds to hydrogen vibrate in 9 fs, and coarse-grained models take steps of 40 fs.
    "time step": Limit(0.0, 1e3, "fs", "no integrator follows particles in steps of picoseconds"),
}

REDUCED_LIMIT = Limit(-1e18, 1e18, "", "its square would leave single precision")

PARTS = {
    "positions": "length",
    "velocities": "velocity",
    "forces": "force",
    "stress": "stress",
    "masses": "mass",
    "charges": "charge",
    "total_charge": "charge",
    "time": "time",
}
"""The quantity of each part of a frame."""


class Oddity(NamedTuple):
    """A number that cannot be.

    Attributes:
        finite: Whether it is a number at all.
        row: Where it is along the first axis.
        sentence: The value, the limit and the reason.
    """

    finite: bool
    row: int
    sentence: str

    def of(self, name: str) -> "Oddity":
        """The same, with what it is a value of."""
        return self._replace(sentence=f"{name}: {self.sentence}")


def oddity(quantity: str, values: Array | float, units: UnitSystem) -> Oddity | None:
    """The first number that cannot be; None if all can."""
    low, high, unit, reason = LIMITS[quantity] if units is MOLECULAR else REDUCED_LIMIT
    values = np.atleast_1d(np.asarray(values, dtype=np.float64))
    sound = (values >= low) & (values <= high)  # false for NaN
    if sound.all():
        return None
    place = np.unravel_index(int(np.argmin(sound)), sound.shape)
    value = values[place]
    finite = bool(np.isfinite(value))
    shown = f"{value:g} {unit}".rstrip()
    if finite:
        beyond = f"beyond {high:g}" if value > high else f"below {low:g}"
        shown = f"{shown} is {beyond} {unit}".rstrip() + f": {reason}"
    return Oddity(finite, int(place[0]), shown)


def require_plausible(quantity: str, values: Array | float, units: UnitSystem) -> None:
    """Raises ValueError if a number cannot be."""
    found = oddity(quantity, values, units)
    if found is not None:
        raise ValueError(f"the {quantity} cannot be {found.sentence}")


def frame_oddity(frame: Frame, units: UnitSystem) -> Oddity | None:
    """The first number in a frame that cannot be; None if all can."""
    for name, quantity in PARTS.items():
        value = getattr(frame, name)
        found = None if value is None else oddity(quantity, value, units)
        if found is not None:
            per_particle = np.shape(value)[:1] == (len(frame),) and name != "stress"
            return found.of(f"{name} of particle {found.row}" if per_particle else name)
    if frame.energy is not None:
        found = oddity("energy", frame.energy / max(len(frame), 1), units)
        if found is not None:
            return found.of("energy")
    repeating = frame.cell[frame.pbc]
    found = oddity("length", repeating, units) or (
        oddity("box", np.linalg.norm(repeating, axis=1), units) if units is MOLECULAR else None
    )
    return None if found is None else found.of(f"cell vector {found.row}")

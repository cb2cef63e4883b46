"""Does a number look like the unit it is said to have?

Energies are held against the total energy that the atoms have between them, forces and velocities
against what atoms do at any temperature of interest. A file in meV or kcal/mol read as eV trains
a model without complaint, so it is named here instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses

from sciwm.core.frame import Frame
from sciwm.core.units import BOLTZMANN, HARTREE, MOLECULAR, conversion
from sciwm.data.importers.source_units import ASE, SourceUnits

ENERGY_UNITS = ("eV", "meV", "kcal/mol", "kJ/mol", "hartree")

LARGEST_FORCE = 50.0
"""eV/Å, root mean square: beyond, atoms overlap or the unit is another."""
LARGE_FORCE = 12.0
"""eV/Å, root mean square: rare in simulations of matter, usual in kcal/mol/Å."""
HIGHEST_TEMPERATURE = 20000.0
"""K: 300 K in ASE's unit of velocity read as Å/fs would be 31,000 K."""
LOWEST_TEMPERATURE = 0.01
"""K: 300 K in Å/fs read as Å/ps would be 0.0003 K."""
MATCH = 0.05
"""How well a molecule's total energy agrees with the sum over its atoms."""


@dataclass(frozen=True)
class Doubt:
    """Something about the magnitudes that does not look right.

    Attributes:
        sentence: What does not fit, with the values.
        remedy: What to say if the units are others.
        certain: Whether no such data can exist, as against being merely unusual.
    """

    sentence: str
    remedy: str
    certain: bool


def atomic_energy(numbers: np.ndarray) -> np.ndarray:
    """Approximate total energy of neutral atoms, in eV; within 7 % from hydrogen to argon.

    The statistical expansion E = -0.768745 Z^(7/3) + Z²/2 - 0.269900 Z^(5/3) hartree
    (Englert and Schwinger 1985, 10.1103/PhysRevA.32.26).
    """
    z = np.asarray(numbers, dtype=np.float64)
    return HARTREE * (-0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.269900 * z ** (5 / 3))


def doubts(frames: Sequence[Frame], units: SourceUnits) -> list[Doubt]:
    """What does not look right about some frames of a source, already converted from `units`."""
    if units.system is not MOLECULAR:
        return []
    # Certain ones first, and the total energy, which tells the unit more surely than forces can.
    asked = (_energies(frames, units), _forces(frames, units), _velocities(frames, units))
    return sorted((d for d in asked if d is not None), key=lambda doubt: not doubt.certain)


def _energies(frames: Sequence[Frame], units: SourceUnits) -> Doubt | None:
    known = [frame for frame in frames if frame.energy is not None and len(frame)]
    if not known:
        return None
    totals = np.array([atomic_energy(frame.numbers).sum() for frame in known])
    energies = np.array([frame.energy for frame in known])
    share = float(np.median(energies / totals))
    if abs(share - 1) < MATCH:
        return None
    ours = units.factor("energy")
    matching = [
        unit for unit in ENERGY_UNITS if abs(share * conversion(unit, "energy") / ours - 1) < MATCH
    ]
    impossible = share > 1.3
    if not matching and not impossible:
        return None
    middle = int(np.argsort(energies / totals)[len(known) // 2])
    sentence = (
        f"{units.energy} as the unit of energy gives {energies[middle]:.5g} eV for "
        f"{len(known[middle])} atoms whose electrons are worth about {totals[middle]:.5g} eV in all"
    )
    if matching:
        sentence += f": they look like {matching[0]}"
    # Valence-only energies of heavy elements may match another unit by chance.
    light = all(frame.numbers.max() <= 10 for frame in known)
    return Doubt(sentence, _remedy(matching, units), impossible or light)


def _forces(frames: Sequence[Frame], units: SourceUnits) -> Doubt | None:
    known = [frame.forces for frame in frames if frame.forces is not None]
    if not known:
        return None
    size = float(np.sqrt(np.mean(np.concatenate([(f**2).sum(axis=1) for f in known]))))
    if size < LARGE_FORCE:
        return None
    ours = units.factor("energy")
    matching = [
        unit
        for unit in ENERGY_UNITS
        if 0.05 < size * conversion(unit, "energy") / ours < LARGE_FORCE / 2
    ]
    sentence = f"forces of {size:.4g} eV/Å (root mean square, read as {units.force}) are "
    sentence += "too large for any simulation" if size > LARGEST_FORCE else "unusually large"
    if matching:
        sentence += f"; they may be in {' or '.join(matching)} per Å"
    return Doubt(sentence, _remedy(matching, units), size > LARGEST_FORCE)


def _velocities(frames: Sequence[Frame], units: SourceUnits) -> Doubt | None:
    hot = []
    for frame in frames:
        if frame.velocities is not None:
            masses = atomic_masses[frame.numbers] if frame.masses is None else frame.masses
            kinetic = (masses[:, None] * frame.velocities**2).sum() / MOLECULAR.acceleration
            hot.append(kinetic / (3 * len(frame) * BOLTZMANN))
    temperature = float(np.median(hot)) if hot else 0.0
    if temperature == 0.0 or LOWEST_TEMPERATURE < temperature < HIGHEST_TEMPERATURE:
        return None
    ours = units.factor("velocity")
    candidates = {"Å/fs": 1.0, "Å/ps": 1e-3, "nm/ps": 1e-2, ASE.velocity: ASE.factor("velocity")}
    matching = [
        unit for unit, size in candidates.items() if 20 < temperature * (size / ours) ** 2 < 5000
    ]
    named = f"; they look like {' or '.join(matching)}" if matching else ""
    choice = matching[0] if matching else "Å/ps"
    return Doubt(
        f"velocities read as {units.velocity} mean a temperature of {temperature:.3g} K{named}",
        f'If so, pass --units "velocity={choice}"',
        temperature > HIGHEST_TEMPERATURE,
    )


def _remedy(matching: list[str], units: SourceUnits) -> str:
    choice = matching[0] if matching else "meV, kcal/mol, kJ/mol or hartree"
    return (
        f"If so, pass --units {choice}; if they are right, confirm with --units "
        f'"energy={units.energy},force={units.force}"'
    )

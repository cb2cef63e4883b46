"""Internal coordinates of a molecule in motion, and which of them tell most."""

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from sciwm.core.bonds import bonds
from sciwm.core.frame import Array
from sciwm.core.units import MOLECULAR
from sciwm.simulation.observables.motion import Motion

MOST_ATOMS = 300
"""Larger systems are judged by their pair distances instead."""


@dataclass(frozen=True)
class Coordinate:
    """A bond (two atoms) or a dihedral angle (four).

    Attributes:
        atoms: Indices, counted from 0, along the chain.
        name: Such as "C-O bond" with the indices.
    """

    atoms: tuple[int, ...]
    name: str

    @property
    def title(self) -> str:
        """The name for an axis: "C–O bond"."""
        return self.name.split(" (")[0].replace("-", "\N{EN DASH}")

    @property
    def unit(self) -> str:
        return "Å" if len(self.atoms) == 2 else "°"

    def values(self, motion: Motion) -> Array:
        """(T,) its course; angles from -180° to 180°."""
        chain = motion.positions[:, list(self.atoms)]
        steps = np.diff(chain, axis=1)
        if len(self.atoms) == 2:
            return np.linalg.norm(steps[:, 0], axis=-1)
        return _dihedral(steps)


def telling_coordinates(motion: Motion) -> list[Coordinate]:
    """One bond of each pair of elements, heaviest first, and one dihedral angle.

    Empty where there are no bonds to speak of: reduced units, periodic or large systems.
    """
    if motion.units is not MOLECULAR or motion.pbc.any() or len(motion.numbers) > MOST_ATOMS:
        return []
    pairs = [(int(i), int(j)) for i, j in bonds(motion.numbers, motion.positions[0])]
    numbers = motion.numbers.tolist()
    kinds: dict[tuple[int, int], tuple[int, int]] = {}
    for i, j in pairs:
        # As chemists write it: C-O and O-H, hydrogen last.
        i, j = sorted((i, j), key=lambda atom: (numbers[atom] == 1, numbers[atom], atom))
        kinds.setdefault((numbers[i], numbers[j]), (i, j))
    order = sorted(kinds, key=lambda kind: (-sum(kind), kind))
    chosen = [Coordinate(kinds[kind], _name(numbers, kinds[kind])) for kind in order]
    chain = _heaviest_chain(numbers, pairs)
    return chosen + ([Coordinate(chain, _name(numbers, chain))] if chain else [])


def _name(numbers: list[int], atoms: tuple[int, ...]) -> str:
    symbols = "-".join(chemical_symbols[numbers[k]] for k in atoms)
    kind = "bond" if len(atoms) == 2 else "dihedral"
    return f"{symbols} {kind} (atoms {'-'.join(map(str, atoms))})"


def _heaviest_chain(
    numbers: list[int], pairs: list[tuple[int, int]]
) -> tuple[int, int, int, int] | None:
    """Four bonded atoms in a row with the largest sum of atomic numbers."""
    near: dict[int, set[int]] = {}
    for i, j in pairs:
        near.setdefault(i, set()).add(j)
        near.setdefault(j, set()).add(i)

    def weight(atom: int) -> tuple[int, int]:
        return numbers[atom], -atom

    chains = []
    for j, k in pairs:
        before, after = near[j] - {k}, near[k] - {j}
        if not before or not after:
            continue
        i, l = max(before, key=weight), max(after, key=weight)
        if i != l:  # three in a ring have no dihedral
            chains.append((i, j, k, l))
    # Of equally heavy ones, the one that turns about the heavier bond.
    return max(
        chains,
        key=lambda c: (sum(numbers[a] for a in c), numbers[c[1]] + numbers[c[2]]),
        default=None,
    )


def _dihedral(steps: Array) -> Array:
    """(T,) angle in degrees, in the IUPAC sense, from the three steps (T, 3, 3) of a chain.

    atan2 of |b₂| b₁·(b₂×b₃) and (b₁×b₂)·(b₂×b₃), which is well-conditioned at every angle
    (Blondel and Karplus 1996).
    """
    first, middle, last = steps[:, 0], steps[:, 1], steps[:, 2]
    one, other = np.cross(first, middle), np.cross(middle, last)
    sine = np.linalg.norm(middle, axis=-1) * (first * other).sum(-1)
    return np.degrees(np.arctan2(sine, (one * other).sum(-1)))

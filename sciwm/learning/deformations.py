"""Structures that can be had without any world: shaken, and with bonds turned and stretched.

They are what a first world is made from, and show motions that heat alone would not for long.
"""

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch

from sciwm.core.bonds import bonds, radii_of
from sciwm.core.frame import Array, Frame
from sciwm.core.neighbours import neighbour_pairs
from sciwm.core.state import State
from sciwm.core.units import BOLTZMANN
from sciwm.simulation.model_hessian import NON_METALS, model_hessian

STIFFNESS = 8.0
"""eV/Å² that holds each atom where nothing better is known: between a metal's and a diamond's."""

SOFTEST = 3.0
"""eV/Å² added to every motion of a molecule: a straight step along a softer one would tear it."""

NEAREST = 0.65
"""Of the sum of covalent radii; atoms nearer than that answer with forces that drown all others."""

STRETCHES = (0.9, 1.45)
"""Of a bond's length."""


def shaken(structure: Frame, temperature: float, rng: np.random.Generator) -> Frame:
    """The structure with its atoms moved as heat would move them on modelled springs.

    Of molecules the model knows stiff motions from soft ones; in crystals and metals each atom is held
    by a spring of its own.

    Args:
        temperature: K.
    """
    size = len(structure)
    noise = rng.standard_normal(3 * size)
    heat = BOLTZMANN * temperature
    if np.any(structure.pbc) or not set(structure.numbers.tolist()) <= set(NON_METALS):
        moved = np.sqrt(heat / STIFFNESS) * noise
    else:
        state = State.from_frame(structure, torch.float64)
        hessian = model_hessian(state)[0].numpy() + SOFTEST * np.eye(3 * size)
        # H = L Lᵀ, so L⁻ᵀ ξ has the covariance H⁻¹.
        moved = np.sqrt(heat) * np.linalg.solve(np.linalg.cholesky(hessian).T, noise)
    return structure.with_(positions=structure.positions + moved.reshape(size, 3))


def sound(frame: Frame) -> bool:
    """Whether no two atoms are nearer than any bond."""
    limits = NEAREST * radii_of(frame.numbers)
    pairs, shifts = neighbour_pairs(frame.positions, frame.cell, frame.pbc, 2 * float(limits.max()))
    first, second = pairs
    arms = frame.positions[second] + shifts @ frame.cell - frame.positions[first]
    return bool((np.linalg.norm(arms, axis=1) > limits[first] + limits[second]).all())


def turned_or_stretched(
    structure: Frame, temperature: float, rng: np.random.Generator, count: int
) -> Iterator[tuple[Frame, bool, str]]:
    """Up to `count` structures with one bond changed, whether it was turned, and what was done.

    Only bonds that are in no ring, of molecules; what is on one side of the bond moves as a whole. All
    atoms are shaken besides.
    """
    if np.any(structure.pbc):
        return
    hinges = _hinges(structure)
    turning = [hinge for hinge in hinges if hinge[3]]
    for k in range(count if hinges else 0):
        turn = bool(turning) and k % 2 == 0
        i, j, side, _ = (turning if turn else hinges)[
            int(rng.integers(len(turning if turn else hinges)))
        ]
        places = structure.positions.copy()
        axis = places[j] - places[i]
        length = float(np.linalg.norm(axis))
        if turn:
            angle = float(rng.uniform(-np.pi, np.pi))
            places[side] = places[i] + _rotated(places[side] - places[i], axis / length, angle)
            what = f"turned by {np.degrees(angle):.0f}° about the bond of atoms {i} and {j}"
        else:
            factor = float(rng.uniform(*STRETCHES))
            places[side] += (factor - 1.0) * axis
            what = f"bond of atoms {i} and {j} stretched {factor:.2f} times"
        frame = shaken(structure, temperature, rng)
        frame = frame.with_(positions=frame.positions - structure.positions + places)
        if sound(frame):
            yield frame, turn, what


def _hinges(structure: Frame) -> list[tuple[int, int, Array, bool]]:
    """Bonds in no ring: both atoms, the atoms on the second's side, and whether a turn changes anything."""
    pairs = bonds(structure.numbers, structure.positions)
    neighbours: list[list[int]] = [[] for _ in range(len(structure))]
    for i, j in pairs.tolist():
        neighbours[i].append(j)
        neighbours[j].append(i)
    found = []
    for i, j in pairs.tolist():
        reached, waiting = {j}, deque([j])
        while waiting:
            here = waiting.popleft()
            for there in neighbours[here]:
                if there not in reached and (here, there) != (j, i):
                    reached.add(there)
                    waiting.append(there)
        if i not in reached:
            turns = len(neighbours[i]) > 1 and len(neighbours[j]) > 1
            found.append((i, j, np.array(sorted(reached)), turns))
    return found


def _rotated(arms: Array, axis: Array, angle: float) -> Array:
    """(K, 3) turned about a unit axis (Rodrigues)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    along = (arms @ axis)[:, None] * axis
    return cosine * arms + sine * np.cross(axis, arms) + (1 - cosine) * along

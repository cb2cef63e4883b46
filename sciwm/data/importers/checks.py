"""What a frame must not be: broken numbers, overlapping atoms, a box without volume."""

from typing import NamedTuple

import numpy as np
from ase.geometry import complete_cell
from scipy.spatial import cKDTree

from sciwm.core.electrons import unpaired_electrons
from sciwm.core.frame import Array, Frame
from sciwm.core.plausibility import LIMITS, REDUCED_LIMIT, frame_oddity
from sciwm.core.properties import require_shape
from sciwm.core.units import MOLECULAR, UnitSystem

CLOSEST = LIMITS["box"].low
"""Å. Nuclei do not come nearer in any simulation."""

LABELS = ("energy", "forces", "stress", "velocities")
"""What must be known of every frame if it is known of one."""


class Fault(NamedTuple):
    """Why a frame is refused.

    Attributes:
        kind: A few words to count it under.
        reason: The same with values.
        remedy: What to do.
    """

    kind: str
    reason: str
    remedy: str = ""


def fault(frame: Frame, system: UnitSystem) -> Fault | None:
    """The first thing that makes a frame unusable; None if it is sound."""
    return (
        _misshapen(frame)
        or _flat_box(frame)
        or _odd_numbers(frame, system)
        or _unknown_species(frame, system)
        or _strange_properties(frame)
        or ((_impossible_spin(frame) or _overlap(frame)) if system is MOLECULAR else None)
    )


def _misshapen(frame: Frame) -> Fault | None:
    n = len(frame)
    if n == 0:
        return Fault("empty", "has no particles")
    shapes = {
        "numbers": (n,),
        "positions": (n, 3),
        "velocities": (n, 3),
        "forces": (n, 3),
        "images": (n, 3),
        "masses": (n,),
        "charges": (n,),
        "cell": (3, 3),
        "pbc": (3,),
        "stress": (3, 3),
    }
    for name, shape in shapes.items():
        value = getattr(frame, name)
        if value is not None and np.shape(value) != shape:
            return Fault(
                "misshapen",
                f"{name} have shape {np.shape(value)} for {n} particles",
                "The arrays belong to different systems",
            )
    return None


def _odd_numbers(frame: Frame, system: UnitSystem) -> Fault | None:
    found = frame_oddity(frame, system)
    if found is None:
        return None
    if not found.finite:
        return Fault("not finite", found.sentence, "The run or its output broke there")
    return Fault(
        "beyond what can be", found.sentence, "Check the unit, or whether the file is damaged"
    )


def _strange_properties(frame: Frame) -> Fault | None:
    for name, value in frame.properties.items():
        try:
            require_shape(name, value, len(frame))
        except ValueError as error:
            return Fault("misshapen", str(error), "The property belongs to another system")
        if (np.abs(value) > REDUCED_LIMIT.high).any():  # NaN says that it is not known
            broken = f"{name} is {np.nanmax(np.abs(value)):g}"
            return Fault("not finite", broken, "Its calculation broke there")
    return None


def _unknown_species(frame: Frame, system: UnitSystem) -> Fault | None:
    low = 1 if system is MOLECULAR else 0
    odd = (frame.numbers < low) | (frame.numbers > 118)
    if not odd.any():
        return None
    particle = int(np.flatnonzero(odd)[0])
    return Fault(
        "unknown species",
        f"particle {particle} has atomic number {frame.numbers[particle]}",
        "Remove dummy atoms, or name the elements of the types with --elements",
    )


def _impossible_spin(frame: Frame) -> Fault | None:
    if frame.unpaired is None:
        return None
    try:
        unpaired_electrons(frame)
    except ValueError as error:
        return Fault("impossible spin", f"is impossible: {error}")
    return None


def _flat_box(frame: Frame) -> Fault | None:
    rows = frame.cell[frame.pbc]
    # One that is not finite has another fault.
    if not len(rows) or not np.isfinite(rows).all() or np.linalg.matrix_rank(rows) == len(rows):
        return None
    return Fault(
        "flat box",
        f"repeats along cell vectors {rows.tolist()}, which span no volume",
        "Correct the box, or its periodicity",
    )


def _overlap(frame: Frame) -> Fault | None:
    pair = closest_pair(frame.positions, frame.cell, frame.pbc)
    if pair is None:
        return None
    first, second, distance = pair
    return Fault(
        "overlapping atoms",
        f"atoms {first} and {second} are {distance:.3g} Å apart",
        "Check the unit of length (--units length=nm) and the box",
    )


def closest_pair(positions: Array, cell: Array, pbc: np.ndarray) -> tuple[int, int, float] | None:
    """The closest pair nearer than `CLOSEST`, periodic images included; None if there is none."""
    points, owners = positions, np.arange(len(positions))
    if pbc.any():
        box = np.asarray(complete_cell(cell))
        fractional = positions @ np.linalg.inv(box)
        fractional = np.where(pbc, fractional - np.floor(fractional), fractional)
        # Images of the atoms near each face, added axis by axis so that edges and corners follow.
        reach = CLOSEST * np.linalg.norm(np.linalg.inv(box), axis=0)
        for axis in np.flatnonzero(pbc):
            near = fractional[:, axis] < reach[axis]
            images = fractional[near].copy()
            images[:, axis] += 1.0
            fractional = np.concatenate([fractional, images])
            owners = np.concatenate([owners, owners[near]])
        points = fractional @ box
    pairs = cKDTree(points).query_pairs(CLOSEST, output_type="ndarray")
    if len(pairs) == 0:
        return None
    distances = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    best = int(np.argmin(distances))
    first, second = owners[pairs[best]]
    return int(first), int(second), float(distances[best])

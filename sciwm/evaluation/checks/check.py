"""One verdict on a model, and what all families of checks share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, UnitSystem
from sciwm.models.dynamics.potential import Potential
from sciwm.simulation.simulator import Evaluation

Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """What was measured, what it should be, and what that means.

    Attributes:
        name: Such as "rotation".
        status: The verdict.
        value: As measured; larger is worse, except for the time that a simulation is stable.
        unit: Of value and limit; empty for plain numbers and reduced units.
        limit: Where a pass ends; infinite for what is only reported.
        explanation: What was done, in a sentence.
        error: One standard error of the value, where chance has a part in it.
        told: Whether the value means little without the explanation, also where it passes.
    """

    name: str
    status: Status
    value: float
    unit: str
    limit: float
    explanation: str
    error: float | None = None
    told: bool = False


def judged(name: str, value: float, unit: str, warn: float, fail: float, explanation: str) -> Check:
    """A pass up to `warn`, a warning up to `fail`; what is not a number fails."""
    status: Status = "pass" if value <= warn else "warn" if value <= fail else "fail"
    return Check(name, status, value, unit, warn, explanation)


def bare_evaluation(model: Potential, state: State, stress: bool = False) -> Evaluation:
    """Energy, forces and stress without the constant energies of atoms.

    Those are the same on both sides of every comparison here, and so large that their round-off
    would hide that of what was learned.
    """
    state = attach_pairs(state.clone(), model.cutoff)
    return Evaluation(*model(state, NeighbourTable.from_pairs(state), stress=stress))


def typical_force(found: Evaluation, state: State) -> float:
    """What errors are measured against: the size of the forces.

    Where symmetry makes them vanish, as in a perfect crystal, pressure and energy per atom over a
    unit of length take their place.
    """
    counts = state.counts.to(found.energy)
    sizes = [found.forces.square().mean().sqrt(), 0.1 * (found.energy / counts).abs().max()]
    repeats = state.pbc.all(dim=1)
    if found.stress is not None and bool(repeats.any()):
        volume = torch.linalg.det(state.cell[repeats]).abs() / counts[repeats]
        sizes.append((found.stress[repeats].abs().amax(dim=(1, 2)) * volume).max())
    return max(*(float(size) for size in sizes), 1e-30)


def nearest_pair(model: Potential, state: State) -> tuple[int, int, float]:
    """Two particles nearest to each other, and their distance.

    Where none are neighbours, the first particle stands for both, at half the cutoff or one unit.
    """
    state = attach_pairs(state.clone(), model.cutoff)
    if state.pairs.shape[1] == 0:
        return 0, 0, min(0.5 * model.cutoff, 1.0)
    first, second = state.pairs
    cells = state.cell[state.batch[first]]
    lattice = torch.bmm(state.shifts.to(cells)[:, None], cells)[:, 0]
    distances = (state.positions[second] + lattice - state.positions[first]).norm(dim=-1)
    pair = int(distances.argmin())
    return int(first[pair]), int(second[pair]), float(distances[pair])


def collated(systems: Sequence[State]) -> State:
    """The systems as one state, without anything that belongs to single ones only."""
    return State.collate([system.clone() for system in systems])


def milli(units: UnitSystem, quantity: str) -> tuple[str, float]:
    """Readable unit of "energy", "force" or "curvature", and how many make one of the system's."""
    if units is not MOLECULAR:
        return "", 1.0
    return {"energy": "meV", "force": "meV/Å", "curvature": "meV/Å²"}[quantity], 1e3


def largest(*tensors: Tensor) -> float:
    """The largest absolute value; NaN counts as infinite."""
    found = max(float(tensor.abs().max()) if tensor.numel() else 0.0 for tensor in tensors)
    return found if all(bool(torch.isfinite(t).all()) for t in tensors) else math.inf

"""No jumps where a particle comes within the cutoff of another: what keeps dynamics conservative.

A pair at its usual distance stands still while a third particle of every species crosses the cutoff
of the first. Energy, force and the slope of the force are compared on the two sides.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.evaluation.checks.check import (
    Check,
    bare_evaluation,
    collated,
    judged,
    largest,
    milli,
    nearest_pair,
    typical_force,
)
from sciwm.models.dynamics.potential import Potential

STEP = 1e-6
"""Distance from the cutoff, as a share of it, at which the two sides are compared."""

ANGLE = math.radians(60.0)
"""Between the pair and the third particle: the far one of the pair then sees it on both sides."""


def smoothness_checks(model: Potential, systems: Sequence[State]) -> list[Check]:
    """Continuity of energy, force and curvature at the cutoff; nothing for models without one.

    Args:
        model: In float64.
        systems: One system each, in float64; pairs and species are taken from them.
    """
    if math.isinf(model.cutoff):
        return []
    state = collated(systems)
    scale = typical_force(bare_evaluation(model, state, stress=True), state)
    trios = _trios(model, state)
    step = STEP * model.cutoff
    # Two points on either side, so that each side has a slope of its own.
    offsets = (-2 * step, -step, step, 2 * step)
    energies, pulls = [], []
    for offset in offsets:
        placed = [_placed(trio, model.cutoff + offset) for trio in trios]
        found = bare_evaluation(model, collated([one for one, _ in placed]))
        ways = torch.stack([way for _, way in placed])
        energies.append(found.energy)
        pulls.append((found.forces[2::3] * ways).sum(-1))
    jumps = {
        "energy": energies[2] - energies[1],
        "force": pulls[2] - pulls[1],
        "curvature": (pulls[3] - pulls[2] - pulls[1] + pulls[0]) / step,
    }
    # What one unit of length means is not known in reduced units; the cutoff is.
    limits = {
        "energy": (1e-5 * scale * model.cutoff, 1e-3 * scale * model.cutoff),
        "force": (1e-4 * scale, 1e-2 * scale),
        "curvature": (1e-2 * scale / model.cutoff, 1.0 * scale / model.cutoff),
    }
    checks = []
    for quantity, jump in jumps.items():
        unit, factor = milli(model.units, quantity)
        warn, fail = (factor * limit for limit in limits[quantity])
        explanation = f"{quantity} does not jump when a particle crosses the cutoff"
        name = f"{quantity} at the cutoff"
        checks.append(judged(name, factor * largest(jump), unit, warn, fail, explanation))
    return checks


def _trios(model: Potential, state: State) -> list[State]:
    """Three particles each: a neighbouring pair from the systems, and one of every species."""
    first, second, distance = nearest_pair(model, state)
    species = {int(number): row for row, number in enumerate(state.numbers.tolist())}
    trios = []
    for third in species.values():
        rows = torch.tensor([first, second, third])
        positions = state.positions.new_zeros(3, 3)
        positions[1, 0] = distance
        trio = State(
            numbers=state.numbers[rows],
            positions=positions,
            velocities=torch.zeros_like(positions),
            masses=state.masses[rows],
            charges=state.charges[rows],
            cell=state.cell.new_zeros(1, 3, 3),
            pbc=torch.zeros(1, 3, dtype=torch.bool),
            total_charge=state.total_charge.new_zeros(1),
            batch=torch.zeros(3, dtype=torch.int64),
            num_nodes=3,
        )
        trios.append(trio)
    return trios


def _placed(trio: State, distance: float) -> tuple[State, Tensor]:
    """The third particle at a distance from the first, and the direction it lies in."""
    way = trio.positions.new_tensor([math.cos(ANGLE), math.sin(ANGLE), 0.0])
    placed = trio.clone()
    placed.positions = trio.positions.clone()
    placed.positions[2] = distance * way
    return placed, way

"""Symmetries of space and of identical particles, to round-off in float64.

A model that has them by construction cannot fail here unless it was built wrongly; one that has only
learned them does, and its simulations then depend on how the laboratory is turned.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.rotations import random_rotation
from sciwm.core.state import State
from sciwm.evaluation.checks.check import (
    Check,
    bare_evaluation,
    collated,
    judged,
    largest,
    typical_force,
)
from sciwm.models.dynamics.potential import Potential
from sciwm.simulation.simulator import Evaluation

ROUND_OFF = 1e-9
"""Relative deviation that float64 may cause; single-precision constants inside a model cause 1e-7."""

BROKEN = 1e-6
"""Relative deviation that is no round-off any more."""


def symmetry_checks(model: Potential, systems: Sequence[State]) -> list[Check]:
    """Every symmetry that the systems can show.

    Args:
        model: In float64.
        systems: One system each, in float64.
    """
    generator = torch.Generator().manual_seed(0)
    state = collated(systems)
    reference = bare_evaluation(model, state, stress=True)

    def compared(name: str, changed: State, expected: Evaluation, explanation: str) -> Check:
        found = bare_evaluation(model, changed, stress=True)
        return _judged(name, deviation(found, expected, state), explanation)

    checks = []
    for name, reflect in (("rotation", False), ("reflection", True)):
        turn = random_rotation(generator, reflect).to(state.positions)
        text = "turned" if not reflect else "turned and mirrored"
        explanation = f"forces and stress turn with a system that is {text}, energies stay"
        checks.append(
            compared(name, turned(state, turn), turned_outputs(reference, turn), explanation)
        )
    shift = 3.0 * torch.randn(state.n_systems, 3, generator=generator, dtype=torch.float64)
    moved = _with(state, state.positions + shift.to(state.positions)[state.batch])
    checks.append(compared("translation", moved, reference, "nothing changes when a system moves"))
    order = torch.randperm(state.num_nodes, generator=generator)
    order = order[torch.argsort(state.batch[order], stable=True)]
    permuted = Evaluation(reference.energy, reference.forces[order], reference.stress)
    checks.append(
        compared(
            "permutation", reordered(state, order), permuted, "the order of atoms is arbitrary"
        )
    )
    if bool(state.pbc.any()):
        images = torch.randint(-2, 3, state.positions.shape, generator=generator)
        lattice = torch.bmm(images.to(state.cell)[:, None], state.cell[state.batch])[:, 0]
        folded = _with(state, state.positions + lattice)
        explanation = "an atom may be written at any of its periodic images"
        checks.append(compared("periodic image", folded, reference, explanation))
    return [*checks, *independence_checks(model, systems)]


def independence_checks(model: Potential, systems: Sequence[State]) -> list[Check]:
    """Systems of one batch do not know of each other.

    Args:
        model: In float64.
        systems: One system each, in float64.
    """
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(systems[0].positions.shape, generator=generator, dtype=torch.float64)
    shaken = _with(systems[0], systems[0].positions + 0.02 * noise.to(systems[0].positions))
    many = [*systems, shaken]
    batch = collated(many)
    together = bare_evaluation(model, batch, stress=True)
    alone = [bare_evaluation(model, one, stress=True) for one in many]
    apart = Evaluation(
        torch.cat([one.energy for one in alone]),
        torch.cat([one.forces for one in alone]),
        torch.cat([one.stress for one in alone if one.stress is not None]),
    )
    checks = [
        _judged(
            "batch independence",
            deviation(together, apart, batch),
            "a batch of many gives the numbers of many batches of one",
        )
    ]
    state = attach_pairs(batch.clone(), model.cutoff)
    state.positions = state.positions.clone().requires_grad_(True)
    energy, *_ = model(state, NeighbourTable.from_pairs(state), differentiable=True)
    leak = 0.0
    if energy.requires_grad:
        gradient = torch.autograd.grad(energy[0], state.positions, allow_unused=True)[0]
        if gradient is not None:
            leak = largest(gradient[state.batch != 0])
    scale = typical_force(together, batch)
    explanation = "the energy of one system does not depend on the atoms of another"
    return [*checks, _judged("cross-system gradient", leak / scale, explanation)]


def deviation(found: Evaluation, expected: Evaluation, state: State) -> float:
    """Largest difference in energy per atom, force, and stress times volume per atom, relative to
    the typical force."""
    counts = state.counts.to(found.energy)
    parts = [(found.energy - expected.energy) / counts, found.forces - expected.forces]
    if found.stress is not None and expected.stress is not None:
        # Where a system does not repeat in all directions it has no stress, on both sides.
        repeats = state.pbc.all(dim=1)
        volume = torch.linalg.det(state.cell[repeats]).abs() / counts[repeats]
        difference = found.stress[repeats] - expected.stress[repeats]
        parts.append(difference * volume[:, None, None])
    return largest(*parts) / typical_force(expected, state)


def turned(state: State, turn: Tensor) -> State:
    """Every system rotated or reflected about the origin, velocities and box included."""
    changed = state.moved(state.positions @ turn.T, state.velocities @ turn.T.to(state.velocities))
    changed.cell = state.cell @ turn.T
    return changed


def turned_outputs(found: Evaluation, turn: Tensor) -> Evaluation:
    """What the turned systems should give."""
    stress = None if found.stress is None else turn @ found.stress @ turn.T
    return Evaluation(found.energy, found.forces @ turn.T, stress)


def _judged(name: str, value: float, explanation: str) -> Check:
    return judged(name, value, "", ROUND_OFF, BROKEN, explanation)


def _with(state: State, positions: Tensor) -> State:
    changed = state.clone()
    changed.positions = positions
    return changed


def reordered(state: State, order: Tensor) -> State:
    """Atoms in another order within their systems."""
    changed = state.clone()
    for key in ("numbers", "positions", "velocities", "masses", "charges"):
        changed[key] = state[key][order]
    return changed

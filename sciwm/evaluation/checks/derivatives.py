"""Forces and stress are the derivatives of the energy: the condition for conserving it.

Derivatives are taken by the five-point formula f' ≈ [8 (f₁ - f₋₁) - (f₂ - f₋₂)] / 12h, along random
directions that move all atoms at once, so that the cost does not grow with the number of atoms.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.evaluation.checks.check import (
    Check,
    bare_evaluation,
    collated,
    judged,
    largest,
    nearest_pair,
    typical_force,
)
from sciwm.models.dynamics.potential import Potential

DIRECTIONS = 6
"""Random directions tried."""

STEP = 1e-4
"""Length of a step, as a share of the shortest distance between particles."""

EXACT, BROKEN = 1e-6, 1e-4
"""Relative deviations up to which finite differences agree, and beyond which they do not."""


def derivative_checks(model: Potential, systems: Sequence[State]) -> list[Check]:
    """Forces, and stress where systems repeat in all directions.

    Args:
        model: In float64.
        systems: One system each, in float64.
    """
    state = collated(systems)
    found = bare_evaluation(model, state, stress=True)
    counts = state.counts.to(found.energy)
    scale = typical_force(found, state)
    generator = torch.Generator().manual_seed(2)
    length = STEP * nearest_pair(model, state)[2]
    worst = 0.0
    for _ in range(DIRECTIONS):
        way = torch.randn(state.positions.shape, generator=generator, dtype=torch.float64)
        way = way.to(state.positions)
        slope = _slope(length, model, partial(_displaced, state, way))
        work = (found.forces * way).sum(-1)
        expected = -slope.new_zeros(state.n_systems).index_add(0, state.batch, work)
        # A sum of 3N independent terms of size `scale`.
        worst = max(worst, largest((slope - expected) / (3 * counts).sqrt()) / scale)
    explanation = "forces equal minus the change of energy when atoms are displaced"
    checks = [judged("force derivative", worst, "", EXACT, BROKEN, explanation)]
    repeats = state.pbc.all(dim=1)
    if bool(repeats.any()) and found.stress is not None:
        checks.append(_stress_check(model, state, found.stress, scale, generator))
    return checks


def _stress_check(
    model: Potential, state: State, stress: Tensor, scale: float, generator: torch.Generator
) -> Check:
    repeats = state.pbc.all(dim=1)
    volume = torch.linalg.det(state.cell[repeats]).abs()
    counts = state.counts[repeats].to(volume)
    worst = 0.0
    for _ in range(DIRECTIONS):
        strain = torch.randn(3, 3, generator=generator, dtype=torch.float64).to(state.cell)
        strain = 0.5 * (strain + strain.T)
        slope = _slope(STEP, model, partial(_strained, state, strain))[repeats]
        expected = (stress[repeats] * strain).sum(dim=(1, 2)) * volume
        worst = max(worst, largest((slope - expected) / counts) / scale)
    explanation = "stress equals the change of energy with strain, per volume"
    return judged("stress derivative", worst, "", EXACT, BROKEN, explanation)


def _slope(h: float, model: Potential, at: Callable[[float], State]) -> Tensor:
    """(S,) derivative of the energies along a path of states."""

    def energy(step: float) -> Tensor:
        return bare_evaluation(model, at(step)).energy

    near = energy(h) - energy(-h)
    far = energy(2 * h) - energy(-2 * h)
    return (8 * near - far) / (12 * h)


def _displaced(state: State, way: Tensor, h: float) -> State:
    changed = state.clone()
    changed.positions = state.positions + h * way
    return changed


def _strained(state: State, strain: Tensor, h: float) -> State:
    changed = state.clone()
    changed.positions = state.positions + h * state.positions @ strain
    changed.cell = state.cell + h * state.cell @ strain
    return changed

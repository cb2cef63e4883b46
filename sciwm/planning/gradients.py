"""How the return of a plan changes with each of its numbers: backwards through the motion, leg by leg."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sciwm.core.frame import Array
from sciwm.core.state import State
from sciwm.planning.problem import Problem, Returns
from sciwm.simulation.actions import acted
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import Propagator
from sciwm.simulation.simulator import Simulator

NUDGE = 1e-6
"""Of a measure, as a share of its size, by which the derivative of an objective is taken."""


def gradients(
    problem: Problem, simulator: Simulator, plans: Array, seeds: Sequence[int], returns: Returns
) -> Array:
    """(P, stages, size) derivatives of the mean return of each plan, over those runs that count; zero where
    none does, or where they are not finite.

    The motion is run once without a graph. Then each stretch between two looks is run again, last first, and
    what the return changes by with its end becomes what it changes by with its beginning (the adjoint method
    with checkpoints, Griewank & Walther, ACM Trans. Math. Softw. 26, 19 (2000)), so that memory holds the
    graph of a single stretch.

    Args:
        plans: (P, stages, size).
        seeds: One for each run of a plan.
        returns: What came of these plans and seeds in this simulator.

    Raises:
        ValueError: If forces or measures cannot be differentiated, or the plans change who is there.
    """
    if problem.changes_particles:
        raise ValueError(
            "gradients run through motions of the same particles; leave changes of them out, or plan with "
            "CrossEntropy"
        )
    through = simulator.with_gradients() if isinstance(simulator, LearnedSimulator) else simulator
    moving, start = problem.prepared(simulator, plans, seeds)
    if "work" not in start.fields:
        start.work = start.positions.new_zeros(start.n_systems, dtype=torch.float64)
    _require_differentiable(problem, through, start)
    total = np.zeros((len(plans) * len(seeds), *plans.shape[1:]))
    counts = np.flatnonzero(np.isfinite(returns.scores.ravel()))
    if not len(counts):
        return np.zeros_like(plans)
    if len(counts) < len(total):
        moving, start = moving.select(counts.tolist()), start.select(counts.tolist())
    chosen = torch.as_tensor(np.repeat(plans, len(seeds), axis=0)[counts], dtype=torch.float64)
    total[counts] = _backwards(problem, through, moving, start, chosen, _weights(problem, returns))
    each = total.reshape(len(plans), len(seeds), *plans.shape[1:]).sum(axis=1)
    whole = np.isfinite(returns.scores).sum(axis=1).clip(min=1)[:, None, None]
    return np.nan_to_num(each / whole, nan=0.0, posinf=0.0, neginf=0.0)


def _backwards(
    problem: Problem,
    through: Simulator,
    moving: Propagator,
    start: State,
    chosen: Tensor,
    weights: dict[str, Array],
) -> Array:
    """(K, stages, size) derivatives of the returns of K runs by what was chosen for them.

    Args:
        moving: What moved them, without gradients.
        weights: (T, K) by which each value of a measure changes the return of its run.
    """
    ends = list(range(problem.every, problem.steps(moving) + 1, problem.every))
    with torch.no_grad():
        legs = _legs(problem, moving, start, ends)
    total = torch.zeros_like(chosen)
    adjoint = [torch.zeros_like(one) for one in _moving(start)]
    for number in range(len(ends) - 1, -1, -1):
        numbers = chosen.clone().requires_grad_(True)
        leaves = [one.detach().clone().requires_grad_(True) for one in _moving(legs[number])]
        done = [*problem.always, *problem.controls.actions(numbers, problem.stage)]
        again, _ = acted(problem.propagator(through), start, done)
        state = legs[number].moved(leaves[0], leaves[1])
        state.work = leaves[2]
        evaluation = again.start(state)
        for index in range(ends[number] - problem.every, ends[number]):
            state, evaluation = again.advance(state, evaluation, index)
        worth = torch.zeros((), dtype=torch.float64, device=state.positions.device)
        for a, b in zip(adjoint, _moving(state), strict=True):
            worth = worth + (a * b).sum()
        for name, one in problem.measures.items():
            found = one.of(state, evaluation, through).double()
            worth = worth + (torch.as_tensor(weights[name][number + 1]).to(found) * found).sum()
        changes = torch.autograd.grad(worth, [numbers, *leaves], allow_unused=True)
        known = [
            torch.zeros_like(leaf) if change is None else change
            for change, leaf in zip(changes, [numbers, *leaves], strict=True)
        ]
        total, adjoint = total + known[0], known[1:]
    return np.asarray(total)


def _moving(state: State) -> tuple[Tensor, Tensor, Tensor]:
    """What changes in a motion."""
    return state.positions, state.velocities, state.work


def _legs(problem: Problem, moving: Propagator, start: State, ends: Sequence[int]) -> list[State]:
    """The states at the beginning of each leg."""
    state, evaluation, legs = start, moving.start(start), []
    for end in ends:
        legs.append(state)
        for index in range(end - problem.every, end):
            state, evaluation = moving.advance(state, evaluation, index)
    return legs


def _weights(problem: Problem, returns: Returns) -> dict[str, Array]:
    """(T, K) how much each value of a measure changes the return of its run, of those that count."""
    counts = np.isfinite(returns.scores)
    paths = {name: path[:, counts] for name, path in returns.paths.items()}
    values = {name: one.over(paths[name]) for name, one in problem.measures.items()}
    found = {}
    for name, one in problem.measures.items():
        nudge = NUDGE * np.maximum(np.abs(values[name]), 1.0)
        ends = [
            problem.objective.evaluate({**values, name: values[name] + side * nudge})[..., 0]
            for side in (1.0, -1.0)
        ]
        found[name] = one.derivatives(paths[name]) * ((ends[0] - ends[1]) / (2.0 * nudge))
    return found


def _require_differentiable(problem: Problem, simulator: Simulator, start: State) -> None:
    """Raises ValueError unless gradients run through forces and through every measure."""
    state = start.select([0])
    state = state.moved(
        state.positions.detach().clone().requires_grad_(True),
        state.velocities.detach().clone().requires_grad_(True),
    )
    state.work = state.work.detach().clone().requires_grad_(True)
    evaluation = simulator.evaluate(state)
    if not evaluation.forces.requires_grad:
        raise ValueError(
            f"the forces of {type(simulator).__name__} cannot be differentiated, so no gradient runs through "
            "a motion; plan in a learned world, or with CrossEntropy"
        )
    for name, one in problem.measures.items():
        if not one.of(state, evaluation, simulator).requires_grad:
            raise ValueError(
                f"measure {name} ({type(one).__name__}) cannot be differentiated; leave it out, or plan with "
                "CrossEntropy"
            )

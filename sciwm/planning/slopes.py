"""How the return of a plan changes with each of its numbers: backwards through the motion, leg by leg."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sciwm.core.frame import Array
from sciwm.core.state import State
from sciwm.planning.problem import Problem
from sciwm.simulation.actions import acted
from sciwm.simulation.collective_variables import CollectiveVariable
from sciwm.simulation.learned import DifferentiableSimulator, LearnedSimulator
from sciwm.simulation.propagators import Propagator
from sciwm.simulation.simulator import Simulator

NUDGE = 1e-6
"""Of a measure, as a share of its size, by which the derivative of an objective is taken."""


def slopes(problem: Problem, simulator: Simulator, plans: Array, seeds: Sequence[int]) -> Array:
    """(P, stages, size) derivatives of the mean return of each plan; zero where they are not finite.

    The motion is run once without a graph. Then each stretch between two looks is run again, last first, and
    what the return changes by with its end becomes what it changes by with its beginning (the adjoint method
    with checkpoints, Griewank & Walther, ACM Trans. Math. Softw. 26, 19 (2000)), so that memory holds the
    graph of a single stretch.

    Args:
        plans: (P, stages, size).
        seeds: One for each run of a plan.

    Raises:
        ValueError: If the forces of the simulator cannot be differentiated.
    """
    moving, start = problem.prepared(simulator, plans, seeds)
    ends = list(range(problem.every, problem.steps(moving) + 1, problem.every))
    with torch.no_grad():
        legs, paths = _run(problem, simulator, moving, start, ends)
    weights = _weights(problem, paths)
    chosen = torch.as_tensor(np.repeat(plans, len(seeds), axis=0), dtype=torch.float64)
    through = (
        DifferentiableSimulator(simulator) if isinstance(simulator, LearnedSimulator) else simulator
    )
    _require_differentiable(through, start)
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
        worth = torch.zeros((), dtype=torch.float64)
        for a, b in zip(adjoint, _moving(state), strict=True):
            worth = worth + (a * b).sum()
        for name, one in problem.measures.items():
            found = one.of(state, evaluation, through).double()
            worth = worth + (torch.as_tensor(weights[name][number + 1]) * found).sum()
        if not worth.requires_grad:
            break
        changes = torch.autograd.grad(worth, [numbers, *leaves], allow_unused=True)
        known = [
            torch.zeros_like(leaf) if change is None else change
            for change, leaf in zip(changes, [numbers, *leaves], strict=True)
        ]
        total, adjoint = total + known[0], known[1:]
    each = total.reshape(len(plans), len(seeds), *chosen.shape[1:]).mean(dim=1)
    return np.nan_to_num(np.asarray(each), nan=0.0, posinf=0.0, neginf=0.0)


def _moving(state: State) -> tuple[Tensor, Tensor, Tensor]:
    """What changes in a motion."""
    return state.positions, state.velocities, state.work


def _run(
    problem: Problem, simulator: Simulator, moving: Propagator, start: State, ends: Sequence[int]
) -> tuple[list[State], dict[str, Array]]:
    """The states at the beginning of each leg, and (T, S) of every measure, from the start on."""
    state, evaluation = start, moving.start(start)
    legs, rows = [], [_measured(problem.measures, state, evaluation, simulator)]
    for end in ends:
        legs.append(state)
        for index in range(end - problem.every, end):
            state, evaluation = moving.advance(state, evaluation, index)
        rows.append(_measured(problem.measures, state, evaluation, simulator))
    return legs, {name: np.stack([row[name] for row in rows]) for name in problem.measures}


def _measured(measures: Mapping[str, CollectiveVariable], *where: object) -> dict[str, Array]:
    return {name: np.asarray(one.of(*where).double().cpu()) for name, one in measures.items()}  # type: ignore[arg-type]


def _weights(problem: Problem, paths: Mapping[str, Array]) -> dict[str, Array]:
    """(T, S) how much each value of a measure changes the return of its run."""
    values = {name: one.over(paths[name]) for name, one in problem.measures.items()}
    found = {}
    for name, one in problem.measures.items():
        nudge = NUDGE * np.maximum(np.abs(values[name]), 1.0)
        ends = [
            problem.objective.evaluate({**values, name: values[name] + side * nudge})[..., 0]
            for side in (1.0, -1.0)
        ]
        found[name] = one.shares(paths[name]) * ((ends[0] - ends[1]) / (2.0 * nudge))
    return found


def _require_differentiable(simulator: Simulator, state: State) -> None:
    """Raises ValueError unless its forces can be differentiated."""
    positions = state.positions.detach().clone().requires_grad_(True)
    found = simulator.evaluate(state.moved(positions, state.velocities))
    if not found.forces.requires_grad:
        raise ValueError(
            f"the forces of {type(simulator).__name__} cannot be differentiated, so no gradient runs through "
            "a motion; plan in a learned world, or with CrossEntropy"
        )

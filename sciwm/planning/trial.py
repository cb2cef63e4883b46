"""A plan carried out: what came of it in the true simulator, beside what was predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binom

from sciwm.core.frame import Array, Frame
from sciwm.core.properties import property_field
from sciwm.core.state import State
from sciwm.data.h5md import H5MDFile
from sciwm.planning.problem import Problem, Returns
from sciwm.planning.search import LIKELY, Found
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.simulator import Evaluation, Simulator

SUSPICIOUS = 0.02
"""Chance below which so many runs so far below the prediction are taken for no accident."""

LOST = 0.15
"""Share of what a plan promised over random ones; less is an error of a number, and no loophole."""


def carry_out(
    problem: Problem, simulator: Simulator, plan: Array, seeds: Sequence[int], output: Path
) -> Returns:
    """Runs of one plan, recorded in a file; goes on where it was interrupted.

    Raises:
        ValueError: If the file is of another run, or what is planned cannot be done here.
        OSError: If the file cannot be written.
    """
    moving, state = problem.prepared(simulator, plan[None], seeds)
    rollout = Rollout(moving, output, problem.every)
    names = [f"run{k}" for k in range(len(seeds))]
    result = rollout.run(state, problem.steps(moving), names, resume=True)
    paths = recorded(problem, simulator, output, names)
    ended = np.array([[reason is None for reason in result.reasons]])
    scores, broken = problem.scored(paths, ended)
    interval = problem.every * moving.stride
    return Returns(scores, paths, broken, [result.reasons], sum(result.steps), interval)


def recorded(
    problem: Problem, simulator: Simulator, output: Path, names: Sequence[str]
) -> dict[str, Array]:
    """(T, 1, R) of every measure, from the frames of a file; NaN where a run had ended."""
    columns: dict[str, list[list[float]]] = {name: [] for name in problem.measures}
    with H5MDFile(output) as file:
        known = {trajectory.name: trajectory for trajectory in file.trajectories}
        for run in names:
            frames = [known[run].frame(k) for k in range(known[run].n_frames)]
            for name, values in _values(problem, simulator, frames).items():
                columns[name].append(values)
    longest = max(len(values) for runs in columns.values() for values in runs)
    return {
        name: np.array(
            [values + [np.nan] * (longest - len(values)) for values in runs], dtype=float
        ).T[:, None]
        for name, runs in columns.items()
    }


def _values(
    problem: Problem, simulator: Simulator, frames: Sequence[Frame]
) -> dict[str, list[float]]:
    """Of each frame."""
    state = State.collate([State.from_frame(frame, torch.float64) for frame in frames])
    evaluation = None
    if "energy" in state.fields:
        evaluation = Evaluation(state.energy, state.forces)
    if property_field("work") in state.fields:
        state.work = state[property_field("work")]
    return {
        name: one.of(state, evaluation, simulator).double().tolist()
        for name, one in problem.measures.items()
    }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Predicted and realised returns of a plan.

    Attributes:
        found: The plan and its prediction.
        realised: What came of it.
    """

    found: Found
    realised: Returns

    @property
    def scores(self) -> Array:
        """(R,) of the runs that count."""
        return self.realised.scores[0][np.isfinite(self.realised.scores[0])]

    @property
    def inside(self) -> int:
        """Realised runs whose return is inside the predicted interval."""
        low, high = self.found.interval
        return int(((self.scores >= low) & (self.scores <= high)).sum())

    @property
    def gap(self) -> float:
        """The mean predicted return less the realised one; not a number where no run counts."""
        return self.found.mean - float(self.scores.mean()) if len(self.scores) else float("nan")

    @property
    def promised(self) -> float:
        """What the plan was predicted to gain over the mean of random ones."""
        null = self.found.null[np.isfinite(self.found.null)]
        return self.found.mean - float(null.mean()) if len(null) else float("nan")

    @property
    def loophole(self) -> str | None:
        """Why the return is taken to exist in imagination only; None where it is not.

        More runs are worse than the predicted interval, or fail, than chance explains, and what is
        missing is a good part of what the plan promised over random ones.
        """
        runs = self.realised.scores[0]
        low, _ = self.found.interval
        expected = LIKELY[0] + (1 - LIKELY[0]) * float(np.isnan(self.found.predicted).mean())
        worse = int((~(runs >= low)).sum())
        # Few runs cannot be less likely than all of them being worse.
        allowed = max(SUSPICIOUS, min(expected ** len(runs), LIKELY[0]))
        if not worse or float(binom.sf(worse - 1, len(runs), expected)) > allowed:
            return None
        lost = self.gap if len(self.scores) else float("inf")
        if lost < LOST * abs(self.promised):
            return None
        return (
            f"{worse} of {len(runs)} runs of the true simulator are worse than the predicted interval, and "
            f"{min(lost / abs(self.promised), 1.0):.0%} of what the plan promised over random ones did not "
            "come: the world has a loophole here. Train it on the true runs, or ask for less"
        )

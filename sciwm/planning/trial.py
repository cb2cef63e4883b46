"""A plan carried out: what came of it in the true simulator, beside what was predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binom, mannwhitneyu

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

FEW = 0.1
"""The same where there are too few runs to be so sure."""

RANKED = 3
"""Runs from which on their ranks among the predicted ones tell more than how many are far below."""

LOST = 0.1
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
    steps = problem.steps(moving)
    result = rollout.run(state, steps, names, resume=True)
    paths = recorded(problem, simulator, output, names, steps // problem.every + 1)
    ended = np.array([[reason is None for reason in result.reasons]])
    scores, broken = problem.scored(paths, ended)
    interval = problem.every * moving.stride
    return Returns(scores, paths, broken, [result.reasons], sum(result.steps), interval)


def recorded(
    problem: Problem, simulator: Simulator, output: Path, names: Sequence[str], frames: int
) -> dict[str, Array]:
    """(frames, 1, R) of every measure, from a file; NaN where a run had ended."""
    columns: dict[str, list[list[float]]] = {name: [] for name in problem.measures}
    with H5MDFile(output) as file:
        known = {trajectory.name: trajectory for trajectory in file.trajectories}
        for run in names:
            shown = [known[run].frame(k) for k in range(known[run].n_frames)]
            for name, values in _values(problem, simulator, shown).items():
                columns[name].append(values)
    return {
        name: np.array(
            [values + [np.nan] * (frames - len(values)) for values in runs], dtype=float
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
class Trial:
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
        """What a true run earns less than was predicted, on the mean.

        A run that failed, in truth or in imagination, earns what random plans earn; infinity where no
        return of those is known either.
        """
        luck = np.nan_to_num(self.found.luck, nan=-np.inf)
        means = [
            float(np.where(np.isnan(runs), luck, runs).mean())
            for runs in (self.found.predicted, self.realised.scores[0])
        ]
        return float("inf") if np.isinf(means[1]) else means[0] - means[1]

    @property
    def promised(self) -> float:
        """What the plan was predicted to gain over the mean of random ones; 0 where that is not known."""
        return 0.0 if np.isnan(self.found.luck) else self.found.mean - self.found.luck

    @property
    def chance(self) -> float:
        """How likely true runs are so much worse than predicted by chance alone.

        The smallest of several chances, which counts as often as there are of them.
        """
        chances = self._chances()
        return min(1.0, len(chances) * min(chances))

    def _chances(self) -> list[float]:
        """That as many runs fail, if some of the predicted ones did; that as many are so far below; and, of
        one world, that they lie as low among the predicted ones (Mann & Whitney, Ann. Math. Stat. 18, 50
        (1947)).

        Runs of several worlds are not alike, so that ranks among all of them say nothing.
        """
        predicted, runs = self.found.predicted.ravel(), self.realised.scores[0]
        failing, chances = float(np.isnan(predicted).mean()), []
        if failing:
            lost = int(np.isnan(runs).sum())
            chances.append(float(binom.sf(lost - 1, len(runs), failing)))
            predicted, runs = predicted[~np.isnan(predicted)], self.scores
        runs = np.nan_to_num(runs, nan=-np.inf)
        if len(runs):
            chances.append(below_by_chance(predicted, runs))
        if len(runs) >= RANKED and len(self.found.predicted) == 1:
            chances.append(float(mannwhitneyu(runs, predicted, alternative="less").pvalue))
        return chances

    @property
    def loophole(self) -> str | None:
        """Why the return is taken to exist in imagination only; None where it is not.

        More runs are worse than predicted, or fail, than chance explains, and what is missing is a good
        part of what the plan promised over random ones.
        """
        total = len(self.realised.scores[0])
        n = self.found.predicted.size
        # No runs can be less likely than all of them being worse.
        least = len(self._chances()) / comb(n + total, total)
        if self.chance > max(SUSPICIOUS, min(least, FEW)):
            return None
        if self.gap <= 0:
            return None
        low, _ = self.found.interval
        worse = int((~(self.realised.scores[0] >= low)).sum())
        if not worse and len(self.found.predicted) > 1:  # worlds differed by as much themselves
            return None
        if self.promised > 0 and self.gap < LOST * self.promised:
            return None
        share = f"{min(self.gap / self.promised, 1.0):.0%}" if self.promised > 0 else "all"
        which = (
            f"{worse} of {total} runs of the true simulator are worse than the predicted interval"
            if worse
            else f"the {total} runs of the true simulator lie lower than was predicted"
        )
        return (
            f"{which}, and {share} of what the plan promised over random ones did not come: the world has a "
            "loophole here. Train it on the true runs, or ask for less"
        )


def below_by_chance(predicted: Array, runs: Array) -> float:
    """How likely as many of these runs, or more, lie below the lower end of what was predicted, if both are
    alike.

    Any order of them is then as likely. The end is the place of one in twenty among the n predicted runs, and
    of R others k lie below the j-th of those with probability
    C(k + j - 1, k) C(R - k + n - j, R - k) / C(n + R, R).
    """
    n, total = len(predicted), len(runs)
    place = max(1, int(LIKELY[0] * (n + 1)))
    worse = int((runs < np.sort(predicted)[place - 1]).sum())
    ways = [
        comb(k + place - 1, k) * comb(total - k + n - place, total - k)
        for k in range(worse, total + 1)
    ]
    return sum(ways) / comb(n + total, total)

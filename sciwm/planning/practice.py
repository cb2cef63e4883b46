"""Learning a world while planning in it: act, learn from what came, plan again.

The architecture is Dyna's (Sutton, SIGART Bulletin 2, 160 (1991)), with whole plans in place of single steps:
the true simulator is asked for a few motions only, each of which teaches forces at every frame.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sciwm.core.bounds import require_counts, require_positive
from sciwm.core.frame import Array
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.data.modules import FrameData
from sciwm.models import archive
from sciwm.models.dynamics.potential import Potential
from sciwm.planning.planners.planner import Planner, drawn
from sciwm.planning.problem import Problem, Returns
from sciwm.planning.search import EXECUTION, Budget, Found, search
from sciwm.planning.trial import carry_out
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.simulator import Simulator
from sciwm.training.fit import fit
from sciwm.training.force_task import ForceTask

HELD_BACK = 4
"""Of so many true motions one is held back, to choose the best weights by."""

FIRST_PLANS = 1_000_000
"""Sets the plans before a search apart from those of its rounds."""

ROUND = 1_000_003
"""Sets the random numbers of a search apart from those of the one before, so that what one did not find the
next may."""

VALIDATED = 200
"""Steps of training from one look at held-back motions to the next."""


@dataclass(frozen=True)
class Schedule:
    """How much is done.

    Attributes:
        first: Plans drawn at random that are carried out before anything is known.
        rounds: Times that a world is learned, planned in, and its plan carried out.
        members: Worlds that are learned in each, which differ in seed and in what they draw of the frames.
        train_steps: Of training each of them.
        matrix_rate: Of training; see `ForceTask`.
    """

    first: int = 4
    rounds: int = 4
    members: int = 2
    train_steps: int = 1000
    matrix_rate: float = 0.02

    def __post_init__(self) -> None:
        require_counts(rounds=self.rounds, members=self.members, train_steps=self.train_steps)
        require_positive(matrix_rate=self.matrix_rate)
        if self.first < 2:
            raise ValueError("two motions at least are needed: to learn from, and to validate on")


@dataclass(frozen=True, eq=False)
class Episode:
    """A plan that was carried out in the true simulator.

    Attributes:
        plan: (stages, size).
        found: What was predicted; None for plans drawn at random.
        realised: What came of it.
        steps: Time steps of the true simulator, with all before.
        worlds: That the plan was found in.
    """

    plan: Array
    found: Found | None
    realised: Returns
    steps: int
    worlds: list[Simulator]


def practise(
    problem: Problem,
    truth: Simulator,
    untrained: Callable[[], Potential],
    folder: Path,
    planner: Planner,
    budget: Budget,
    schedule: Schedule,
    known: Array | None = None,
    experience: Sequence[Path] = (),
) -> Iterator[Episode]:
    """Episodes, one after another, each of which the next world learns from.

    Args:
        known: (K, stages, size) plans that did well elsewhere: the first of them are carried out before any
            is drawn at random, and all of them are tried first in the first world.
        experience: Files of motions of the same particles in the true simulator, whatever was wanted of them
            (see `MotionStore`): worlds learn from them too, and as many plans fewer are carried out before.
        truth: The true simulator.
        untrained: A new model of a world.
        folder: For motions and models; made anew.

    Raises:
        ValueError: If the folder holds something already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"{folder} holds something already; name a new folder")
    rng = np.random.default_rng([budget.seed, FIRST_PLANS])
    first = max(0, schedule.first - len(experience))
    seeds = budget.seeds(EXECUTION, first + schedule.rounds)
    motions = [*experience]
    steps = 0
    given = np.empty((0, *problem.controls.shape)) if known is None else known
    for number, seed in enumerate(seeds):
        found, worlds = None, list[Simulator]()
        plan = given[number] if number < len(given) else drawn(1, problem.controls, rng)[0]
        if number >= first:
            worlds = list(
                worlds_from(motions, untrained, folder / f"{number}", budget.seed, schedule)
            )
            # What is new lies where no world was trained yet.
            daring = replace(problem, daring=True)
            anew = replace(budget, seed=budget.seed + number * ROUND)
            found = search(daring, worlds, planner, anew, known=known)
            # One only: with several that are alike a planner would look nowhere else.
            plan, known = found.plan, found.plan[None]
        motions.append(folder / f"true{number}.h5md")
        realised = carry_out(problem, truth, plan, [seed], motions[-1])
        steps += realised.steps
        yield Episode(plan, found, realised, steps, worlds)


def worlds_from(
    motions: Sequence[Path],
    untrained: Callable[[], Potential],
    folder: Path,
    seed: int,
    schedule: Schedule,
    skipped: int = 1,
) -> Iterator[Simulator]:
    """New worlds, learned from all true motions.

    Args:
        motions: Files of them, with forces.
        untrained: A new model of a world.
        folder: For what is learned; it does not exist.
        skipped: Frames of each motion that are left out: the one that all of them start with.
    """
    folder.mkdir()
    files = folder / "train.h5md", folder / "held_back.h5md"
    held = motions[1::HELD_BACK]
    _gather([one for one in motions if one not in held], files[0], skipped)
    _gather(held, files[1], skipped)
    for member in range(schedule.members):
        torch.manual_seed(seed * schedule.members + member)
        task = ForceTask(untrained(), matrix_rate=schedule.matrix_rate)
        data = FrameData(
            str(files[0]), str(files[1]), batch_size=16, bootstrap=schedule.members > 1
        )
        run = fit(
            data,
            task,
            f"world{member}",
            member,
            schedule.train_steps,
            VALIDATED,
            folder=str(folder),
        )
        model = archive.load(run / "model.pt").potential
        yield LearnedSimulator(model)


def _gather(motions: Sequence[Path], path: Path, skipped: int) -> None:
    """The frames of several motions in one file, but for the first of each."""
    with H5MDFile(motions[0]) as first:
        units = first.units
    with H5MDWriter(path, units=units) as file:
        for number, motion in enumerate(motions):
            with H5MDFile(motion) as source:
                for run, trajectory in enumerate(source.trajectories):
                    for k in range(skipped, trajectory.n_frames):
                        file.append(trajectory.frame(k), group=f"motion{number}_{run}")

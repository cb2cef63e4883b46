"""Learning a policy in worlds that are learned on the way: act, learn from what came, imagine, act again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sciwm.core.frame import Array
from sciwm.data.h5md import H5MDWriter
from sciwm.models.dynamics.potential import Potential
from sciwm.planning.episodes import Episodes
from sciwm.planning.planners.planner import drawn
from sciwm.planning.policy import ActorCritic, Lessons, Policy, returns_of
from sciwm.planning.practice import FIRST_PLANS, Schedule, worlds_from
from sciwm.planning.problem import Problem
from sciwm.planning.search import EXECUTION, PREDICTION, Budget, interval_of
from sciwm.planning.trial import carry_out
from sciwm.simulation.collective_variables import CollectiveVariable
from sciwm.simulation.rollout.frame_store import FrameStore
from sciwm.simulation.simulator import Simulator


@dataclass(frozen=True, eq=False)
class PolicyEpisode:
    """A motion of the true simulator that a policy led.

    Attributes:
        policy: What led it; it is taught further once the next motion is asked for.
        predicted: (W, trials) returns in each world.
        realised: The return; not a number if the motion could not go on.
        steps: Time steps of the true simulator, with all before.
    """

    policy: Policy
    predicted: Array
    realised: float
    steps: int

    @property
    def interval(self) -> tuple[float, float]:
        """In which nine of ten motions are predicted to be."""
        return interval_of(self.predicted)


def practise_policy(
    problem: Problem,
    truth: Simulator,
    observed: Mapping[str, CollectiveVariable],
    untrained: Callable[[], Potential],
    folder: Path,
    budget: Budget,
    schedule: Schedule,
    lessons: Lessons,
) -> Iterator[PolicyEpisode]:
    """Motions that the policy led, one after another, each of which the next worlds learn from.

    Args:
        observed: What the policy is shown.
        untrained: A new model of a world.
        folder: For motions and models; made anew.
        budget: Its seed, and its trials for predictions, are used.
        lessons: Between two true motions.

    Raises:
        ValueError: If the folder holds something already, or stages cannot be rewarded (see `Episodes`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"{folder} holds something already; name a new folder")
    rng = np.random.default_rng([budget.seed, FIRST_PLANS])
    seeds = budget.seeds(EXECUTION, schedule.first + schedule.rounds)
    # What is new lies where no world was trained yet.
    daring = replace(problem, daring=True)
    agent = ActorCritic(Episodes(daring, truth, observed), budget.seed)
    motions: list[Path] = []
    steps = 0
    for number, seed in enumerate(seeds):
        motions.append(folder / f"true{number}.h5md")
        if number < schedule.first:
            plan = drawn(1, problem.controls, rng)[0]
            steps += carry_out(problem, truth, plan, [seed], motions[-1]).steps
            continue
        worlds = worlds_from(motions[:-1], untrained, folder / f"{number}", budget.seed, schedule)
        imagined = [Episodes(daring, world, observed) for world in worlds]
        agent.improve(imagined, lessons)
        trials = budget.seeds(PREDICTION, budget.trials)
        predicted = np.stack([returns_of(agent.policy, one, trials) for one in imagined])
        with H5MDWriter(motions[-1], units=truth.units) as file:
            one = Episodes(problem, truth, observed, FrameStore(["motion"], problem.every, file))
            realised = float(returns_of(agent.policy, one, [seed])[0])
        steps += one.steps
        yield PolicyEpisode(agent.policy, predicted, realised, steps)

"""Motions side by side under what is chosen stage after stage, in a learned world or a reference alike."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sciwm.core.frame import Array
from sciwm.planning.problem import Gauge, Problem
from sciwm.simulation.actions import acted
from sciwm.simulation.collective_variables import CollectiveVariable
from sciwm.simulation.propagators import Propagator
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.rollout.frame_store import Frames, Unstored
from sciwm.simulation.rollout.stability import Stability
from sciwm.simulation.simulator import Evaluation, Simulator


class Episodes:
    """What is observed at the end of each stage, and the reward of each.

    What is observed are some numbers, and the share of time that is left. The reward of a stage is what the
    return has grown by if the motion ended there, so that rewards add up to the return of the plan less what
    standing still at the start is worth. A motion that cannot go on, because the simulator fails or should
    not be trusted, loses all that it had gained, and earns nothing more.

    Attributes:
        size: Numbers that are observed.
        stage: That comes next, from 0.
        plans: (S, stages, size) what was chosen so far, from 0 to 1.
        worth: (S,) the returns, if the motions ended now.
        steps: Time steps taken, over all motions since this was made.

    Args:
        observed: What is shown of the systems.
        frames: Takes the frames of all looks; those of several motions one after another.

    Raises:
        ValueError: If something is required of the end of a motion, which no stage can be rewarded for, or
            what is chosen changes who is there.
    """

    def __init__(
        self,
        problem: Problem,
        simulator: Simulator,
        observed: Mapping[str, CollectiveVariable],
        frames: Frames | None = None,
    ):
        if problem.objective.requirements:
            raise ValueError(
                f"each stage is rewarded, and `{problem.objective.requirements[0]}` is about the end; weigh "
                "it up in the goal"
            )
        if problem.changes_particles:
            raise ValueError(
                "the same particles take part in all stages; leave changes of them out"
            )
        for one in observed.values():
            one.require_fitting(problem.start)
        self.problem = problem
        self.simulator = simulator
        self.observed = observed
        self.size = len(observed) + 1
        self.steps = 0
        self._frames = frames or Unstored()

    def begin(self, seeds: Sequence[int]) -> Array:
        """(S, size) what is observed of new motions. Equal seeds draw the same velocities and noise.

        Raises:
            ValueError: If the return is no number where they start, or one cannot begin.
        """
        count = len(seeds)
        blank = np.zeros((1, *self.problem.controls.shape))
        propagator, state = self.problem.prepared(self.simulator, blank, seeds)
        # What is done throughout the motion has been begun by this; stages bring their own.
        if "work" not in state.fields:  # where a plan may wait all the time
            state.work = state.positions.new_zeros(count, dtype=torch.float64)
        self._start = state
        self._snapshot = Rollout(propagator, guard=self._guard(propagator)).begun(state)
        if lost := [reason for reason in self.reasons if reason is not None]:
            raise ValueError(f"{len(lost)} of {count} motions cannot begin: {lost[0]}")
        self._frames.add(self._snapshot)
        self.stage = 0
        self.plans = np.repeat(blank, count, axis=0)
        now = self._snapshot.evaluation
        self._gauge = Gauge(self.problem.measures, self.simulator, self._snapshot.state, now)
        self.worth = self._begun = self._scores()
        if not np.isfinite(self.worth).all():
            raise ValueError(
                f"`{self.problem.objective}` is no number where the motion starts, so that no stage can be "
                "rewarded; choose a goal that is"
            )
        return self._seen()

    @property
    def over(self) -> bool:
        """Whether the last stage is done."""
        return self.stage == self.problem.controls.stages

    @property
    def reasons(self) -> list[str | None]:
        """Why each motion could not go on; None where it can."""
        return self._snapshot.reasons

    def step(self, choices: Array) -> tuple[Array, Array]:
        """(S, size) what is observed after one stage, and its (S,) rewards.

        Args:
            choices: (S, controls' size) from 0 to 1.
        """
        problem = self.problem
        self.plans[:, self.stage] = np.clip(choices, 0.0, 1.0)
        self.stage += 1
        plans = torch.as_tensor(self.plans, dtype=torch.float64)
        done = [*problem.always, *problem.controls.actions(plans, problem.stage)]
        propagator, _ = acted(problem.propagator(self.simulator), self._start, done)
        end = self.stage * (problem.steps(propagator) // problem.controls.stages)
        before = self._snapshot.merged()
        guard = self._guard(propagator)
        rollout = Rollout(
            propagator, every=problem.every, watch=self._gauge, guard=guard, bar=False
        )
        now = before.resumed(propagator, before.evaluation is not None)
        self._snapshot = rollout.advanced(now, end, self._start, self._frames).merged()
        self.steps += sum(self._snapshot.steps) - sum(before.steps)
        lost = np.array([reason is not None for reason in self.reasons])
        worth, self.worth = self.worth, np.where(lost, self._begun, self._scores())
        return self._seen(), self.worth - worth

    def _guard(self, propagator: Propagator) -> Stability | None:
        return Stability(self._start, propagator) if self.problem.daring else None

    def _scores(self) -> Array:
        """(S,) what the motions are worth if they end now; before anything happened, what the start is."""
        paths = self._gauge.seen()
        paths = {name: np.repeat(p, 2, axis=0) if len(p) == 1 else p for name, p in paths.items()}
        return self.problem.scored(paths, np.ones(len(self.plans), dtype=bool))[0]

    def _seen(self) -> Array:
        """Of what is lost, as it was before."""
        now = self._snapshot.merged()
        evaluation = Evaluation(now.energy, now.forces) if now.evaluation is not None else None
        found = [
            np.asarray(one.of(now.whole, evaluation, self.simulator).double().cpu())
            for one in self.observed.values()
        ]
        left = 1.0 - self.stage / self.problem.controls.stages
        return np.stack([*found, np.full(len(self.plans), left)], axis=-1)

"""A planning problem as a Gymnasium environment, for agents of one's own and of other libraries."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from sciwm.core.frame import Array
from sciwm.planning.problem import Problem
from sciwm.simulation.actions import Change, acted
from sciwm.simulation.collective_variables import CollectiveVariable
from sciwm.simulation.simulator import Simulator, SimulatorError

Seen = NDArray[np.float32]


class MotionEnv(gymnasium.Env[Seen, Seen]):
    """One motion under actions that are chosen stage after stage, in a learned world or a reference alike.

    An action is the `controls.size` numbers of a stage, from -1 to 1 between the ends of their ranges. An
    observation is what is observed at the end of a stage, and the share of time that is left. The reward of
    a stage is what the return has grown by if the motion ended there, so that rewards add up to the return
    of the plan less what standing still at the start is worth. A motion that cannot go on, because the
    simulator fails or should not be trusted, is truncated and loses all that it had gained.

    Attributes:
        steps: Time steps taken, over all motions.
        worth: The return, if the motion ended here.

    Args:
        observed: What an agent is shown.
        first_seed: Of motions that are given none; each takes the next.

    Raises:
        ValueError: If something is required of the end of a motion, which no stage can be rewarded for, or
            what is chosen changes who is there.
    """

    def __init__(
        self,
        problem: Problem,
        simulator: Simulator,
        observed: Mapping[str, CollectiveVariable],
        first_seed: int = 1_000_000,
    ):
        if problem.objective.requirements:
            raise ValueError(
                f"an environment rewards each stage, and `{problem.objective.requirements[0]}` is about the "
                "end; weigh it up in the goal"
            )
        blank = torch.zeros((1, *problem.controls.shape), dtype=torch.float64)
        chosen = problem.controls.actions(blank, problem.stage)
        if any(isinstance(one, Change) for one in [*problem.always, *chosen]):
            raise ValueError(
                "an environment goes on with the same particles; leave changes of them out"
            )
        for one in observed.values():
            one.require_fitting(problem.start)
        self.problem = problem
        self.simulator = simulator
        self.observed = observed
        self.action_space = spaces.Box(-1.0, 1.0, (problem.controls.size,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (len(observed) + 1,), np.float32)
        self.steps = 0
        self._next = first_seed

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """A new motion. Equal seeds draw the same velocities and noise."""
        super().reset(seed=seed)
        number = self._next if seed is None else seed
        self._next += seed is None
        blank = np.zeros((1, *self.problem.controls.shape))
        propagator, state = self.problem.prepared(self.simulator, blank, [number])
        # What is done throughout the motion has been begun by this; stages bring their own.
        self._state = state
        if "work" not in state.fields:  # where a plan may wait all the time
            state.work = state.positions.new_zeros(state.n_systems, dtype=torch.float64)
        self._evaluation = propagator.start(state)
        self._stage = 0
        self._plan = blank[0]
        self._rows = [self._measured()]
        self.worth = self._begun = self._score()
        if not np.isfinite(self.worth):
            raise ValueError(
                f"`{self.problem.objective}` is no number where the motion starts, so that no stage can be "
                "rewarded; choose a goal that is"
            )
        return self._seen(), {}

    def step(self, action: Seen) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """One stage; the motion is over after the last, and truncated where it cannot go on."""
        problem, stage = self.problem, self._stage
        self._plan[stage] = (np.clip(action, -1.0, 1.0) + 1.0) / 2.0
        plan = torch.as_tensor(self._plan[None], dtype=torch.float64)
        done = [*problem.always, *problem.controls.actions(plan, problem.stage)]
        propagator, _ = acted(problem.propagator(self.simulator), self._state, done)
        each = problem.steps(propagator) // problem.controls.stages
        reason = ""
        for index in range(stage * each, (stage + 1) * each):
            try:
                self._state, self._evaluation = propagator.advance(
                    self._state, self._evaluation, index
                )
            except SimulatorError as error:
                reason = str(error)
                break
            self.steps += 1
            if (index + 1) % problem.every == 0:
                self._rows.append(self._measured())
                reason = propagator.outside(self._state, self._evaluation).get(0, "")
                if reason or not bool(self._state.positions.isfinite().all()):
                    reason = reason or "its positions are no longer finite"
                    break
        self._stage += 1
        before, self.worth = self.worth, self._begun if reason else self._score()
        over = self._stage == problem.controls.stages
        told = {"reason": reason} if reason else {}
        return self._seen(), self.worth - before, over and not reason, bool(reason), told

    @property
    def plan(self) -> Array:
        """(stages, size) what was chosen so far."""
        return self._plan.copy()

    def _measured(self) -> dict[str, float]:
        return {
            name: float(one.of(self._state, self._evaluation, self.simulator))
            for name, one in self.problem.measures.items()
        }

    def _score(self) -> float:
        """What the motion is worth if it ends here; before anything happened, what its start is worth."""
        rows = self._rows if len(self._rows) > 1 else self._rows * 2
        paths = {name: np.array([[row[name]] for row in rows]) for name in rows[0]}
        values = {name: one.over(paths[name]) for name, one in self.problem.measures.items()}
        return float(self.problem.objective.evaluate(values)[0, 0])

    def _seen(self) -> Seen:
        left = 1.0 - self._stage / self.problem.controls.stages
        found = [
            float(one.of(self._state, self._evaluation, self.simulator))
            for one in self.observed.values()
        ]
        return np.array([*found, left], dtype=np.float32)

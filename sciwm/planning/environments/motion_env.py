"""A planning problem as a Gymnasium environment, for agents of one's own and of other libraries."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sciwm.core.frame import Array
from sciwm.planning.episodes import Episodes
from sciwm.planning.problem import Problem
from sciwm.simulation.collective_variables import CollectiveVariable
from sciwm.simulation.simulator import Simulator

Seen = NDArray[np.float32]


class MotionEnv(gymnasium.Env[Seen, Seen]):
    """One motion under actions that are chosen stage after stage: see `Episodes`.

    An action is the `controls.size` numbers of a stage, from -1 to 1 between the ends of their ranges. A
    motion that cannot go on is truncated.

    Attributes:
        steps: Time steps taken, over all motions.
        worth: The return, if the motion ended here.

    Args:
        observed: What an agent is shown.
        first_seed: Of motions that are given none; each takes the next.

    Raises:
        ValueError: As `Episodes` does.
    """

    def __init__(
        self,
        problem: Problem,
        simulator: Simulator,
        observed: Mapping[str, CollectiveVariable],
        first_seed: int = 1_000_000,
    ):
        self._episodes = Episodes(problem, simulator, observed)
        self.action_space = spaces.Box(-1.0, 1.0, (problem.controls.size,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (self._episodes.size,), np.float32)
        self._next = first_seed

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """A new motion. Equal seeds draw the same velocities and noise."""
        super().reset(seed=seed)
        number = self._next if seed is None else seed
        self._next += seed is None
        return self._episodes.begin([number])[0].astype(np.float32), {}

    def step(self, action: Seen) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """One stage; the motion is over after the last, and truncated where it cannot go on."""
        choice = (np.clip(action, -1.0, 1.0).astype(np.float64) + 1.0) / 2.0
        seen, rewards = self._episodes.step(choice[None])
        reason = self._episodes.reasons[0]
        told = {"reason": reason} if reason else {}
        over = self._episodes.over and not reason
        return seen[0].astype(np.float32), float(rewards[0]), over, bool(reason), told

    @property
    def steps(self) -> int:
        return self._episodes.steps

    @property
    def worth(self) -> float:
        return float(self._episodes.worth[0])

    @property
    def plan(self) -> Array:
        """(stages, size) what was chosen so far."""
        return self._episodes.plans[0].copy()

"""How a world is taught: budget, temperatures, and how much is asked and trained in a round."""

import math
from dataclasses import dataclass, field
from typing import Any

from sciwm.core.bounds import (
    require_counts,
    require_not_negative,
    require_positive,
    require_seed,
)
from sciwm.core.plausibility import require_plausible
from sciwm.core.units import MOLECULAR

RAMP = 4
"""Rounds until the highest temperature is explored."""


@dataclass(frozen=True)
class LearningPlan:
    """The options of `learn`; how many questions a round has and how long it trains grow with what is known.

    Attributes:
        temperature: K, of the motion that the goal is about.
        hottest: K, up to which motion is explored.
        calls: Of the reference, at most.
        seconds: Of the reference, at most.
        fresh: Frames on which an error is measured.
        copies: Of the structure that explore together.
        time: fs, that each copy moves.
        batch: Questions of a round.
        growth: Further questions of a round, for each label so far.
        base_steps: Of training in a round.
        frame_steps: Further ones for each frame.
        encoder: Arguments of the encoder, where the world starts from nothing.
        compiled: Train with a compiled program (see `ForceTask`).
        seed: Of every choice, velocity, noise and weight.
    """

    temperature: float = 300.0
    hottest: float = 1000.0
    calls: int = 500
    seconds: float = math.inf
    fresh: int = 16
    copies: int = 12
    time: float = 500.0
    batch: int = 12
    growth: float = 0.3
    base_steps: int = 1000
    frame_steps: int = 10
    encoder: dict[str, Any] = field(default_factory=dict)
    compiled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for kelvin in (self.temperature, self.hottest):
            require_positive(temperature=kelvin)
            require_plausible("temperature", kelvin, MOLECULAR)
        require_counts(calls=self.calls, copies=self.copies, batch=self.batch)
        # An interval needs a scatter.
        require_counts(4, fresh=self.fresh)
        require_counts(base_steps=self.base_steps)
        require_counts(0, frame_steps=self.frame_steps)
        require_not_negative(growth=self.growth)
        require_positive(time=self.time)
        if not self.seconds > 0:
            raise ValueError(f"seconds must be positive, got {self.seconds}")
        require_seed(self.seed)

    def questions(self, labels: int) -> int:
        """To ask in a round, of what was explored, with so many labels at hand."""
        return self.batch + int(self.growth * labels)

    def steps(self, frames: int) -> int:
        """Of training on so many frames."""
        return self.base_steps + self.frame_steps * frames

    def temperatures(self, round: int) -> list[float]:
        """K, a ladder from the temperature of the goal up, one for each copy.

        It reaches the hottest after a few rounds: what a world imagines far above what it has learned is
        no structure that matters.
        """
        top = self.temperature + min(round / RAMP, 1.0) * (self.hottest - self.temperature)
        ratio = max(top / self.temperature, 1.0)
        steps = max(self.copies - 1, 1)
        return [self.temperature * ratio ** (k / steps) for k in range(self.copies)]

"""How a campaign spends what it has."""

import math
from dataclasses import dataclass

from sciwm.core.bounds import (
    LONGEST_TRAINING,
    require_counts,
    require_not_negative,
    require_positive,
)

MOST_CANDIDATES = 1_000_000
"""Of a round: all are in memory at once, and compared with one another."""


@dataclass(frozen=True)
class CampaignPlan:
    """How a campaign spends its budget.

    Attributes:
        calls: Reference runs, at most.
        seconds: Of the reference, at most.
        start: Runs of the first round, drawn at random.
        batch: Runs of every other round.
        controls: Share of a batch that is drawn at random from what passed the gates, so that it is
            known what choosing is worth.
        pool: Candidates asked of the proposers in a generation.
        generations: Times that proposers are asked in a round, and told what is imagined of their
            candidates before they are asked again.
        diversity: What a copy of a molecule in the batch loses (see `acquisition.choose`).
    """

    calls: int
    seconds: float = math.inf
    start: int = 20
    batch: int = 10
    controls: float = 0.2
    pool: int = 200
    generations: int = 1
    diversity: float = 0.3

    def __post_init__(self) -> None:
        require_counts(calls=self.calls, batch=self.batch, generations=self.generations)
        require_counts(most=MOST_CANDIDATES, start=self.start, pool=self.pool)
        require_not_negative(diversity=self.diversity)
        if not 0 <= self.controls <= 1:
            raise ValueError(f"controls is a share from 0 to 1, got {self.controls}")
        if not self.seconds > 0:
            raise ValueError(f"seconds of the reference must be positive, got {self.seconds}")


@dataclass(frozen=True)
class Learning:
    """How worlds learn.

    Attributes:
        replay: H5MD files they were trained on, so that they do not forget.
        kept: H5MD files with frames that no training sees, on which errors must not grow.
        seconds: Processor time of training for each world after a round.
        every: Rounds between trainings.
    """

    replay: list[str]
    kept: list[str]
    seconds: float = 60.0
    every: int = 1

    def __post_init__(self) -> None:
        require_counts(every=self.every)
        require_positive(most=LONGEST_TRAINING, seconds=self.seconds)

"""What became of each round, as the ledger tells it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sciwm.core.frame import Frame
from sciwm.learning.judging import FEWEST, Measured, force_error_of
from sciwm.learning.ledger import LearningLedger

MOST_STOPPED = 0.1
"""Of the copies that an error is measured on: a world that leaves what it knows sooner is not measured
where it is used, however small the error is where it stopped."""


@dataclass(frozen=True)
class LearningRound:
    """The world of a round, measured.

    Attributes:
        number: 0 for a world that was given.
        labels: That it was trained on.
        measured: Its force error.
        stopped: Share of the fresh copies that had to stop early.
        refused: Fresh frames on which the reference failed.
        calls: Of the reference, until it was measured.
        seconds: Of the reference, until then.
    """

    number: int
    labels: int
    measured: Measured
    stopped: float
    refused: int
    calls: int
    seconds: float

    def below(self, error: float, wanted: int, exhausted: bool) -> bool:
        """Whether the upper end of the interval is, measured on frames enough.

        Args:
            error: eV/Å.
            wanted: Fresh frames.
            exhausted: Whether there are no more to ask; then half as many will do.
        """
        enough = max(FEWEST, wanted // 2) if exhausted else wanted
        measured = self.measured
        return measured.frames >= enough and measured.high < error and self.stopped <= MOST_STOPPED


def round_of(ledger: LearningLedger, structure: Frame, number: int) -> LearningRound:
    """A round as it stands.

    Raises:
        LeakageError: If its world was trained on what its error is measured on.
    """
    fresh = ledger.fresh(number)
    until = [one for one in ledger.answers.values() if one.round < number] + fresh
    return LearningRound(
        number,
        len(ledger.labels(number)),
        force_error_of(fresh, ledger.labels(number), structure),
        sum(bool(one.question.reason) for one in fresh) / max(len(fresh), 1),
        sum(bool(one.failure) for one in fresh),
        len(until),
        sum(one.seconds for one in until),
    )


def history(ledger: LearningLedger, structure: Frame) -> Sequence[LearningRound]:
    """Every round whose world was measured."""
    numbers = sorted({a.round for a in ledger.answers.values() if a.question.kind == "fresh"})
    return [round_of(ledger, structure, number) for number in numbers]

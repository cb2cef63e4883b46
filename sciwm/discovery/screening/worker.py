"""What runs in a worker process of a screening."""

from collections.abc import Sequence

from sciwm.discovery.screening.judge import Judge, Learnt, Record, Screening

_work: tuple[Screening, Learnt] | None = None
_judge: Judge | None = None


def prepare(screening: Screening, learnt: Learnt) -> None:
    """Makes this process one that judges for a screening."""
    global _work
    _work = screening, learnt


def judged(smiles: Sequence[str]) -> list[Record]:
    """A record for each molecule."""
    global _judge
    assert _work is not None
    # Not before a molecule comes: whatever is wrong is then told to whoever asked.
    if _judge is None:
        _judge = Judge(*_work)
    return _judge.judge(smiles)

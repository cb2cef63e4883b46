"""What runs in a worker process of a screening."""

from collections.abc import Sequence

from sciwm.discovery.screening.judge import Judge, Learnt, Record, Screening

_work: tuple[Screening, Learnt] | None = None
_judge: Judge | None = None
_asked: Screening | None = None


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


def judged_for(screening: Screening, smiles: Sequence[str]) -> list[Record]:
    """The same in a process that nobody prepared; it stays ready for more of that screening."""
    global _judge, _asked
    if _judge is None or _asked != screening:
        _judge, _asked = Judge(screening), screening
    return _judge.judge(smiles)

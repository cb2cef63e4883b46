"""Reference runs: that they start, and what they found."""

import os
import socket
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from sciwm.discovery.experiment.ledger import records
from sciwm.discovery.experiment.ledger.database import LedgerError
from sciwm.discovery.experiment.ledger.tables import ATTEMPT, HYPOTHESIS
from sciwm.discovery.problem.hypothesis import Failure, Hypothesis, Measurement, verdict_of

HOST = socket.gethostname()


@dataclass(frozen=True)
class Result:
    """How a reference run ended.

    Attributes:
        measurements: By outcome name; empty where it failed.
        measured_score: Their objective.
        cost: Seconds.
        frames: File with the structures met on the way.
        frames_hash: Of its content.
        failure: Why there are no measurements.
    """

    measurements: dict[str, Measurement] = field(default_factory=dict)
    measured_score: tuple[float, ...] = ()
    cost: float = 0.0
    frames: str = ""
    frames_hash: str = ""
    failure: Failure | None = None


def start(connection: Connection, campaign: str, smiles: str, moment: str) -> int:
    """Inserts a try and returns its number.

    Raises:
        LedgerError: If the molecule is unknown, not to be run, or has a result already.
    """
    row, hypothesis = _find(connection, campaign, smiles)
    if row.concluded:
        raise LedgerError(f"{smiles} has a result already; do not pay for it twice")
    if hypothesis.decision not in records.TO_RUN:
        raise LedgerError(
            f"{smiles} was {hypothesis.decision}; only what is chosen or a control is run"
        )
    last = _last_try(connection, row.id)
    if last and last.started == moment:
        return int(last.number)  # this very try: the connection broke after it was recorded
    number = int(last.number) + 1 if last else 1
    connection.execute(
        insert(ATTEMPT).values(
            hypothesis=row.id, number=number, started=moment, host=HOST, pid=os.getpid()
        )
    )
    return number


def add(connection: Connection, campaign: str, smiles: str, result: Result, moment: str) -> None:
    """Inserts a result with its verdict, unless it is there.

    Raises:
        LedgerError: If no try was recorded, if another result is there, or values cannot be kept.
    """
    row, hypothesis = _find(connection, campaign, smiles)
    if row.concluded:
        _refuse_another(row, hypothesis, result)
        return
    last = _last_try(connection, row.id)
    if last is None:
        raise LedgerError(
            f"{smiles} has a result but no try; record an attempt() before the run starts"
        )
    if result.failure:
        columns = records.failure_columns(result.failure, smiles)
    else:
        records.add_measurements(connection, row.id, hypothesis, result.measurements)
        records.add_measured_score(connection, row.id, hypothesis, result.measured_score)
        columns = {
            "verdict": verdict_of(hypothesis.predictions, result.measurements),
            "frames": records.text(result.frames, f"the file of {smiles}"),
            "frames_hash": records.text(result.frames_hash, f"the hash of {smiles}"),
        }
    connection.execute(
        update(ATTEMPT)
        .where(ATTEMPT.c.hypothesis == row.id, ATTEMPT.c.number == last.number)
        .values(ended=moment)
    )
    connection.execute(
        update(HYPOTHESIS)
        .where(HYPOTHESIS.c.id == row.id)
        .values(
            concluded=moment, cost=records.seconds(result.cost, f"the cost of {smiles}"), **columns
        )
    )


def _find(connection: Connection, campaign: str, smiles: str) -> tuple[Row[Any], Hypothesis]:
    this = (HYPOTHESIS.c.campaign == campaign) & (HYPOTHESIS.c.smiles == smiles)
    row = connection.execute(select(HYPOTHESIS).where(this)).first()
    if row is None:
        raise LedgerError(
            f"{smiles} is not in campaign {campaign!r}; propose it first, by the same SMILES"
        )
    return row, records.load(connection, this)[row.id]


def _last_try(connection: Connection, key: int) -> Row[Any] | None:
    tries = select(ATTEMPT).where(ATTEMPT.c.hypothesis == key)
    return connection.execute(tries.order_by(ATTEMPT.c.number.desc())).first()


def _refuse_another(row: Row[Any], hypothesis: Hypothesis, result: Result) -> None:
    for name in (item.name for item in fields(Result)):
        home = row if name.startswith("frames") else hypothesis
        if (stored := getattr(home, name)) != (given := getattr(result, name)):
            raise LedgerError(
                f"{row.smiles} has a result already, with another {name}: {stored!r}, now "
                f"{given!r}; a result is recorded once"
            )

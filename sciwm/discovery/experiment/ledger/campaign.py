"""One campaign of a ledger: what was proposed, tried, found and learned."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, func, select

from sciwm.discovery.experiment.ledger import models, records, results
from sciwm.discovery.experiment.ledger.database import Database, LedgerError
from sciwm.discovery.experiment.ledger.export import write_csv
from sciwm.discovery.experiment.ledger.models import ModelRecord
from sciwm.discovery.experiment.ledger.results import Result
from sciwm.discovery.experiment.ledger.tables import HYPOTHESIS, WRITER
from sciwm.discovery.problem.hypothesis import Failure, Hypothesis, Measurement

Written = TypeVar("Written")

AT_ONCE = 500
"""SMILES in one query; SQLite allows 999 parameters where it is old."""


class Campaign:
    """Reads a campaign, and writes it where this process began it; made by `Ledger`.

    Whatever a method has written when it returns survives a crash. All methods raise LedgerError
    where the database fails them; those that write also where this process is not the owner.

    Attributes:
        name: Of the campaign.
        config, seed: With which it began.
        resumed: Whether it had been begun before.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        config: dict[str, Any],
        seed: int,
        resumed: bool = True,
        writer: int | None = None,
    ):
        self.name = name
        self.config = config
        self.seed = seed
        self.resumed = resumed
        self._database = database
        self._writer = writer

    # -- what happens ---------------------------------------------------------------------------

    def propose(self, hypotheses: Sequence[Hypothesis]) -> None:
        """Records beliefs, all or none, before anything is measured.

        Raises:
            LedgerError: If a SMILES is in the campaign already or twice in the list, if there are
                results already, or a number is NaN.
        """
        moment = now()
        names = [hypothesis.candidate.smiles for hypothesis in hypotheses]
        if len(set(names)) < len(names):
            twice = next(name for k, name in enumerate(names) if name in names[:k])
            raise LedgerError(
                f"{twice} is proposed twice at once; drop repeats by canonical SMILES"
            )

        def work(connection: Connection) -> None:
            for start in range(0, len(names), AT_ONCE):
                some = HYPOTHESIS.c.smiles.in_(names[start : start + AT_ONCE])
                repeated = connection.execute(
                    select(HYPOTHESIS).where(self._mine(), some).order_by(HYPOTHESIS.c.id)
                ).first()
                if repeated and repeated.proposed == moment:
                    return  # these very proposals: the connection broke after they were recorded
                if repeated:
                    raise LedgerError(
                        f"{repeated.smiles} was proposed in round {repeated.round} of campaign "
                        f"{self.name!r} already ({repeated.decision}); leave out what is known()"
                    )
            records.add(connection, self.name, hypotheses, moment)

        self._write(work)

    def attempt(self, smiles: str) -> int:
        """Records that a reference run starts here and now.

        Returns:
            Number of this try, from 1: earlier ones were interrupted.

        Raises:
            LedgerError: If the molecule is unknown, not to be run, or has a result already.
        """
        moment = now()
        return self._write(lambda connection: results.start(connection, self.name, smiles, moment))

    def finish(
        self,
        smiles: str,
        measurements: Mapping[str, Measurement],
        measured_score: Sequence[float],
        cost: float,
        frames: str = "",
        frames_hash: str = "",
    ) -> None:
        """Records what the reference found, with the verdict on the predictions; once more is fine.

        Args:
            cost: Seconds of the reference.
            frames: File with the structures met on the way.
            frames_hash: Of its content.

        Raises:
            LedgerError: If no try was recorded, if there is another result already, if nothing
                was measured, or a number is NaN.
        """
        if not measurements:
            raise LedgerError(f"{smiles} is finished without a measurement; fail it instead")

        result = Result(
            measurements=dict(measurements),
            measured_score=tuple(measured_score),
            cost=cost,
            frames=frames,
            frames_hash=frames_hash,
        )
        self._write(lambda connection: results.add(connection, self.name, smiles, result, now()))

    def fail(self, smiles: str, failure: Failure, cost: float) -> None:
        """Records why there will be no measurement; once more is fine.

        Args:
            cost: Seconds of the reference.

        Raises:
            LedgerError: If no try was recorded, or if there is another result already.
        """

        result = Result(failure=failure, cost=cost)
        self._write(lambda connection: results.add(connection, self.name, smiles, result, now()))

    def model(
        self,
        version: str,
        parent: str,
        trained_on: int,
        promoted: bool,
        note: str,
        errors: Mapping[str, float],
    ) -> None:
        """Records a model, as `ModelRecord` says; once more is fine.

        Raises:
            LedgerError: If another one of that version was recorded, or an error is NaN.
        """
        record = ModelRecord(version, parent, trained_on, promoted, note, dict(errors))
        self._write(lambda connection: models.add(connection, self.name, record, now()))

    # -- what is known --------------------------------------------------------------------------

    def hypotheses(self, round: int | None = None) -> list[Hypothesis]:
        """All, or those of one round, in the order in which they were proposed."""
        chosen = self._mine() if round is None else self._mine() & (HYPOTHESIS.c.round == round)
        return list(self._database.read(lambda c: records.load(c, chosen)).values())

    def unfinished(self) -> list[Hypothesis]:
        """Those to be run that have no result, in the order in which they were proposed."""
        waiting = (
            self._mine()
            & HYPOTHESIS.c.decision.in_(records.TO_RUN)
            & HYPOTHESIS.c.concluded.is_(None)
        )
        return list(self._database.read(lambda c: records.load(c, waiting)).values())

    def known(self) -> set[str]:
        """Canonical SMILES of all hypotheses."""
        found = select(HYPOTHESIS.c.smiles).where(self._mine())
        return set(self._database.read(lambda c: c.scalars(found).all()))

    def spent(self) -> tuple[int, float]:
        """Reference runs that had a result or failed, and their seconds.

        Interrupted tries are not counted, so that a campaign that was killed ends where it would
        have ended; the table `attempt` has them.
        """
        concluded = self._mine() & HYPOTHESIS.c.concluded.is_not(None)
        total = select(func.count(), func.coalesce(func.sum(HYPOTHESIS.c.cost), 0.0))
        calls, seconds = self._database.read(lambda c: c.execute(total.where(concluded)).one())
        return int(calls), float(seconds)

    def rounds(self) -> int:
        """How many rounds have hypotheses."""
        last = select(func.max(HYPOTHESIS.c.round)).where(self._mine())
        found = self._database.read(lambda c: c.scalar(last))
        return 0 if found is None else int(found) + 1

    def models(self) -> list[ModelRecord]:
        """All models, in the order in which they were recorded."""
        return self._database.read(lambda c: models.load(c, self.name))

    def frames(self) -> dict[str, tuple[str, str]]:
        """File with the structures of the reference and its hash, by SMILES, where there is one."""
        found = select(HYPOTHESIS.c.smiles, HYPOTHESIS.c.frames, HYPOTHESIS.c.frames_hash).where(
            self._mine(), HYPOTHESIS.c.frames != ""
        )
        rows = self._database.read(lambda c: c.execute(found.order_by(HYPOTHESIS.c.id)).all())
        return {row.smiles: (row.frames, row.frames_hash) for row in rows}

    def export(self, path: str | os.PathLike[str], flaws: Mapping[str, str] | None = None) -> None:
        """Writes a CSV table with one row per hypothesis.

        Args:
            flaws: Why there is no score of what was measured, by SMILES.

        Raises:
            LedgerError: If the table cannot be written.
        """
        files = {smiles: file for smiles, (file, _) in self.frames().items()}
        try:
            write_csv(Path(path), self.hypotheses(), files, flaws or {})
        except OSError as error:
            raise LedgerError(
                f"{path} cannot be written ({error.strerror}); name a file in a folder that exists "
                "and that you may write to"
            ) from error

    # -- how ------------------------------------------------------------------------------------

    def _mine(self) -> ColumnElement[bool]:
        return HYPOTHESIS.c.campaign == self.name

    def _write(self, work: Callable[[Connection], Written]) -> Written:
        if self._writer is None:
            raise LedgerError(f"campaign {self.name!r} was opened for reading; begin() it to write")

        def owned(connection: Connection) -> Written:
            # A lock that a broken connection lost may have been another's in the meantime.
            last = connection.scalar(
                select(func.max(WRITER.c.id)).where(WRITER.c.campaign == self.name)
            )
            if last != self._writer:
                raise LedgerError(
                    f"campaign {self.name!r} has been resumed by another process; leave it to "
                    "that one, or stop it and resume"
                )
            return work(connection)

        return self._database.write(owned)


def now() -> str:
    """UTC, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")

"""Where a ledger is kept: one connection, whole transactions, errors that say what to do."""

import abc
import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, func, insert, inspect, select
from sqlalchemy.exc import DBAPIError, StatementError

from sciwm.discovery.experiment.ledger.tables import LEDGER, METADATA, VERSION

PATIENCE = 30.0
"""Seconds to wait for another program that has the database locked, or for a lost server."""

GRACE = 3.0
"""Seconds to wait for a writer that may just be dying before it counts as alive."""

Result = TypeVar("Result")


class LedgerError(RuntimeError):
    """A ledger that cannot be opened or written, or a record that contradicts it."""


class Database(abc.ABC):
    """The one connection of this process to a ledger; threads take turns.

    Attributes:
        name: Path or address, without a password.
        read_only: Whether writing is refused.
    """

    def __init__(self, engine: Engine, name: str, read_only: bool):
        self.name = name
        self.read_only = read_only
        self._engine = engine
        self._turn = threading.RLock()
        self._process = os.getpid()
        self._closed = False
        try:
            self.connection = self._connect()
        except StatementError as error:
            raise LedgerError(self._explanation(error)) from error

    @abc.abstractmethod
    def _connect(self) -> Connection:
        """A new connection, ready for use."""

    @abc.abstractmethod
    def _begin(self, writing: bool) -> None:
        """Prepares the next transaction.

        Raises:
            LedgerError: If what it would write would be lost.
        """

    @abc.abstractmethod
    def _explanation(self, error: StatementError) -> str:
        """What went wrong, and the remedy."""

    @abc.abstractmethod
    def _recovered(self, error: StatementError) -> bool:
        """Whether the transaction is worth a second try, on a new connection."""

    @abc.abstractmethod
    def _lock(self, campaign: str) -> bool:
        """Tries once to become the only writer of a campaign."""

    @abc.abstractmethod
    def unlock(self, campaign: str) -> None:
        """Lets others write a campaign that this process has locked."""

    @abc.abstractmethod
    def _strangers(self, found: set[str]) -> set[str]:
        """Those of the tables found that a new ledger cannot live beside."""

    def close(self) -> None:
        """Lets go of the connection and of all locks."""
        self._closed = True
        self.connection.close()
        self._engine.dispose()

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` makes of one consistent state of the ledger."""
        return self._run(work, writing=False)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Does all of `work` or none of it.

        Where the connection broke it is done again, maybe after a first time that succeeded
        without our hearing of it: `work` must recognise its own traces.
        """
        if self.read_only:
            raise LedgerError(
                f"{self.name} was opened with read_only=True; open it without to write"
            )
        return self._run(work, writing=True)

    def locked(self, campaign: str) -> bool:
        """Whether this process became the only writer of a campaign."""
        with self._turn:
            self._check()
            self._begin(writing=True)
            return self._persistent(lambda: self._locked_within(GRACE, campaign))

    def _locked_within(self, patience: float, campaign: str) -> bool:
        deadline = time.monotonic() + patience
        while not self._lock(campaign):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def prepare(self) -> None:
        """Creates the tables where there are none.

        Raises:
            LedgerError: If the tables are another program's, or those of a newer sciwm.
        """
        found = self.read(_tables)
        if LEDGER.name not in found:
            if self.read_only:
                raise LedgerError(f"{self.name} holds no ledger; a campaign creates it")
            if strangers := self._strangers(found):
                raise LedgerError(
                    f"{self.name} holds tables of another program ({', '.join(sorted(strangers))});"
                    " give the ledger a database of its own"
                )
            try:
                self.write(_create)
            except LedgerError:
                if LEDGER.name not in self.read(_tables):  # no other process was quicker
                    raise
        version = self.read(
            lambda connection: connection.scalar(select(func.max(LEDGER.c.version)))
        )
        if version != VERSION:
            raise LedgerError(
                f"{self.name} has tables of version {version}, and this sciwm knows version "
                f"{VERSION}; install the sciwm that wrote it, or a newer one"
            )

    def _run(self, work: Callable[[Connection], Result], writing: bool) -> Result:
        with self._turn:
            self._check()
            return self._persistent(lambda: self._transacted(work, writing))

    def _check(self) -> None:
        if self._closed:
            raise LedgerError(f"{self.name} was closed; use it inside its `with` block")
        if os.getpid() != self._process:
            raise LedgerError(
                f"{self.name} was opened by process {self._process} and cannot be used by its "
                f"fork {os.getpid()}; record results in the process that runs the campaign"
            )

    def _persistent(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        except StatementError as error:
            if not self._recovered(error):
                raise LedgerError(self._explanation(error)) from error
        try:
            return work()
        except StatementError as error:
            raise LedgerError(self._explanation(error)) from error

    def _transacted(self, work: Callable[[Connection], Result], writing: bool) -> Result:
        self._begin(writing)
        with self.connection.begin():
            return work(self.connection)


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def _create(connection: Connection) -> None:
    if LEDGER.name not in _tables(connection):
        METADATA.create_all(connection)
        connection.execute(insert(LEDGER).values(version=VERSION))


def cause(error: StatementError) -> str:
    """The database's own words, without the statement and its parameters."""
    return " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())

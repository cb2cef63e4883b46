"""A ledger in one file: nothing to install, nothing to run."""

import hashlib
import os
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError, StatementError

from sciwm.core.file_lock import FileLock
from sciwm.discovery.experiment.ledger.database import PATIENCE, Database, LedgerError, cause
from sciwm.discovery.experiment.ledger.tables import LEDGER


class SQLiteDatabase(Database):
    """One file on a local disk.

    A commit is on the disk when it returns (`synchronous=FULL`), so that not even a power cut
    loses a reference run: it costs a few milliseconds, a reference run seconds to hours. The
    write-ahead log lets others read meanwhile; it needs shared memory, hence the local disk.

    Args:
        path: Created if need be, unless `read_only`; its folder must exist.
    """

    def __init__(self, path: Path, read_only: bool):
        self.path = path.resolve()
        if self.path.is_dir():
            raise LedgerError(
                f"{path} is a folder; name a file in it, such as {path}/ledger.sqlite"
            )
        if not self.path.parent.is_dir():
            raise LedgerError(
                f"the folder {self.path.parent} does not exist; create it, or keep the ledger elsewhere"
            )
        if read_only and not self.path.exists():
            raise LedgerError(f"there is no ledger {path}; a campaign creates it")
        self._locks: dict[str, FileLock] = {}
        self._immutable = False
        engine = create_engine("sqlite://", creator=self._open, poolclass=NullPool)
        event.listen(engine, "begin", _begin_as_announced)
        super().__init__(engine, str(path), read_only)
        self._identity = self._stat()

    def close(self) -> None:
        super().close()
        for campaign in list(self._locks):
            self.unlock(campaign)

    def unlock(self, campaign: str) -> None:
        self._locks.pop(campaign).release()

    def _open(self) -> sqlite3.Connection:
        mode = "ro&immutable=1" if self._immutable else "ro" if self.read_only else "rwc"
        return sqlite3.connect(
            f"file:{quote(str(self.path))}?mode={mode}",
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,  # transactions begin where SQLAlchemy says so
            check_same_thread=False,  # threads take turns
        )

    def _connect(self) -> Connection:
        try:
            return self._checked()
        except DBAPIError as error:
            # A log cannot be opened for reading on a read-only disk, where none is needed: what
            # nobody can write may be read as it stands, if its last writer has tidied up.
            if (
                not self.read_only
                or not _is(error.orig, "CANTOPEN", "READONLY")
                or self._log_size()
            ):
                raise
            self._immutable = True
            return self._checked()

    def _checked(self) -> Connection:
        connection = self._engine.connect()
        try:
            connection.info["begin"] = "BEGIN"
            driver = connection.connection.dbapi_connection
            assert isinstance(driver, sqlite3.Connection)
            with connection.begin():
                found = set(connection.exec_driver_sql("SELECT name FROM sqlite_master").scalars())
            driver.execute("PRAGMA foreign_keys = ON")
            if not self.read_only and (not found or LEDGER.name in found):
                self._log_ahead(driver)
                driver.execute("PRAGMA synchronous = FULL")
                with connection.begin():
                    damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
                if damage != "ok":
                    raise LedgerError(_damaged(self.path, str(damage).splitlines()[-1]))
        except BaseException:
            connection.close()
            raise
        return connection

    def _log_ahead(self, driver: sqlite3.Connection) -> None:
        # Whoever changes the journal's mode is refused at once, not after a while, where another
        # process is doing the same.
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                driver.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if not _is(error, "BUSY") or time.monotonic() > deadline:
                    raise LedgerError(self._remedy(error)) from error
            time.sleep(0.05)

    def _begin(self, writing: bool) -> None:
        # A transaction that reads first and writes later could not wait for other writers.
        self.connection.info["begin"] = "BEGIN IMMEDIATE" if writing else "BEGIN"
        if writing and self._stat() != self._identity:
            raise LedgerError(
                f"{self.path} was moved, removed or replaced while it was open; put it back, "
                "together with its -wal file, and resume"
            )

    def _recovered(self, error: StatementError) -> bool:
        return False

    def _strangers(self, found: set[str]) -> set[str]:
        return found

    def _lock(self, campaign: str) -> bool:
        # Names may hold anything, file names may not.
        digest = hashlib.sha256(campaign.encode()).hexdigest()[:12]
        path = self.path.with_name(f"{self.path.name}-{digest}.lock")
        try:
            self._locks[campaign] = FileLock(path)
        except BlockingIOError:
            return False
        except OSError as error:
            raise LedgerError(
                f"{path} cannot be locked ({error.strerror}); keep the ledger in a folder of a "
                "local disk that you may write to"
            ) from error
        return True

    def _stat(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _log_size(self) -> int:
        log = self.path.with_name(f"{self.path.name}-wal")
        return log.stat().st_size if log.exists() else 0

    def _explanation(self, error: StatementError) -> str:
        if isinstance(error.orig, sqlite3.Error):
            return self._remedy(error.orig)
        return f"{self.path}: {cause(error)}"

    def _remedy(self, error: sqlite3.Error) -> str:
        if _is(error, "BUSY", "LOCKED"):
            return (
                f"{self.path} was locked by another program for more than {PATIENCE:g} s; close "
                "what has it open for writing, and resume"
            )
        if _is(error, "NOTADB"):
            return f"{self.path} is not an SQLite database; name another file for the ledger"
        if _is(error, "CORRUPT"):
            return _damaged(self.path, str(error))
        if _is(error, "FULL"):
            return f"no space is left for {self.path}; make some and resume, nothing is lost"
        if _is(error, "READONLY", "CANTOPEN", "PERM"):
            remedy = (
                "its last writer was interrupted and left a log to be read: copy it, together "
                "with its -wal file, to where you may write"
                if self.read_only and self._log_size()
                else "make the file and its folder writable, or copy it to where they are"
            )
            return f"{self.path} cannot be opened or written ({error}): {remedy}"
        if _is(error, "IOERR"):
            return (
                f"{self.path} could not be read or written ({error}); see whether the disk is "
                "full, over its quota or failing, and resume"
            )
        return f"{self.path}: {error}"


def _begin_as_announced(connection: Connection) -> None:
    connection.exec_driver_sql(connection.info["begin"])


def _is(error: object, *names: str) -> bool:
    name: str = getattr(error, "sqlite_errorname", "")
    return name.startswith(tuple(f"SQLITE_{name}" for name in names))


def _damaged(path: Path, damage: str) -> str:
    return (
        f"{path} is damaged ({damage}); restore a copy of it, or save what can be read with "
        f"`sqlite3 {path} .recover | sqlite3 saved.sqlite`"
    )

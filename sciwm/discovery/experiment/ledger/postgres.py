"""A ledger on a PostgreSQL server, where people on many machines read it."""

import hashlib
import time

from sqlalchemy import URL, Connection, NullPool, create_engine, func, select, text
from sqlalchemy.exc import DBAPIError, StatementError

from sciwm.discovery.experiment.ledger.database import PATIENCE, Database, LedgerError, cause
from sciwm.discovery.experiment.ledger.tables import METADATA

KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""So that the server and we notice within half a minute that the other is gone (libpq, 34.1.2)."""


class PostgresDatabase(Database):
    """A database of a server.

    The one writer of a campaign holds an advisory lock, which belongs to its connection: what
    breaks the connection, kill -9 included, releases the lock, and nothing can be written through
    a connection that has lost it. A connection pooler that shares sessions defeats this.
    """

    def __init__(self, url: URL, read_only: bool):
        try:
            engine = create_engine(
                url.set(drivername="postgresql+psycopg"),
                poolclass=NullPool,
                # Databases without an encoding of their own would answer in bytes.
                connect_args={"connect_timeout": 10, "client_encoding": "utf8", **KEEPALIVE},
            )
        except ModuleNotFoundError as error:
            raise LedgerError(
                f"a ledger on PostgreSQL needs {error.name}: pip install 'sciwm[postgres]'"
            ) from error
        self._locked: set[str] = set()
        super().__init__(engine, url.render_as_string(hide_password=True), read_only)

    def _connect(self) -> Connection:
        # All queries of a transaction see the same state, and readers cannot write by mistake.
        connection = self._engine.connect().execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=self.read_only
        )
        with connection.begin():
            connection.execute(text(f"SET lock_timeout = '{PATIENCE:g}s'"))
            # Plans that were made for small tables would slow down foreign keys as they grow.
            connection.execute(text("SET plan_cache_mode = force_custom_plan"))
            for name, seconds in KEEPALIVE.items():
                connection.execute(text(f"SET tcp_{name} = {seconds}"))
        return connection

    def _begin(self, writing: bool) -> None:
        # SQLAlchemy would connect anew by itself, but without our locks.
        if self.connection.closed or self.connection.invalidated:
            self._reconnect()

    def _recovered(self, error: StatementError) -> bool:
        broken = isinstance(error, DBAPIError) and error.connection_invalidated
        if broken:
            self._reconnect()
        return broken

    def _reconnect(self) -> None:
        self.connection.close()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.connection = self._connect()
                lost = [x for x in list(self._locked) if not self._locked_within(PATIENCE, x)]
                break
            except DBAPIError as again:
                if time.monotonic() > deadline:
                    raise LedgerError(self._explanation(again)) from again
                time.sleep(0.2)
        if lost:
            self._locked -= set(lost)
            raise LedgerError(
                f"the connection to {self.name} was lost, and another process has taken over "
                f"{', '.join(lost)}; leave it to that process, or stop it and resume"
            )

    def _strangers(self, found: set[str]) -> set[str]:
        return found & set(METADATA.tables)

    def _lock(self, campaign: str) -> bool:
        with self.connection.begin():
            taken = self.connection.scalar(select(func.pg_try_advisory_lock(_key(campaign))))
        if taken:
            self._locked.add(campaign)
        return bool(taken)

    def unlock(self, campaign: str) -> None:
        self._locked.discard(campaign)
        self.read(
            lambda connection: connection.execute(select(func.pg_advisory_unlock(_key(campaign))))
        )

    def _explanation(self, error: StatementError) -> str:
        if isinstance(error, DBAPIError):
            state = getattr(error.orig, "sqlstate", None)
            if error.connection_invalidated or state is None or state.startswith(("08", "57P")):
                return (
                    f"{self.name} cannot be reached ({cause(error)}); see whether the server "
                    "runs and the address is right, and resume: what was recorded is kept"
                )
            if state == "55P03":
                return (
                    f"{self.name} was locked by another program for more than {PATIENCE:g} s; "
                    "end its transaction, and resume"
                )
        return f"{self.name}: {cause(error)}"


def _key(campaign: str) -> int:
    digest = hashlib.sha256(b"sciwm ledger: " + campaign.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)

"""Opening a ledger and the campaigns in it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, make_url, select
from sqlalchemy.exc import ArgumentError

from sciwm.discovery.experiment.ledger.campaign import Campaign, now
from sciwm.discovery.experiment.ledger.database import Database, LedgerError
from sciwm.discovery.experiment.ledger.postgres import PostgresDatabase
from sciwm.discovery.experiment.ledger.records import text
from sciwm.discovery.experiment.ledger.results import HOST
from sciwm.discovery.experiment.ledger.settings import as_json, first_difference
from sciwm.discovery.experiment.ledger.sqlite import SQLiteDatabase
from sciwm.discovery.experiment.ledger.tables import CAMPAIGN, WRITER


class Ledger:
    """Every hypothesis of every campaign, in an SQLite file or a PostgreSQL database.

    A campaign has one writer process, and any number of readers. Use as a context.

        with Ledger("runs/quinones/ledger.sqlite") as ledger:
            campaign = ledger.begin("quinones", config, seed=0, versions={"sciwm": "0.1.0"})
            campaign.propose(hypotheses)

    Args:
        where: A path, `sqlite:///path`, or `postgresql://user@host/database`.
        read_only: Refuses to write, and needs an existing ledger.

    Raises:
        LedgerError: If it cannot be opened.
    """

    def __init__(self, where: str | os.PathLike[str], read_only: bool = False):
        self._database = _database(where, read_only)
        self._begun: set[str] = set()
        try:
            self._database.prepare()
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets other processes write the campaigns that were begun here."""
        self._database.close()

    def campaigns(self) -> list[str]:
        """Names, in the order in which they began."""
        names = select(CAMPAIGN.c.name).order_by(CAMPAIGN.c.created, CAMPAIGN.c.name)
        return list(self._database.read(lambda connection: connection.scalars(names).all()))

    def campaign(self, name: str) -> Campaign:
        """A campaign to read.

        Raises:
            LedgerError: If there is none of that name.
        """
        found = self._database.read(lambda connection: _stored(connection, name))
        if found is None:
            names = ", ".join(self.campaigns()) or "none"
            raise LedgerError(
                f"there is no campaign {name!r} in {self._database.name}, but {names}"
            )
        return Campaign(self._database, name, *found)

    def begin(
        self, name: str, config: Mapping[str, Any], seed: int, versions: Mapping[str, str]
    ) -> Campaign:
        """A campaign to write, new or resumed, that no other process may write until `close`.

        Args:
            name: Of the campaign.
            config: What defines it; must not change while it lasts.
            versions: Of programs that its results may depend on; recorded, and free to change.

        Raises:
            LedgerError: If it was begun with another config or seed, or is being written.
        """
        if not text(name, "the name of a campaign"):
            raise LedgerError("the name of a campaign is empty; give it one")
        if not 0 <= seed < 2**63:
            raise LedgerError(f"{seed=} is not from 0 to 2^63 - 1; choose another")
        configured = as_json(config, "the config")
        moment, recorded = now(), as_json(versions, "the versions")
        if name in self._begun:
            raise LedgerError(f"campaign {name!r} was begun already; use what begin() returned")
        if self._database.read_only:
            raise LedgerError(
                f"{self._database.name} was opened with read_only=True; open it without to write"
            )
        if not self._database.locked(name):
            raise LedgerError(self._owner(name))

        def work(connection: Connection) -> tuple[int, bool]:
            created = connection.scalar(select(CAMPAIGN.c.created).where(CAMPAIGN.c.name == name))
            if created is None:
                connection.execute(
                    insert(CAMPAIGN).values(name=name, config=configured, seed=seed, created=moment)
                )
            stored = _stored(connection, name)
            given = (json.loads(configured), seed)
            for was, is_, key in zip(stored or given, given, ("config", "seed"), strict=True):
                if difference := first_difference(was, is_, key):
                    raise LedgerError(
                        f"campaign {name!r} was begun with other settings: {difference}. Resume "
                        "it with those it began with, or give this one another name"
                    )
            writer = connection.scalar(
                insert(WRITER)
                .returning(WRITER.c.id)
                .values(campaign=name, since=moment, host=HOST, pid=os.getpid(), versions=recorded)
            )
            return int(writer or 0), created not in (None, moment)

        try:
            writer, resumed = self._database.write(work)
        except BaseException:
            self._database.unlock(name)
            raise
        self._begun.add(name)
        return Campaign(self._database, name, json.loads(configured), seed, resumed, writer)

    def _owner(self, name: str) -> str:
        last = select(WRITER).where(WRITER.c.campaign == name).order_by(WRITER.c.id.desc())
        owner = self._database.read(lambda connection: connection.execute(last).first())
        who = (
            f"process {owner.pid} on {owner.host} since {owner.since}"
            if owner
            else "a process that has just started"
        )
        return (
            f"campaign {name!r} in {self._database.name} is being written by {who}; wait until it "
            "ends, stop it and resume (a killed one leaves nothing in the way), or open the ledger "
            "with read_only=True"
        )


def _database(where: str | os.PathLike[str], read_only: bool) -> Database:
    where = os.fspath(where)
    if "://" not in where:
        return SQLiteDatabase(Path(where), read_only)
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise LedgerError(
            f"{where!r} is no database URL; give a path or postgresql://user@host/database"
        ) from error
    kind = url.get_backend_name()
    if kind == "sqlite" and url.database:
        return SQLiteDatabase(Path(url.database), read_only)
    if kind in ("postgresql", "postgres"):
        return PostgresDatabase(url, read_only)
    raise LedgerError(
        f"a ledger cannot be kept in {url.render_as_string(hide_password=True)}; give a path for "
        "SQLite, or postgresql://user@host/database"
    )


def _stored(connection: Connection, name: str) -> tuple[dict[str, Any], int] | None:
    row = connection.execute(select(CAMPAIGN).where(CAMPAIGN.c.name == name)).first()
    return row and (json.loads(row.config), int(row.seed))

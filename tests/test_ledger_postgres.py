"""A ledger on a PostgreSQL server: connections break, and nothing is lost, doubled or shared."""

import os
import socket
import sys
import threading
import time

import pytest
from sqlalchemy import create_engine, make_url
from test_ledger import asked, begun, changed, new_database, plain, some

from sciwm.discovery.experiment.ledger import Ledger, LedgerError, postgres
from sciwm.discovery.problem.hypothesis import Measurement

pytestmark = pytest.mark.database

GAP = {"gap": Measurement(3.1)}


@pytest.fixture
def where():
    """A database that no other test knows."""
    server = os.environ.get("SCIWM_TEST_POSTGRES")
    if not server:
        pytest.skip("SCIWM_TEST_POSTGRES names no PostgreSQL server")
    with new_database(server) as url:
        yield url


def connections_ended(where):
    changed(
        where,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


def wholly_used(campaign, before_each=lambda: None):
    """Writes of every kind; what they leave is checked."""
    steps = [
        lambda: campaign.propose([some(1), some(2)]),
        lambda: campaign.attempt("CCO"),
        lambda: campaign.finish("CCO", GAP, (3.1,), 2.0),
        lambda: campaign.attempt("CCCO"),
        lambda: campaign.model("v1", "", 1, True, "", {"gap": 0.1}),
    ]
    for step in steps:
        before_each()
        step()
    first, second = campaign.hypotheses()
    assert (first.measurements, first.verdict) == (GAP, "confirmed")
    assert second == some(2)
    assert campaign.spent() == (1, 2.0)
    assert len(campaign.models()) == 1


def test_a_broken_connection_is_taken_up_again(where):
    with Ledger(where) as ledger:
        wholly_used(begun(ledger), before_each=lambda: connections_ended(where))
        connections_ended(where)
        assert ledger.campaigns() == ["c"]
    assert asked(where, "SELECT number FROM attempt") == [(1,), (1,)]
    assert asked(where, "SELECT count(*) FROM writer") == [(1,)]


class Wire:
    """A TCP address that passes bytes on to a server, and can be cut at the worst moment.

    Attributes:
        address: URL of the database behind it.
        cut: Which of the next commits is passed on while its answer is not; 0 for none.
        open: Whether connections are accepted and kept.
    """

    def __init__(self, where):
        self._server = make_url(where)
        self.cut = 0
        self.open = True
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.address = self._server.set(
            host="127.0.0.1", port=port, query={"sslmode": "disable", "gssencmode": "disable"}
        ).render_as_string(hide_password=False)
        self._ends = [self._listener]
        self._threads = []
        self._run(self._accept)

    def close(self):
        ended(*self._ends)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    def _run(self, work, *arguments):
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = self._connected()
            self._ends += [near, far]
            self._run(self._answers, far, near)
            self._run(self._questions, near, far)

    def _connected(self):
        folder = self._server.query.get("host", "")
        if folder.startswith("/"):
            far = socket.socket(socket.AF_UNIX)
            far.connect(f"{folder}/.s.PGSQL.{self._server.port or 5432}")
            return far
        return socket.create_connection((self._server.host, self._server.port or 5432))

    def _questions(self, near, far):
        while data := received(near):
            if not self.open:
                break
            if self.cut and b"COMMIT" in data:
                self.cut -= 1
                if not self.cut:
                    self.cuts += 1
                    ended(near)  # we hear no more of it
                    sent(far, data)
                    time.sleep(0.2)  # while the server does as it was told
                    break
            if not sent(far, data):
                break
        ended(near, far)

    def _answers(self, far, near):
        while (data := received(far)) and sent(near, data):
            pass
        ended(near, far)


def received(end):
    try:
        return end.recv(65536)
    except OSError:
        return b""


def sent(end, data):
    """Whether the other side still took it: either may hang up while the other is talking."""
    try:
        end.sendall(data)
    except OSError:
        return False
    return True


def ended(*ends):
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


@pytest.fixture
def wire(where):
    wire = Wire(where)
    yield wire
    wire.close()


def test_a_commit_whose_answer_was_lost_is_not_done_twice(where, wire):
    with Ledger(wire.address) as ledger:
        campaign = begun(ledger)

        def cut():
            wire.cut = 1

        wholly_used(campaign, before_each=cut)
        assert wire.cuts == 5
    assert asked(where, "SELECT hypothesis, number FROM attempt ORDER BY 1") == [(1, 1), (2, 1)]
    assert asked(where, "SELECT count(*) FROM hypothesis") == [(2,)]


@pytest.mark.parametrize("commit", [1, 2])  # of the lock, and of the campaign
def test_a_beginning_whose_answer_was_lost_is_still_a_beginning(wire, commit):
    with Ledger(wire.address) as ledger:
        wire.cut = commit
        campaign = begun(ledger)
        assert wire.cuts == 1
        assert not campaign.resumed
        wholly_used(campaign)


def test_a_server_that_stays_away_is_given_up_with_a_word_and_nothing_is_lost(
    where, wire, monkeypatch
):
    monkeypatch.setattr(postgres, "PATIENCE", 0.5)
    with Ledger(wire.address) as ledger:
        campaign = begun(ledger)
        campaign.propose([some(1)])
        wire.open = False
        with pytest.raises(LedgerError, match=r"cannot be reached .*what was recorded is kept"):
            campaign.attempt("CCO")
        wire.open = True
        assert campaign.attempt("CCO") == 1  # the server is back, and so are we


def test_a_writer_that_was_cut_off_and_replaced_writes_no_more(where, wire):
    with Ledger(wire.address) as first:
        campaign = begun(first)
        campaign.propose([some(1)])
        connections_ended(where)
        with Ledger(where) as second:
            begun(second).propose([some(2)])
        for _ in range(2):
            with pytest.raises(LedgerError, match="resumed by another process"):
                campaign.propose([some(3)])
    with Ledger(where, read_only=True) as ledger:
        assert ledger.campaign("c").hypotheses() == [some(1), some(2)]


def test_a_writer_that_was_cut_off_learns_who_took_over(where, wire, monkeypatch):
    monkeypatch.setattr(postgres, "PATIENCE", 0.5)
    with Ledger(wire.address) as first:
        campaign = begun(first)
        connections_ended(where)
        with Ledger(where) as second:
            begun(second)
            with pytest.raises(LedgerError, match="another process has taken over c"):
                campaign.propose([some(3)])


def test_a_locked_table_is_given_up_with_a_word(where, monkeypatch):
    monkeypatch.setattr(postgres, "PATIENCE", 1)
    with Ledger(where) as ledger:
        campaign = begun(ledger)
        other = plain(where)
        with other.begin() as connection:
            connection.exec_driver_sql("LOCK TABLE hypothesis IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(LedgerError, match="locked by another program for more than 1 s"):
                campaign.propose([some(1)])
        other.dispose()
        campaign.propose([some(1)])


def test_a_database_without_an_encoding_holds_a_ledger_too(where):
    name = f"{make_url(where).database}_ascii"
    server = create_engine(
        make_url(where).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with server.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE DATABASE \"{name}\" ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
        )
        try:
            address = make_url(where).set(database=name).render_as_string(hide_password=False)
            with Ledger(address) as ledger:
                wholly_used(begun(ledger))
        finally:
            connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    server.dispose()


def test_addresses_may_be_written_as_others_write_them(where):
    _, rest = where.split("://")
    for scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        with Ledger(f"{scheme}://{rest}") as ledger:
            assert ledger.campaigns() == []


def test_a_database_that_does_not_exist_is_named(where):
    absent = make_url(where).set(database="absent", password="geheim")
    with pytest.raises(LedgerError, match=r'"absent" does not exist') as caught:
        Ledger(absent.render_as_string(hide_password=False))
    assert "geheim" not in str(caught.value)


def test_a_missing_driver_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"pip install 'sciwm\[postgres\]'"):
        Ledger("postgresql://localhost/d")

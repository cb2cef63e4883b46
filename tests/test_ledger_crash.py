"""Killed, forked, full, damaged, contended: nothing that was committed is lost."""

import inspect
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import HUNG
from test_ledger import asked, begun, some, where  # noqa: F401

from sciwm.discovery.experiment.ledger import Ledger, LedgerError, sqlite
from sciwm.discovery.problem.hypothesis import Candidate, Hypothesis, Measurement, Prediction

pytestmark = pytest.mark.crash

HEAD = """
import os, sys, time
from sciwm.discovery.problem.hypothesis import Candidate, Hypothesis, Measurement, Prediction
from sciwm.discovery.experiment.ledger import Ledger, LedgerError
"""


def proposal(k):
    return Hypothesis(
        Candidate(f"C{k}", "x", ("C", "CC")),
        round=k // 5,
        decision="chosen",
        predictions={name: Prediction(k, 1.0, k - 1, k + 1) for name in ("gap", "dipole")},
        score=(float(k), -float(k)),
    )


def found(k):
    return {"gap": Measurement(k + 0.5), "dipole": Measurement(k + 2.0)}


def started(code, *arguments):
    """A process that runs code which knows the ledger, `proposal` and `found`."""
    program = HEAD + "\n".join(map(inspect.getsource, (proposal, found))) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


CAMPAIGN = """
with Ledger(sys.argv[1]) as ledger:
    campaign = ledger.begin("c", {}, 0, {})
    print("owner", flush=True)
    while True:
        for hypothesis in campaign.unfinished():
            smiles = hypothesis.candidate.smiles
            campaign.attempt(smiles)
            print("started", smiles[1:], flush=True)
            campaign.finish(smiles, found(int(smiles[1:])), (1.0, 2.0), 0.25, "f" + smiles, "h")
            print("finished", smiles[1:], flush=True)
        known = len(campaign.known())
        campaign.propose([proposal(k) for k in range(known, known + 5)])
        print("proposed", known + 4, flush=True)
"""


def test_ten_kills_lose_nothing_that_was_reported(where):  # noqa: F811
    chance = random.Random(0)
    reports = []
    for _ in range(10):
        with started(CAMPAIGN, where) as process:
            assert process.stdout.readline() == "owner\n", process.stderr.read()
            lines = [process.stdout.readline() for _ in range(chance.randrange(12))]
            time.sleep(chance.uniform(0.0, 0.02))
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.read().splitlines(keepends=True)
        reports += [line.split() for line in lines if line.endswith("\n")]
    with Ledger(where, read_only=True) as ledger:
        campaign = ledger.campaign("c")
        hypotheses = campaign.hypotheses()
        spent = campaign.spent()
    by_number = {int(h.candidate.smiles[1:]): h for h in hypotheses}
    assert list(by_number) == list(range(len(hypotheses)))
    assert len(hypotheses) % 5 == 0  # batches are whole
    ended = [int(k) for what, k in reports if what == "finished"]
    assert len(ended) > 10
    assert len(set(ended)) == len(ended)  # nothing was paid for again after its end
    assert all(by_number[k].measurements == found(k) for k in ended)
    assert all(by_number[int(k)] for what, k in reports if what == "proposed")
    for k, hypothesis in by_number.items():
        assert hypothesis.predictions == proposal(k).predictions
        assert hypothesis.score == proposal(k).score
        assert hypothesis.candidate.parents == ("C", "CC")
        if hypothesis.measurements:
            assert hypothesis.measurements == found(k)
            assert (hypothesis.verdict, hypothesis.measured_score) == ("refuted", (1.0, 2.0))
    # A run that was killed between its end and our reading of it may be more, never fewer.
    assert len(ended) <= spent[0] <= len(ended) + 10
    assert spent[1] == 0.25 * spent[0]
    tries = asked(where, "SELECT count(*), max(number) FROM attempt")[0]
    assert tries[0] <= spent[0] + 10
    if "://" not in where:
        assert asked(where, "PRAGMA integrity_check") == [("ok",)]


def test_the_kill_test_catches_what_was_reported_before_it_was_recorded(where):  # noqa: F811
    hasty = CAMPAIGN.replace(
        "campaign.propose(",
        'print("proposed", known + 4, flush=True); time.sleep(9); campaign.propose(',
    )
    with started(hasty, where) as process:
        assert process.stdout.readline() == "owner\n"
        reported = int(process.stdout.readline().split()[1])
        process.kill()
    with Ledger(where, read_only=True) as ledger:
        assert f"C{reported}" not in ledger.campaign("c").known()


def test_a_second_writer_is_told_who_the_first_is_and_follows_when_it_dies(where, monkeypatch):  # noqa: F811
    monkeypatch.setattr("sciwm.discovery.experiment.ledger.database.GRACE", 0.3)
    with started(CAMPAIGN, where) as owner:
        assert owner.stdout.readline() == "owner\n", owner.stderr.read()
        with Ledger(where) as ledger:
            with pytest.raises(LedgerError) as caught:
                ledger.begin("c", {}, 0, {})
            message = str(caught.value)
            assert f"process {owner.pid} on {os.uname().nodename} since 20" in message
            assert "stop it and resume" in message
            assert "read_only=True" in message
            assert not begun(ledger, "another").resumed  # campaigns do not wait for each other
            before = len(ledger.campaign("c").hypotheses())
            while len(ledger.campaign("c").hypotheses()) < before + 10:  # readers see it grow
                time.sleep(0.05)
            owner.kill()
            owner.wait()
            assert ledger.begin("c", {}, 0, {}).resumed


def test_a_ledger_that_is_closed_lets_others_write(where):  # noqa: F811
    with Ledger(where) as first:
        begun(first)
    with Ledger(where) as second:
        assert begun(second).resumed
    if "://" not in where:
        assert sorted(os.listdir(os.path.dirname(where))) == ["ledger.sqlite"]


def test_processes_that_start_together_create_one_ledger(where):  # noqa: F811
    code = """
    while not os.path.exists(sys.argv[3]):
        time.sleep(0.001)
    with Ledger(sys.argv[1]) as ledger:
        ledger.begin(sys.argv[2], {}, 0, {}).propose([proposal(0)])
    """
    with tempfile.TemporaryDirectory() as folder:
        signal_file = Path(folder) / "go"
        processes = [started(code, where, f"c{k}", signal_file) for k in range(3)]
        time.sleep(1.5)
        signal_file.touch()
        for process in processes:
            _, errors = process.communicate(timeout=HUNG)
            assert process.returncode == 0, errors
    with Ledger(where, read_only=True) as ledger:
        assert sorted(ledger.campaigns()) == ["c0", "c1", "c2"]


FORK = """
ledger = Ledger(sys.argv[1])
campaign = ledger.begin("c", {}, 0, {})
campaign.propose([proposal(0)])
child = os.fork()
if child == 0:
    try:
        campaign.attempt("C0")
    except LedgerError as error:
        print(error, flush=True)
    os.close(1)
    time.sleep(60)
    os._exit(0)
time.sleep(0.5)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_fork_cannot_write_and_does_not_keep_its_dead_parents_lock(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with started(FORK, path) as owner:
        assert "cannot be used by its fork" in owner.stdout.readline(), owner.stderr.read()
        child = int(owner.stdout.readline())
        owner.wait()
        try:
            os.kill(child, 0)  # it lives
            with Ledger(path) as ledger:
                assert ledger.begin("c", {}, 0, {}).hypotheses() == [proposal(0)]
        finally:
            os.kill(child, signal.SIGKILL)


# -- SQLite's own troubles ------------------------------------------------------------------------


def test_a_commit_is_on_the_disk(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        driver = ledger._database.connection.connection.dbapi_connection
        assert driver.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert driver.execute("PRAGMA foreign_keys").fetchone() == (1,)
        assert driver.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_paths_that_lead_nowhere_say_so(tmp_path):
    with pytest.raises(LedgerError, match=r"folder .*/absent does not exist"):
        Ledger(tmp_path / "absent" / "l.sqlite")
    with pytest.raises(LedgerError, match="is a folder"):
        Ledger(tmp_path)
    with pytest.raises(LedgerError, match="there is no ledger"):
        Ledger(tmp_path / "l.sqlite", read_only=True)
    assert os.listdir(tmp_path) == []


def test_odd_file_names_are_file_names(tmp_path):
    path = tmp_path / "a ? b#c %41 ü.sqlite"
    with Ledger(path) as ledger:
        begun(ledger).propose([some(1)])
    assert os.listdir(tmp_path) == [path.name]
    with Ledger(f"sqlite:///{tmp_path}/other.sqlite") as ledger:
        begun(ledger)
    assert (tmp_path / "other.sqlite").exists()


def test_two_names_of_one_file_are_one_ledger(tmp_path, monkeypatch):
    monkeypatch.setattr("sciwm.discovery.experiment.ledger.database.GRACE", 0.1)
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "l.sqlite")
    with Ledger(tmp_path / "l.sqlite") as first, Ledger(tmp_path / "link.sqlite") as second:
        begun(first)
        with pytest.raises(LedgerError, match=f"process {os.getpid()}"):
            begun(second)


@pytest.mark.parametrize("content", [b"SMILES,score\nC,1.0\n" * 100, b"\x89HDF\r\n\x1a\n" * 99])
def test_a_file_that_is_no_database_is_left_alone(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(LedgerError, match="is not an SQLite database"):
            Ledger(path, read_only=read_only)
    assert path.read_bytes() == content


@pytest.fixture
def filled(tmp_path):
    """A ledger of a few hundred kilobytes."""
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        begun(ledger).propose([some(k) for k in range(1, 500)])
    return path


@pytest.mark.parametrize("harm", ["cut", "overwritten"])
def test_damage_is_noticed_before_more_is_written(filled, harm):
    if harm == "cut":
        os.truncate(filled, filled.stat().st_size // 2)
    else:
        with filled.open("r+b") as file:
            file.seek(filled.stat().st_size // 2)
            file.write(random.Random(0).randbytes(20_000))
    with pytest.raises(LedgerError, match=r"is damaged .*restore a copy"):
        Ledger(filled)
    with pytest.raises(LedgerError, match="is damaged"), Ledger(filled, read_only=True) as ledger:
        ledger.campaign("c").hypotheses()


def test_a_sound_ledger_is_not_called_damaged(filled):
    with Ledger(filled) as ledger:
        assert len(begun(ledger).hypotheses()) == 499


def test_a_locked_ledger_is_waited_for(filled):
    with (
        Ledger(filled) as ledger,
        closing(sqlite3.connect(filled, check_same_thread=False)) as other,
    ):
        campaign = begun(ledger)
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.5, other.commit)
        timer.start()
        start = time.monotonic()
        campaign.propose([some(600)])
        assert time.monotonic() - start > 0.4
        timer.join()


def test_a_ledger_locked_for_long_is_given_up_with_a_word(filled, monkeypatch):
    monkeypatch.setattr(sqlite, "PATIENCE", 0.3)
    with Ledger(filled) as ledger, closing(sqlite3.connect(filled, isolation_level=None)) as other:
        campaign = begun(ledger)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match=r"locked by another program for more than 0.3 s"):
            campaign.propose([some(600)])
        assert len(campaign.hypotheses()) == 499  # reading needs no lock
        other.execute("COMMIT")
        campaign.propose([some(600)])


def test_a_full_disk_loses_nothing_and_can_be_resumed_from(filled):
    with Ledger(filled) as ledger:
        campaign = begun(ledger)
        driver = ledger._database.connection.connection.dbapi_connection
        pages = driver.execute("PRAGMA page_count").fetchone()[0]
        driver.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(LedgerError, match="no space is left"):
            campaign.propose([some(k) for k in range(600, 900)])
        assert len(campaign.hypotheses()) == 499
        driver.execute("PRAGMA max_page_count = 1000000")
        campaign.propose([some(k) for k in range(600, 900)])
        assert len(campaign.hypotheses()) == 799


QUOTA = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Ledger(sys.argv[1]) as ledger:
    campaign = ledger.begin("q", {}, 0, {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        campaign.propose([proposal(k) for k in range(5000)])
    except LedgerError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(len(campaign.hypotheses()))
    campaign.propose([proposal(0)])
"""


def test_a_file_that_may_not_grow_is_explained(filled):
    with started(QUOTA, filled, filled.stat().st_size) as process:
        out, errors = process.communicate(timeout=HUNG)
    assert process.returncode == 0, errors
    explanation, kept = out.splitlines()
    assert "see whether the disk is full" in explanation or "no space is left" in explanation
    assert kept == "0"
    with Ledger(filled, read_only=True) as ledger:
        assert ledger.campaign("q").hypotheses() == [proposal(0)]


@pytest.mark.parametrize("harm", ["moved", "removed", "replaced"])
def test_results_are_not_written_into_a_file_that_is_gone(filled, harm, tmp_path):
    with Ledger(filled) as ledger:
        campaign = begun(ledger)
        if harm == "removed":
            filled.unlink()
        else:
            filled.rename(tmp_path / "elsewhere")
        if harm == "replaced":
            shutil.copy(tmp_path / "elsewhere", filled)
        with pytest.raises(LedgerError, match="moved, removed or replaced"):
            campaign.attempt(some(1).candidate.smiles)


READ_ONLY = """
if os.geteuid() == 0:
    os.setuid(65534)  # whom permissions bind
for arguments in ({"read_only": True}, {}):
    try:
        with Ledger(sys.argv[1], **arguments) as ledger:
            print(len(ledger.campaign("c").hypotheses()))
            ledger.begin("c", {}, 0, {})
    except LedgerError as error:
        print(error)
"""


def read_only(path):
    """What somebody finds who may read a ledger's folder but not write."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        for file in path.parent.glob(f"{path.name}*"):
            shutil.copy(file, folder)
            (folder / file.name).chmod(0o444)
        folder.chmod(0o555)
        with started(READ_ONLY, folder / path.name) as process:
            out, errors = process.communicate(timeout=HUNG)
        assert process.returncode == 0, errors
        return out.splitlines()
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_ledger_on_a_read_only_disk_can_be_read(filled):
    lines = read_only(filled)
    assert lines[0] == "499"
    assert "read_only=True" in lines[1]
    assert "make the file and its folder writable" in lines[2]


def test_a_ledger_on_a_read_only_disk_whose_writer_was_killed_is_not_read_in_part(tmp_path):
    path = tmp_path / "l.sqlite"
    with started(CAMPAIGN, path) as process:
        for _ in range(20):
            assert process.stdout.readline(), process.stderr.read()
        process.kill()
    (tmp_path / "l.sqlite-shm").unlink()  # where it is kept, a disk may be read without writing
    assert "copy it, together with its -wal file" in read_only(path)[0]

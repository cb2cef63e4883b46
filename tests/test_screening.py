"""A screening loses no row and doubles none, says what it cannot judge, and never mistakes its table."""

import contextlib
import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import HUNG, loaded_without_digest
from rdkit import Chem

from sciwm.cli import main
from sciwm.core.file_lock import FileLock
from sciwm.discovery.planners.proposers.library import read_library
from sciwm.discovery.problem.descriptors import sa_score
from sciwm.discovery.screening import screening as module
from sciwm.discovery.screening.judge import Judge, Screening
from sciwm.discovery.screening.progress import Progress, progress_file
from sciwm.discovery.screening.screening import screen
from sciwm.discovery.screening.table import LONGEST_CELL, Table, best, to_parquet
from sciwm.discovery.screening.workers import Workers
from sciwm.discovery.surrogate.calibration import Conformal
from sciwm.discovery.surrogate.predictors.tanimoto import TanimotoGaussianProcess
from sciwm.models import archive as archives

pytestmark = pytest.mark.long

GATES = [
    {
        "class_path": "sciwm.discovery.problem.gates.Size",
        "init_args": {"max_atoms": 250, "max_heavy": 50},
    },
    {"class_path": "sciwm.discovery.problem.gates.ChargeAndSpin"},
]
# Ethers and amines on a ring, whose worth a count gives.
MEASURED = sorted(
    {
        Chem.CanonSmiles(f"{a}c1ccc({b})cc1")
        for a in ("C", "CC", "CCC", "CO", "CCO", "COC", "CN", "CNC")
        for b in ("C", "CC", "OC", "N(C)C", "C#N", "CCN", "COC")
    }
)
SOUND = [f"{a}c1cc({b})ccc1{c}" for a in "CNO" for b in ("CC", "OC", "C#N") for c in ("F", "CO")]
BROKEN = {
    b"": "reading",
    b"CC\0O": "reading",
    b"CC\xff\xfe": "reading",
    b"C" * (3 << 20): "reading",
    b"C1CC(": "parsing",
    b"c1cccc1": "parsing",
    b"CN(C)(C)(C)C": "parsing",
    b"CC(=O)[O-].[Na+]": "parsing",
    b"CC*": "parsing",
    b"C" * 5000: "gate: size",
    b"C" * 60: "gate: size",
    b"C[CH2]": "gate: charge and spin",
    b"C[NH3+]": "gate: charge and spin",
}


def worth(smiles: str) -> float:
    counts = [atom.GetSymbol() for atom in Chem.MolFromSmiles(smiles).GetAtoms()]
    return 1.0 + 0.5 * counts.count("N") - 0.2 * counts.count("O") + 0.01 * len(counts)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("measured") / "measured.csv"
    lines = [f"{one},{worth(one):.6f}" for one in MEASURED]
    path.write_text("\n".join(["smiles,worth", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def screening(measured) -> Screening:
    objective = "minimize abs(worth - 1.5 V); require sa_score < 4"
    return Screening(objective, [], str(measured), {"worth": "V"}, [], GATES)


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """1,800 lines with every kind of broken one among them."""
    path = tmp_path_factory.mktemp("library") / "library.smi"
    sound = [f"{one} m{k}".encode() for k, one in enumerate(SOUND * 99)]
    for k, one in enumerate(BROKEN):
        sound.insert(100 * k + 7, one)
    path.write_bytes(b"\n".join(sound) + b"\n")
    return path


@pytest.fixture(scope="module")
def whole(screening, library, tmp_path_factory) -> Path:
    """The table of an undisturbed screening."""
    out = tmp_path_factory.mktemp("whole") / "table.csv"
    screen(screening, library, out)
    return out


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def told_wrong(rows: list[dict[str, str]], library: Path) -> list[int]:
    """Lines that are missing, twice, out of order, or said to be broken where they are not."""
    wrong = [n + 1 for n, row in enumerate(rows) if int(row["line"]) != n + 1]
    lines = library.read_bytes().split(b"\n")[:-1]
    if len(lines) != len(rows):
        wrong.append(len(lines))
    for line, row in zip(lines, rows, strict=False):
        expected = BROKEN.get(line, "")
        same = row["problem"].startswith(expected) if expected else not row["problem"]
        if not same or bool(row["score"]) == bool(expected):
            wrong.append(int(row["line"]))
    return wrong


def test_every_row_comes_once_in_order_and_broken_ones_say_why(whole, library):
    assert told_wrong(rows_of(whole), library) == []


def test_the_check_of_rows_catches_a_lost_a_doubled_and_a_misjudged_one(whole, library):
    rows = rows_of(whole)
    assert told_wrong(rows[:50] + rows[51:], library)
    assert told_wrong(rows[:50] + rows[49:], library)
    assert told_wrong([rows[0] | {"problem": "parsing: no"}, *rows[1:]], library) == [1]


def test_values_intervals_and_scores_are_those_of_the_model_they_are_said_to_be(whole, measured):
    values = np.array([[worth(one)] for one in MEASURED]).round(6)
    process = TanimotoGaussianProcess(["worth"])
    process.fit(MEASURED, values)
    conformal = Conformal()
    alone = process.leave_one_out()
    conformal.update(alone.mean[:, 0], alone.spread[:, 0], values[:, 0])
    rows = [row for row in rows_of(whole) if not row["problem"]][: len(SOUND)]
    said = process.predict([row["smiles"] for row in rows])
    lower, upper = conformal.interval(said.mean[:, 0], said.spread[:, 0])
    score = -np.abs(said.mean[:, 0] - 1.5)
    access = [sa_score(Chem.MolFromSmiles(row["smiles"])) for row in rows]
    for name, expected in [
        ("worth", said.mean[:, 0]),
        ("worth_lower", lower),
        ("worth_upper", upper),
        ("score", score),
        ("sa_score", access),
    ]:
        np.testing.assert_allclose([float(row[name]) for row in rows], expected, rtol=1e-5)
    assert [row["feasible"] for row in rows] == [str(int(one < 4)) for one in access]


def test_a_cut_table_is_continued_to_the_same_bytes(screening, library, whole, tmp_path):
    out = tmp_path / "table.csv"
    tally = screen(screening, library, out, limit=777)
    assert (tally.rows, tally.done) == (777, False)
    # What a killed process had written after it last said how far it was.
    with out.open("ab") as file:
        file.write(whole.read_bytes()[out.stat().st_size :][:40_000] + b'778,"CC')
    tally = screen(screening, library, out)
    assert (tally.rows, tally.done) == (len(rows_of(whole)), True)
    assert out.read_bytes() == whole.read_bytes()


def test_the_check_of_bytes_catches_progress_that_counts_unfinished_rows(
    screening, library, whole, tmp_path
):
    out = tmp_path / "table.csv"
    screen(screening, library, out, limit=777)
    with out.open("ab") as file:
        file.write(b"778,CC")
    path = progress_file(out)
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"size": out.stat().st_size}))
    screen(screening, library, out)
    assert out.read_bytes() != whole.read_bytes()


def test_a_killed_process_is_continued_and_leaves_no_worker(
    screening, measured, library, whole, tmp_path
):
    long = tmp_path / "long.smi"
    long.write_bytes(library.read_bytes() * 4)
    out = tmp_path / "table.csv"
    command = [sys.executable, "-m", "sciwm", "screen", str(long), "--out", str(out)]
    command += ["--objective", screening.objective, "--table", str(measured)]
    command += ["--units", '{"worth": "V"}', "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + HUNG
    path = progress_file(out)
    while not (path.is_file() and json.loads(path.read_text())["rows"]):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = [int(one) for one in children.read_text().split()] if children.exists() else []
    for task in Path(f"/proc/{process.pid}/task").glob("*/children"):
        workers += [int(one) for one in task.read_text().split()]
    process.kill()
    process.wait()
    done = json.loads(path.read_text())["rows"]
    assert 0 < done < len(long.read_bytes().split(b"\n")) - 1, "it was killed too late"
    while any(alive(one) for one in workers):
        assert time.monotonic() < end, "workers outlived the screening"
        time.sleep(0.05)
    assert main([*command[3:]]) == 0
    columns = [[row[name] for name in ("smiles", "problem", "score")] for row in rows_of(out)]
    expected = [[row[name] for name in ("smiles", "problem", "score")] for row in rows_of(whole)]
    assert columns == expected * 4
    assert [int(row["line"]) for row in rows_of(out)] == list(range(1, len(columns) + 1))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_two_workers_give_the_bytes_of_one(screening, library, whole, tmp_path):
    screen(screening, library, tmp_path / "two.csv", workers=2)
    assert (tmp_path / "two.csv").read_bytes() == whole.read_bytes()


def test_a_packed_library_gives_the_same_table(screening, library, whole, tmp_path):
    packed = tmp_path / "library.smi.gz"
    packed.write_bytes(gzip.compress(library.read_bytes(), 1))
    screen(screening, packed, tmp_path / "table.csv", limit=300)
    screen(screening, packed, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes() == whole.read_bytes()


def test_other_settings_another_library_or_table_are_refused(
    screening, library, measured, tmp_path
):
    small = tmp_path / "small.smi"
    small.write_text("CCO\nCCN\nCCC\n")
    own = tmp_path / "measured.csv"
    own.write_text(measured.read_text())
    ours = replace(screening, table=str(own))
    out = tmp_path / "table.csv"
    screen(ours, small, out, limit=2)
    refusal = "begun with another"
    for other in (
        replace(ours, objective="maximize worth"),
        replace(ours, gates=GATES[:1]),
        replace(ours, seed=1),
    ):
        with pytest.raises(ValueError, match=refusal):
            screen(other, small, out)
    # Files are known by what they hold: neither name nor size nor date would tell.
    small.write_text("CCO\nCCN\nCCF\n")
    with pytest.raises(ValueError, match=refusal):
        screen(ours, small, out)
    small.write_text("CCO\nCCN\nCCC\n")
    own.write_text(measured.read_text().replace("1.08", "1.09"))
    with pytest.raises(ValueError, match=refusal):
        screen(ours, small, out)
    own.write_text(measured.read_text())
    assert screen(ours, small, out).rows == 3
    out.write_bytes(out.read_bytes()[:-5])
    with pytest.raises(ValueError, match="it was changed"):
        screen(ours, small, out)
    progress_file(out).unlink()
    with pytest.raises(ValueError, match="no screening that could go on"):
        screen(ours, small, out)


def test_a_kill_before_the_first_row_is_no_obstacle(screening, tmp_path):
    small = tmp_path / "small.smi"
    small.write_text("CCO\n")
    out = tmp_path / "table.csv"
    identity = module.identity_of(screening, small)[0]
    Progress(identity).save(out)
    out.write_text("line,smi")
    assert screen(screening, small, out).rows == 1
    assert len(rows_of(out)) == 1


def test_nobody_else_writes_the_same_table(screening, library, tmp_path):
    out = tmp_path / "table.csv"
    lock = FileLock(tmp_path / "table.csv.lock")
    with pytest.raises(ValueError, match="another process is writing"):
        screen(screening, library, out)
    lock.release()


def test_columns_of_the_library_never_hide_ours(screening, tmp_path):
    path = tmp_path / "scored.csv"
    path.write_text(
        "SMILES,score,worth,line,flag,problem,library_score,note\n"
        'CCO,9,8,7,six,five,4,"a, ""quoted""\nnote"\n'
        "C1CC(,9,8,7,six,five,4,none\n"
    )
    screen(screening, path, tmp_path / "table.csv")
    first, broken = rows_of(tmp_path / "table.csv")
    for row in (first, broken):
        assert (row["library_score"], row["library_score_2"]) == ("4", "9")
        assert [row[f"library_{n}"] for n in ("worth", "line", "flag", "problem")] == [
            "8",
            "7",
            "six",
            "five",
        ]
    assert first["note"] == 'a, "quoted"\nnote'
    assert (first["line"], first["smiles"], first["problem"]) == ("2", "CCO", "")
    assert float(first["score"]) < 0
    # A row without a result must not pass off the library's numbers as ours.
    assert (broken["score"], broken["worth"], broken["flag"]) == ("", "", "")
    assert broken["problem"].startswith("parsing")
    columns = (tmp_path / "table.csv").read_text().split("\n")[0].split(",")
    assert len(columns) == len(set(columns))


def test_parquet_holds_what_the_csv_holds(screening, measured, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs sciwm[parquet]")
    path = tmp_path / "library.csv"
    lines = ['C1CC(,"two\nlines",1.5', "CCO,,", "COc1ccccc1,é,x", f"{'C' * 5000},{'n' * 9000},"]
    path.write_text("\n".join(["smiles,name,score", *lines]) + "\n", encoding="utf-8")
    command = ["screen", str(path), "--objective", screening.objective, "--table", str(measured)]
    command += ["--units", '{"worth": "V"}']
    assert main([*command, "--out", str(tmp_path / "table.csv")]) == 0
    assert main([*command, "--out", str(tmp_path / "table.parquet")]) == 0
    text = rows_of(tmp_path / "table.csv")
    found = parquet.read_table(tmp_path / "table.parquet").to_pylist()
    assert [list(row) for row in found] == [list(row) for row in text]
    for row, expected in zip(found, text, strict=True):
        for name, value in row.items():
            if isinstance(value, str):
                assert value == expected[name]
            else:
                assert value == (float(expected[name]) if expected[name] else None)
    assert found[0]["name"] == "two\nlines"
    assert len(text[3]["smiles"]) == len(text[3]["name"]) == LONGEST_CELL
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "library.csv",
        "table.csv",
        "table.csv.progress.json",
        "table.parquet",
    ]
    # A complete one is not begun again.
    assert main([*command, "--out", str(tmp_path / "table.parquet")]) == 2
    assert "is complete" in capsys.readouterr().err


def test_an_empty_library_is_an_empty_table(screening, tmp_path):
    for name, content in (("empty.smi", ""), ("empty.csv", "smiles,name\n")):
        path = tmp_path / name
        path.write_text(content)
        tally = screen(screening, path, tmp_path / f"{name}.out.csv")
        assert (tally.rows, tally.problems, tally.done) == (0, {}, True)
        assert rows_of(tmp_path / f"{name}.out.csv") == []
        assert best(tmp_path / f"{name}.out.csv") == []


def test_what_is_unlike_the_table_is_flagged_and_never_best(screening):
    judge = Judge(screening)
    alike = judge.judge(MEASURED)
    unlike = ["[SiH3]CCCC[SiH3]", "O=S(=O)(O)C(F)(F)C(F)(F)F", "C1CC2CC1CC2Cl", "BrC(Br)C(Br)I"]
    assert sum("flag" in one for one in alike) <= 1
    assert all("unlike the measured" in one["flag"] for one in judge.judge(unlike))


def test_the_best_are_feasible_unflagged_and_each_named_once(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(
        "line,smiles,problem,score,feasible,flag\n1,A,,5,1,far\n2,B,,4,0,\n3,C,,1,1,\n4,D,,3,1,\n"
        "5,D,,3,1,\n6,E,bad,,,\n7,F,,2,1,\n8,C,,1,1,\n"
    )
    assert [row["line"] for row in best(path, 2)] == ["4", "7"]
    assert [row["line"] for row in best(path, 9)] == ["4", "7", "3"]
    several = path.read_text().replace("score", "score_1")
    path.write_text(several)
    assert [row["line"] for row in best(path, 1)] == ["4"]


def test_molecules_without_a_descriptor_do_not_stop_the_others(screening):
    hydrogen, ether = Judge(screening).judge(["[H][H]", "COC"])
    assert hydrogen["sa_score"] == ""
    assert hydrogen["feasible"] == "0"
    assert ether["sa_score"] != ""


class Fragile(Workers):
    """One whose process dies of one molecule; of all of them when `broken`."""

    count = 1

    def __init__(self, broken: bool = False):
        self.broken = broken

    def judged(self, smiles):
        future: Future = Future()
        if self.broken or "deadly" in smiles:
            future.set_exception(RuntimeError("the process was lost"))
        else:
            future.set_result([{"score": one} for one in smiles])
        return future

    def close(self):
        return


def test_a_molecule_that_ends_its_process_is_told_and_the_others_are_judged(tmp_path):
    path = tmp_path / "library.smi"
    path.write_text("A\ndeadly\n\nB\n")
    rows = list(read_library(path))
    [(same, records)] = module._judged(Fragile(), iter([rows]))
    assert same == rows
    assert [one.get("score") for one in records] == ["A", None, None, "B"]
    assert records[1]["problem"].startswith("worker: RuntimeError")
    assert records[2]["problem"].startswith("reading")
    # Where no molecule survives, the fault is elsewhere, and a table of problems would hide it.
    with pytest.raises(RuntimeError, match="lost"):
        list(module._judged(Fragile(broken=True), iter([rows])))


def test_what_a_lost_node_had_begun_is_tried_again(tmp_path):
    class Unlucky(Fragile):
        tries = 2
        alone = 0

        def judged(self, smiles):
            if "deadly" in smiles and len(smiles) == 1:
                self.alone += 1
            if self.alone == 2:
                smiles = ["mild" if one == "deadly" else one for one in smiles]
            return super().judged(smiles)

    path = tmp_path / "library.smi"
    path.write_text("A\ndeadly\n")
    [(_, records)] = module._judged(Unlucky(), iter([list(read_library(path))]))
    assert [one.get("score") for one in records] == ["A", "mild"]


def test_an_ensemble_of_worlds_gives_intervals_and_flags_what_it_never_saw(tmp_path):
    for k in range(2):
        content = loaded_without_digest()
        with torch.no_grad():
            for one in content.model.parameters():
                one.mul_(1.01 ** (k + 1))
            content.model.constants.sub_(50.0)  # bound molecules lie below zero
        archives.save(content, tmp_path / f"world{k}.pt")
    worlds = [str(tmp_path / f"world{k}.pt") for k in range(2)]
    path = tmp_path / "library.smi"
    path.write_text("O\nCCO\nC1CC(\n")
    out = tmp_path / "table.csv"
    tally = screen(Screening("minimize relaxed_energy", worlds), path, out)
    water, ethanol, broken = rows_of(out)
    assert float(water["relaxed_energy_upper"]) > float(water["relaxed_energy"])
    assert not water["flag"]
    assert "particle types" in ethanol["flag"]
    assert ethanol["relaxed_energy"] == ""
    assert broken["problem"].startswith("parsing")
    assert (tally.flagged, tally.problems) == (1, {"parsing": 1})
    assert [row["smiles"] for row in best(out)] == ["O"]
    # A world that was trained on is another world.
    (tmp_path / "world1.pt").write_bytes((tmp_path / "world0.pt").read_bytes())
    with pytest.raises(ValueError, match="begun with another"):
        screen(Screening("minimize relaxed_energy", worlds), path, out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objective", "maximize gap"], "nothing to predict gap"),
        (["--objective", "maximize gap", "--table", "TABLE"], "no column 'gap'"),
        (["--objective", "maximize worth", "--table", "TABLE"], "worth"),
        (["--objective", "maximize logp", "--limit", "0"], "limit must be at least 1, got 0"),
        (["--objective", "maximize logp", "--out", "t.xlsx"], "neither .csv nor .parquet"),
        (["--objective", "maximize logp", "--elements", '["Xy"]'], "'Xy'"),
    ],
)
def test_mistakes_are_one_sentence(options, message, measured, tmp_path, capsys):
    path = tmp_path / "library.smi"
    path.write_text("CCO\n")
    options = [str(measured) if one == "TABLE" else one for one in options]
    out = [] if "--out" in options else ["--out", str(tmp_path / "t.csv")]
    assert main(["screen", str(path), *options, *out]) == 2
    error = capsys.readouterr().err
    assert re.search(re.escape(message), error)
    assert "Traceback" not in error


def test_tables_are_written_as_any_reader_expects():
    table = Table(["name"], ["problem", "score"])
    assert table.head() == b"line,smiles,name,problem,score\n"
    row = next(iter([module.LibraryRecord(3, "CC", {"name": 'a"b', "late": "x"}, 3)]))
    assert table.rows([row], [{"score": "1"}]) == b'3,CC,"a""b",,1\n'


def test_conversion_to_parquet_leaves_nothing_half_done(tmp_path):
    pytest.importorskip("pyarrow", reason="Parquet needs sciwm[parquet]")
    path = tmp_path / "table.csv"
    path.write_text("line,smiles,problem,score,feasible,flag\n1,C,,none,1,\n")
    with pytest.raises(ValueError, match="none"):
        to_parquet(path, tmp_path / "table.parquet")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        ("maximize sa_score / (sa_score - sa_score)", "division of"),
        ("maximize log(0 * sa_score)", "log of 0"),
        ("maximize sa_score; minimize sqrt(0 - sa_score)", "sqrt of -"),
    ],
)
def test_a_screening_without_one_finite_score_says_why(objective, reason, tmp_path, capsys):
    library, out = tmp_path / "library.smi", tmp_path / "table.csv"
    library.write_text("CCO\nnonsense\nCCN\n")
    words = ["screen", str(library), "--objective", objective, "--out", str(out)]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "none of 3 molecules has a finite score" in told
    assert reason in told
    rows = rows_of(out)
    assert [bool(row["problem"]) for row in rows] == [False, True, False]
    assert all(reason in row["flag"] for row in rows if not row["problem"])


def test_rows_without_a_finite_score_are_flagged_and_the_others_ranked(tmp_path, capsys):
    library, out = tmp_path / "library.csv", tmp_path / "table.csv"
    # A column of the library that has the name of our scores is not taken for one.
    library.write_text("smiles,score\nCCO,9\nC,9\nCCCN,9\n")
    text = "maximize log(heavy_atoms - 2); minimize sa_score"
    assert main(["screen", str(library), "--objective", text, "--out", str(out)]) == 0
    rows = rows_of(out)
    assert [row["score_1"] for row in rows] == ["0", "", "0.693147"]
    assert rows[1]["flag"] == "the score is not finite: log of -1"
    assert [row["smiles"] for row in best(out)] == ["CCCN", "CCO"]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Parsl's own sockets and pipes
def test_a_cluster_gives_the_bytes_of_one_process_though_a_worker_is_killed(
    screening, library, whole, tmp_path
):
    """Parsl on this machine with two workers, one of which is killed while it judges."""
    pytest.importorskip("parsl", reason="parsl is not installed")
    from sciwm.discovery.experiment.oracle.parsl_executor import Cluster

    long = tmp_path / "long.smi"
    long.write_bytes(library.read_bytes() * 2)
    out = tmp_path / "table.csv"
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + HUNG
        path = progress_file(out)
        while not (path.is_file() and json.loads(path.read_text())["rows"]):
            if time.monotonic() > end:
                return
            time.sleep(0.01)
        killed.append(workers_in(tmp_path)[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    tally = screen(screening, long, out, cluster=Cluster("local", workers=2))
    killer.join()
    assert killed
    assert tally.done
    columns = [[row[name] for name in ("smiles", "problem", "score")] for row in rows_of(out)]
    expected = [[row[name] for name in ("smiles", "problem", "score")] for row in rows_of(whole)]
    assert columns == expected * 2
    assert [int(row["line"]) for row in rows_of(out)] == list(range(1, len(columns) + 1))


def workers_in(folder: Path) -> list[int]:
    """Processes that Parsl's manager of this folder started, and that have judged."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            above = Path(f"/proc/{parent}/cmdline").read_bytes()
            ours = b"process_worker_pool" in above and str(folder).encode() in above
            if ours and "rdkit" in (process / "maps").read_text():
                found.append(int(process.name))
    return found

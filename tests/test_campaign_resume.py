"""A campaign with real reference runs: killed and resumed it ends as an undisturbed one, and pays once."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import HUNG
from rdkit import Chem

from sciwm.cli import main
from sciwm.discovery.experiment.ledger import Ledger
from sciwm.discovery.problem.hypothesis import Hypothesis, Measurement

pytestmark = pytest.mark.crash

pytest.importorskip("tblite", reason="GFN2-xTB needs the extra sciwm[xtb]")

FAILING = "F[U](F)(F)(F)(F)F"  # GFN2 ends with radon
MOLECULES = ["O", "OO", "C#N", "C", "N", "CO", FAILING]
CALLS = 6


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    (folder / "library.smi").write_text("\n".join(MOLECULES) + "\n")
    path = folder / "job.yaml"
    content = {
        "objective": "maximize dipole",
        "proposers": [
            {
                "class_path": "sciwm.discovery.planners.proposers.library.Library",
                "init_args": {"path": str(folder / "library.smi")},
            }
        ],
        "workers": 1,
        "plan": {"calls": CALLS, "start": 3, "batch": 3, "pool": 20},
    }
    path.write_text(json.dumps(content))
    return path


def discover(job: Path, folder: Path, *options: str) -> int:
    return main(["discover", str(job), "--name", "c", "--folder", str(folder), *options])


def hypotheses(folder: Path) -> list[Hypothesis]:
    with Ledger(folder / "c" / "ledger.sqlite", read_only=True) as ledger:
        return ledger.campaign("c").hypotheses()


def answers(folder: Path) -> dict[str, tuple[int, int]]:
    """Which file every finished run has left, and when."""
    found = {}
    for path in (folder / "c" / "reference").glob("*.json"):
        state = path.stat()
        found[path.name] = (state.st_ino, state.st_mtime_ns)
    return found


def paid_again(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> int:
    return sum(after.get(name) != file for name, file in before.items())


def unlike(a: list[Hypothesis], b: list[Hypothesis]) -> int:
    """How many hypotheses differ in more than the seconds they took."""
    pairs = zip(a, b, strict=False)
    return sum(replace(x, cost=0.0) != replace(y, cost=0.0) for x, y in pairs) + abs(
        len(a) - len(b)
    )


@pytest.fixture(scope="module")
def undisturbed(job, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert discover(job, folder) == 0
    return folder


def test_a_molecule_that_fails_does_not_stop_the_others(undisturbed):
    found = hypotheses(undisturbed)
    assert len(found) == CALLS
    [failed] = [one for one in found if one.failure]
    assert failed.candidate.smiles == Chem.CanonSmiles(FAILING)
    assert "92" in failed.failure.reason
    assert all(one.measurements["dipole"].value >= 0 for one in found if one is not failed)
    assert {one.round for one in found} == {0, 1}


def test_after_a_kill_it_ends_as_an_undisturbed_one_and_pays_nothing_twice(
    job, undisturbed, tmp_path
):
    command = [sys.executable, "-m", "sciwm", "discover", str(job)]
    command += ["--name", "c", "--folder", str(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    end = time.monotonic() + HUNG
    while len(answers(tmp_path)) < 2:
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    process.wait()
    before = answers(tmp_path)
    assert len(before) < CALLS, "it was killed too late"
    assert discover(job, tmp_path) == 0
    after = answers(tmp_path)
    assert paid_again(before, after) == 0
    assert len(after) == CALLS
    assert unlike(hypotheses(undisturbed), hypotheses(tmp_path)) == 0
    # Called once more it has nothing left to do.
    assert discover(job, tmp_path) == 0
    assert answers(tmp_path) == after


def test_the_checks_catch_a_run_that_is_paid_again_and_another_value(undisturbed, tmp_path):
    before = answers(undisturbed)
    name = next(iter(before))
    path = undisturbed / "c" / "reference" / name
    copy = tmp_path / name
    copy.write_bytes(path.read_bytes())
    os.replace(copy, path)
    assert paid_again(before, answers(undisturbed)) == 1
    found = hypotheses(undisturbed)
    k = next(k for k, one in enumerate(found) if one.measurements)
    other = list(found)
    other[k] = replace(found[k], measurements={"dipole": Measurement(9.0)})
    assert unlike(found, other) == 1
    assert unlike(found, found[:-1]) == 1


def test_another_job_is_refused_and_a_larger_budget_is_not(job, undisturbed, capsys):
    assert discover(job, undisturbed, "--plan.batch", "2") == 2
    error = capsys.readouterr().err
    assert "begun with other settings" in error
    assert "batch" in error
    assert discover(job, undisturbed, "--seed", "1") == 2
    assert "seed" in capsys.readouterr().err
    assert len(hypotheses(undisturbed)) == CALLS
    assert discover(job, undisturbed, "--plan.calls", str(CALLS + 1)) == 0
    assert len(hypotheses(undisturbed)) == CALLS + 1


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("maximize wetness", "wetness"),
        ("maximize dipole; require wetness < 2", "wetness"),
        ("enlarge dipole", "maximize"),
    ],
)
def test_a_mistake_in_the_objective_is_one_sentence_and_costs_nothing(
    job, objective, message, tmp_path, capsys
):
    assert discover(job, tmp_path, "--objective", objective) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert answers(tmp_path) == {}

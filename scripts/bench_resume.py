"""A campaign with real reference runs, killed twenty times: runs lost or paid twice, and what differs.

Small molecules with a large dipole moment by GFN2-xTB, 40 reference runs on two workers: once
undisturbed, and once killed (SIGKILL) at twenty random moments and started again each time, in turn the
main process alone, whose workers finish what they are at, and everything. After each kill the files of all
finished runs are noted; a run that is paid again would write its file anew. About six minutes.

    python scripts/bench_resume.py [--kills 20] [--json_file FILE]
"""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli

from sciwm.core.progress import Bar
from sciwm.discovery.experiment.ledger import Ledger
from sciwm.discovery.problem.hypothesis import Hypothesis

JOB = {
    "objective": "maximize dipole; require sa_score < 4.5",
    "proposers": [
        {
            "class_path": "sciwm.discovery.planners.proposers.genetic.Genetic",
            "init_args": {"start": ["CC#N", "CC(N)=O", "CC(C)=O", "CF", "OCCO"], "max_heavy": 6},
        }
    ],
    "gates": [
        {
            "class_path": "sciwm.discovery.problem.gates.Elements",
            "init_args": {"allowed": ["C", "N", "O", "F"]},
        },
        {"class_path": "sciwm.discovery.problem.gates.ChargeAndSpin"},
    ],
    "workers": 2,
    "plan": {"start": 8, "batch": 8, "pool": 40, "generations": 2},
}


def main(
    calls: int = 40, kills: int = 20, seed: int = 0, folder: str | None = None,
    json_file: str | None = None,
) -> None:  # fmt: skip
    """Prints what became of the reference runs, and writes it.

    Args:
        calls: Reference runs.
        kills: How many times.
        seed: Of the moments.
        folder: Where the campaigns are kept; a temporary one where absent.
        json_file: Where to write the figures as JSON too.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(folder or temporary)
        place.mkdir(parents=True, exist_ok=True)
        job = place / "job.yaml"
        job.write_text(json.dumps(JOB | {"plan": JOB["plan"] | {"calls": calls}}))
        started = time.perf_counter()
        finish(begun(job, "undisturbed", place))
        undisturbed = time.perf_counter() - started
        started = time.perf_counter()
        done, changed = disturbed(job, place, kills, calls, np.random.default_rng(seed))
        figures = compared(place / "undisturbed", place / "killed", changed, calls)
        figures |= {
            "kills": {"value": done, "unit": ""},
            "seconds_undisturbed": {"value": round(undisturbed, 1), "unit": "s"},
            "seconds_with_kills": {"value": round(time.perf_counter() - started, 1), "unit": "s"},
        }
    print()
    for name, figure in figures.items():
        print(name, f"{figure['value']:g}", figure["unit"])
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1) + "\n")


def begun(job: Path, name: str, place: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sciwm", "discover", str(job)]
    command += ["--name", name, "--folder", str(place)]
    with (place / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        raise RuntimeError(f"the campaign ended with status {process.returncode}; see its log")


def disturbed(
    job: Path, place: Path, kills: int, calls: int, rng: np.random.Generator
) -> tuple[int, int]:
    """How often it was killed, and how many finished runs were written anew."""
    spool = place / "killed" / "reference"
    finished: dict[str, tuple[int, int, str]] = {}
    changed = done = 0
    for _ in Bar(range(kills), desc="kills", unit="kill"):
        process = begun(job, "killed", place)
        left = calls - len(answers(spool))
        # After so many more runs that all kills fall into what is left; one in four while it starts.
        wanted = len(answers(spool)) + int(rng.integers(1, 2 + 2 * left // (kills - done)))
        patience = rng.uniform(0, 15) if rng.random() < 0.25 else 300.0
        begin = time.perf_counter()
        below: set[int] = set()
        while process.poll() is None and time.perf_counter() - begin < patience:
            below |= set(descendants(process.pid))
            if len(answers(spool)) >= wanted:
                break
            time.sleep(0.02)
        time.sleep(rng.choice([0.0, rng.uniform(0, 2)]))
        if process.poll() is not None:
            finish(process)
            break
        below |= set(descendants(process.pid))
        process.kill()
        process.wait()
        if done % 2:
            for pid in below:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
        done += 1
        # Half of the time the next one starts while old workers are still at work.
        if rng.random() < 0.5:
            while any(alive(pid) for pid in below):
                time.sleep(0.05)
        now = answers(spool)
        changed += sum(now.get(name) != before for name, before in finished.items())
        finished = now
    finish(begun(job, "killed", place))
    now = answers(spool)
    changed += sum(now.get(name) != before for name, before in finished.items())
    return done, changed


def answers(spool: Path) -> dict[str, tuple[int, int, str]]:
    """Each finished run's file: which one it is, when it was written, and what it says."""
    found = {}
    for path in spool.glob("*.json"):
        state = path.stat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found[path.name] = (state.st_ino, state.st_mtime_ns, digest)
    return found


def descendants(pid: int) -> list[int]:
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def compared(whole: Path, killed: Path, changed: int, calls: int) -> dict[str, dict[str, object]]:
    """What the ledger of the killed campaign lacks, has twice, or has otherwise."""
    expected, found = hypotheses(whole), hypotheses(killed)
    chosen = [one for one in found if one.decision in ("chosen", "control")]
    without = [one for one in chosen if not one.measurements and one.failure is None]
    smiles = [one.candidate.smiles for one in chosen]
    spool = [json.loads(path.read_text()) for path in (killed / "reference").glob("*.json")]
    twice = len(smiles) - len(set(smiles)) + sum(one["attempts"] > 1 for one in spool)
    orphans = {one["smiles"] for one in spool} ^ set(smiles)
    with sqlite3.connect(killed / "ledger.sqlite") as connection:
        [[tries]] = connection.execute("SELECT COUNT(*) FROM attempt").fetchall()
    differences = sum(key(a) != key(b) for a, b in zip(expected, found, strict=False))
    differences += abs(len(expected) - len(found))
    figures = {
        "reference_runs": (len(chosen), "calls"),
        "reference_runs_lost_or_repeated": (
            len(without) + abs(calls - len(chosen)) + twice + changed + len(orphans),
            "calls",
        ),
        "tries_that_a_kill_interrupted": (tries - len(chosen), "tries"),
        "hypotheses": (len(found), ""),
        "hypotheses_unlike_the_undisturbed": (differences, ""),
    }
    return {name: {"value": value, "unit": unit} for name, (value, unit) in figures.items()}


def hypotheses(folder: Path) -> list[Hypothesis]:
    with Ledger(folder / "ledger.sqlite", read_only=True) as ledger:
        return ledger.campaign(folder.name).hypotheses()


def key(one: Hypothesis) -> tuple[object, ...]:
    """All but the seconds it took."""
    return (
        *(one.candidate, one.round, one.decision, one.why, one.model, one.predictions, one.score),
        *(one.measurements, one.measured_score, one.failure, one.verdict),
    )


if __name__ == "__main__":
    auto_cli(main)

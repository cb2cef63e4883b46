"""What a user's machine may do to a run, done on purpose: processes killed, disks full, servers away.

Everything happens to real processes of the command line with small worlds. Each case says what was
done, and what was wrong with what followed; the last line counts. What may go wrong: a traceback, a file
that cannot be read, work that is lost or done twice, an end that differs from an undisturbed one. About
twenty minutes on one core; PostgreSQL is stopped and started where its programs are installed, disks are
filled and permissions withdrawn where it runs as root.

    python scripts/break_things.py [--cases kill_train,full_disk] [--kills 20] [--json_file FILE]
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli

from sciwm.core.frame import Frame
from sciwm.data.h5md import H5MDWriter
from sciwm.discovery.experiment.ledger import Ledger

INTERRUPTED = 130
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
PATIENCE = 900.0
"""Seconds after which a process counts as hung."""
END = 5.0
"""Seconds in which one that has done its work is gone."""

WORLD = {
    "data": {
        "class_path": "sciwm.data.FrameData",
        "init_args": {"train": "frames.h5md", "valid": 10},
    },
    "task": {
        "class_path": "sciwm.training.ForceTask",
        "init_args": {
            "model": {
                "class_path": "sciwm.models.ForceField",
                "init_args": {
                    "encoder": {"cutoff": 4.0, "channels": 8, "lmax": 1, "layers": 1},
                    "reference_energies": {"H": 0.0, "O": 0.0},
                },
            }
        },
    },
    "max_steps": 400,
    "validate_every": 10,
    "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
}

CAMPAIGN = {
    "objective": "maximize dipole",
    "proposers": [
        {
            "class_path": "sciwm.discovery.planners.proposers.library.Library",
            "init_args": {"path": "library.smi"},
        }
    ],
    "workers": 2,
    "plan": {"calls": 10, "start": 4, "batch": 3, "pool": 20},
}
LIBRARY = ["O", "OO", "C#N", "C", "N", "CO", "C=O", "CC", "NN", "CN", "NC=O", "CC#N"]

COMMANDS = {
    "train": ["train", "world.yaml", "--name", "new"],
    "import": ["import", "frames.extxyz", "--to", "new.h5md"],
    "info": ["info", "frames.h5md"],
    "check": ["check", "runs/whole", "--data", "frames.h5md"],
    "evaluate": ["evaluate", "runs/whole", "--data", "frames.h5md", "--out", "evaluation"],
    "simulate": ["simulate", "runs/whole", "start.h5md", "20ps", "--out", "new.h5md"],
    "screen": ["screen", "many.smi", "--objective", "maximize sa_score", "--out", "new.csv"],
    "discover": ["discover", "campaign.yaml", "--name", "new"],
    "report": ["report", "runs/whole"],
}


def triangle(seed: int, spread: float) -> Frame:
    """Three atoms on springs of 1 Å, shaken."""
    rng = np.random.default_rng(seed)
    places = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.866, 0.0]])
    places += spread * rng.standard_normal((3, 3))
    arms = places[None] - places[:, None]
    others = 1 - np.eye(3)
    length = np.linalg.norm(arms, axis=-1) + np.eye(3)
    pull = 5.0 * (length - 1.0) * others
    return Frame(
        numbers=np.array([8, 1, 1]),
        positions=places,
        energy=float(1.25 * ((length - 1.0) ** 2 * others).sum()),
        forces=((pull / length)[..., None] * arms).sum(axis=1),
    )


def workplace(folder: Path) -> None:
    """Data, jobs and one trained world."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = [triangle(seed, 0.1) for seed in range(60)]
    for name, several in (("frames", frames), ("start", [triangle(0, 0.02)])):
        with H5MDWriter(folder / f"{name}.h5md") as writer:
            for frame in several:
                writer.append(frame)
    rows = []
    for frame in frames * 50:
        rows += [
            "3",
            f'Properties=species:S:1:pos:R:3:forces:R:3 energy={frame.energy} pbc="F F F"',
        ]
        assert frame.forces is not None
        for symbol, place, force in zip("OHH", frame.positions, frame.forces, strict=True):
            rows.append(" ".join([symbol, *(f"{x:.8f}" for x in (*place, *force))]))
    (folder / "frames.extxyz").write_text("\n".join(rows) + "\n")
    (folder / "library.smi").write_text("\n".join(LIBRARY) + "\n")
    (folder / "many.smi").write_text("\n".join(LIBRARY * 4000) + "\n")
    (folder / "world.yaml").write_text(json.dumps(WORLD))
    (folder / "campaign.yaml").write_text(json.dumps(CAMPAIGN))
    done(["train", "world.yaml", "--name", "whole", "--max_steps", "200"], folder)


def begun(arguments: list[str], folder: Path, **options: object) -> "subprocess.Popen[str]":
    """A command of the package in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "sciwm", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Status and words of a process; a hung one is ended, with status None's stand-in of -999."""
    try:
        words, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return -999, process.communicate()[0]
    return process.returncode, words


def done(arguments: list[str], folder: Path, **options: object) -> str:
    status, words = ended(begun(arguments, folder, **options))
    if status:
        raise RuntimeError(f"sciwm {' '.join(arguments)} ended with {status}: {words[-2000:]}")
    return words


def faults_of(status: int, words: str, expected: int, saying: str) -> list[str]:
    """What is wrong with the end of a process."""
    found = []
    if status != expected:
        found.append(f"ended with {status}, not {expected}: {words[-300:]!r}")
    if "Traceback" in words:
        found.append(f"a traceback: {words[words.index('Traceback') :][-600:]}")
    if saying not in words:
        found.append(f"does not say {saying!r}: {words[-300:]!r}")
    return found


# -- kills ----------------------------------------------------------------------------------------


def kill_train(
    folder: Path, kills: int, rng: np.random.Generator
) -> Iterator[tuple[str, list[str]]]:
    """SIGKILL at moments spread over a training; then it must end as one that nobody disturbed."""
    job = ["train", "world.yaml", "--max_steps", "1500"]
    begin = time.monotonic()
    done([*job, "--name", "undisturbed"], folder)
    length = time.monotonic() - begin
    run = folder / "runs" / "killed"
    for _ in range(kills):
        process = begun([*job, "--name", "killed"], folder)
        moment = rng.uniform(0.2, 1.0) * length
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        _, words = ended(process)
        faults = [words[-600:]] if "Traceback" in words else []
        for path in run.rglob("*.ckpt"):
            try:
                torch.load(path, weights_only=True)
            except Exception as error:
                faults.append(f"{path.name} cannot be read: {type(error).__name__}")
        yield f"training killed after {moment:.1f} of {length:.1f} s", faults
        if (run / "model.pt").is_file():
            shutil.rmtree(run)
    done([*job, "--name", "killed"], folder)
    whole, killed = (
        torch.load(folder / "runs" / name / "model.pt", weights_only=True)["state"]
        for name in ("undisturbed", "killed")
    )
    same = all(torch.equal(whole[key], killed[key]) for key in whole)
    yield "the weights after all kills", [] if same else ["are not those of an undisturbed run"]
    metrics = json.loads((run / "metrics.json").read_text())
    yield "its metrics", [] if metrics["last"] else ["miss the last errors"]


def kill_worker(
    folder: Path, kills: int, rng: np.random.Generator
) -> Iterator[tuple[str, list[str]]]:
    """SIGKILL of one worker of a campaign, which must go on and measure everything."""
    del kills
    process = begun(["discover", "campaign.yaml", "--name", "worker"], folder)
    spool = folder / "runs" / "worker" / "reference"
    killed = 0
    while process.poll() is None and killed < 2:
        for sign in spool.glob("*.running"):
            try:
                os.kill(json.loads(sign.read_text())["pid"], signal.SIGKILL)
                killed += 1
            except (ValueError, OSError):
                continue
            break
        time.sleep(float(rng.uniform(0.0, 0.3)))
    faults = faults_of(*ended(process), 0, "every hypothesis")
    found = hypotheses(folder / "runs" / "worker" / "ledger.sqlite", "worker")
    missing = [one.candidate.smiles for one in found if not one.measurements]
    faults += [f"{', '.join(missing)} have no measurement"] if missing else []
    yield f"{killed} workers of a campaign killed at work", faults


# -- Ctrl-C ---------------------------------------------------------------------------------------


def interrupts(
    folder: Path, kills: int, rng: np.random.Generator
) -> Iterator[tuple[str, list[str]]]:
    """SIGINT at moments from the first on, in each command."""
    for name, arguments in COMMANDS.items():
        for moment in np.linspace(0.5, 8.0, max(kills // 4, 2)):
            forget(folder)
            process = begun(arguments, folder)
            try:
                process.wait(float(moment))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGINT)
            pressed = time.monotonic()
            status, words = ended(process)
            # Done already, of a check also with a verdict, or too far in its end to answer.
            over = status in (0, 1, -signal.SIGINT) and time.monotonic() - pressed < END
            expected = (status, "") if over else (INTERRUPTED, "stopped")
            yield f"Ctrl-C in {name} after {moment:.1f} s", faults_of(status, words, *expected)
    del rng


# -- disks ----------------------------------------------------------------------------------------


def full_disk(
    folder: Path, kills: int, rng: np.random.Generator
) -> Iterator[tuple[str, list[str]]]:
    """Outputs on a disk with too little room; with more, the same command goes on."""
    del kills, rng
    for name in ("train", "simulate", "discover", "import", "screen", "evaluate"):
        arguments = COMMANDS[name]
        for size in ("48k", "300k"):
            forget(folder)
            with mounted(folder / "small", size) as small:
                at = located(name, arguments, small)
                status, words = ended(begun(at, folder))
                faults = faults_of(status, words, 2, "") if status else []
                if status and name != "evaluate":
                    faults += [] if "space" in words.lower() else [f"says {words[-300:]!r}"]
                subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
                again, words = ended(begun(at, folder))
                faults += faults_of(again, words, 0, "") if again != 0 else []
            yield f"{name} on a disk of {size}", faults


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def located(name: str, arguments: list[str], place: Path) -> list[str]:
    """The command with its output in another place."""
    if name in ("train", "discover"):
        return [*arguments, "--folder", str(place)]
    if name == "simulate":
        arguments = [*arguments[:3], "0.2ps", *arguments[4:]]
    moved = [str(place / a) if a in ("new.h5md", "new.csv", "evaluation") else a for a in arguments]
    return [*moved, "--every", "1"] if name == "simulate" else moved


def read_only(
    folder: Path, kills: int, rng: np.random.Generator
) -> Iterator[tuple[str, list[str]]]:
    """Every command where one may read but not write."""
    del kills, rng
    forget(folder)
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in places:
        path.chmod(0o555)
    for name, arguments in COMMANDS.items():
        # Root may write everywhere, unless it gives that up.
        bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        command = [*(bound if os.getuid() == 0 else []), sys.executable, "-m", "sciwm", *arguments]
        found = subprocess.run(
            command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE
        )
        words = found.stdout + found.stderr
        expected = 0 if name == "info" else 2
        yield f"{name} where one may only read", faults_of(found.returncode, words, expected, "")
    for path in places:
        path.chmod(0o755)


# -- two at once, and files that go ---------------------------------------------------------------


def twice(folder: Path, kills: int, rng: np.random.Generator) -> Iterator[tuple[str, list[str]]]:
    """The same command from two processes: one does it, the other is told so."""
    del kills, rng
    for name in ("train", "simulate", "screen", "discover", "import"):
        forget(folder)
        arguments = COMMANDS[name]
        if name == "train":
            arguments = [*arguments, "--max_steps", "3000"]
        if name == "simulate":
            arguments = [*arguments[:3], "2ps", *arguments[4:]]
        one, two = begun(arguments, folder), begun(arguments, folder)
        ends = sorted([ended(one), ended(two)])
        faults = faults_of(*ends[0], 0, "")
        if ends[1][0]:
            faults += faults_of(
                *ends[1], 2, "is being written" if name == "discover" else "another"
            )
        elif name not in ("screen", "discover"):  # which may find it done
            faults += [] if "finished" in ends[1][1] else ["both did it"]
        yield f"{name} from two processes", faults


def deleted(folder: Path, kills: int, rng: np.random.Generator) -> Iterator[tuple[str, list[str]]]:
    """Inputs removed, and cut short, while they are read."""
    del kills
    inputs = {"train": "frames.h5md", "import": "frames.extxyz", "screen": "many.smi"}
    inputs |= {"evaluate": "frames.h5md", "check": "frames.h5md", "simulate": "runs/whole/model.pt"}
    for name, input in inputs.items():
        for cut in (False, True):
            forget(folder)
            path, kept = folder / input, folder / "kept"
            shutil.copy(path, kept)
            process = begun(COMMANDS[name], folder)
            time.sleep(float(rng.uniform(1.0, 5.0)))
            if cut:
                os.truncate(path, path.stat().st_size // 2)
            else:
                path.unlink()
            status, words = ended(process)
            os.replace(kept, path)
            what = "cut short" if cut else "removed"
            faults = faults_of(status, words, 2, "") if status else []
            yield f"{input} {what} during {name}", faults


# -- a server that goes away ----------------------------------------------------------------------


def postgres(folder: Path, kills: int, rng: np.random.Generator) -> Iterator[tuple[str, list[str]]]:
    """The server stops in the middle of a campaign: for a moment, and for good until it is resumed."""
    del kills
    done(["discover", "campaign.yaml", "--name", "whole"], folder)
    expected = measured(hypotheses(folder / "runs" / "whole" / "ledger.sqlite", "whole"))
    with server() as (address, control):
        for name, away in (("moment", 3.0), ("good", 90.0)):
            arguments = ["discover", "campaign.yaml", "--name", name, "--ledger", address]
            process = begun(arguments, folder)
            spool = folder / "runs" / name / "reference"
            while process.poll() is None and len(list(spool.glob("*.json"))) < 2:
                time.sleep(0.01)
            time.sleep(float(rng.uniform(0, 0.3)))
            control("stop")
            with suppress(subprocess.TimeoutExpired):
                process.wait(away)
            control("start")
            status, words = ended(process)
            if name == "moment":
                faults = faults_of(status, words, 0, "every hypothesis")
            else:
                faults = faults_of(status, words, 2, "cannot be reached")
                faults += faults_of(*ended(begun(arguments, folder)), 0, "every hypothesis")
            found = measured(hypotheses(address, name))
            faults += [] if found == expected else ["it does not end as an undisturbed campaign"]
            again = [p for p in spool.glob("*.json") if json.loads(p.read_text())["attempts"] > 1]
            faults += [f"{len(again)} runs were paid again"] if again else []
            yield f"PostgreSQL away for {away:.0f} s", faults


@contextmanager
def server() -> Iterator[tuple[str, Callable[[str], None]]]:
    """A private PostgreSQL server without a network port, and how to stop and start it."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        home = Path(temporary)
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if user:
            shutil.chown(home, "postgres")

        def run(*command: str) -> None:
            subprocess.run(
                [*user, *command], cwd=home, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE
            )

        def control(verb: str) -> None:
            ctl = str(programs / "pg_ctl")
            if verb == "stop":
                run(ctl, "stop", "-m", "immediate", "-D", "data")
            else:
                options = f"-c listen_addresses='' -k {home}"
                run(ctl, "start", "-w", "-D", "data", "-l", str(home / "log"), "-o", options)

        run(str(programs / "initdb"), "-D", "data", "-U", "sciwm", "--auth=trust", "--locale=C")
        control("start")
        try:
            yield f"postgresql://sciwm@/postgres?host={home}", control
        finally:
            control("stop")


def hypotheses(where: Path | str, name: str) -> list:
    with Ledger(where, read_only=True) as ledger:
        return ledger.campaign(name).hypotheses()


def measured(found: list) -> list[tuple[object, ...]]:
    """All but what it cost."""
    return [(one.candidate, one.round, one.decision, one.measurements) for one in found]


def forget(folder: Path) -> None:
    """What the commands leave behind."""
    for path in [*folder.glob("new*"), *folder.glob("*.partial"), folder / "evaluation"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.rmtree(folder / "runs" / "new", ignore_errors=True)


CASES = {
    case.__name__: case
    for case in (
        *(kill_train, kill_worker, interrupts, full_disk, read_only, twice, deleted, postgres),
    )
}


def main(
    cases: str = ",".join(CASES), kills: int = 20, seed: int = 0, json_file: str | None = None
) -> None:
    """Prints what went wrong in each case, and how often.

    Args:
        cases: Which, separated by commas.
        kills: Of a training.
        seed: Of the moments.
        json_file: Where to write the figures as JSON too.
    """
    # A shell that starts this in the background passes on that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = np.random.default_rng(seed)
    figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "work"
        workplace(folder)
        for name in cases.split(","):
            tried = wrong = 0
            for what, faults in CASES[name](folder, kills, rng):
                tried, wrong = tried + 1, wrong + bool(faults)
                print(f"{what}: {'; '.join(faults) or 'as it should be'}", flush=True)
            figures |= {
                f"{name}_tried": {"value": tried, "unit": "times"},
                f"{name}_wrong": {"value": wrong, "unit": "times"},
            }
    for name, figure in figures.items():
        print(name, figure["value"])
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    auto_cli(main)

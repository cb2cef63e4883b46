"""Steps that benchmarks of learning from others' labels share; each is done once and found again."""

import json
import resource
import subprocess
import sys
from pathlib import Path

from sciwm.cli.simulate import SOME_STOPPED

GFN2_ATOMS = (
    "--task.model.init_args.reference_energies",
    "{H: -10.707211, C: -48.798080, O: -102.521808}",
)
"""eV, free atoms in GFN2-xTB (datasets/ethanol_xtb/recipe.py)."""


def sciwm_command(*words: str, may_stop: bool = False) -> None:
    """Runs `sciwm`.

    Args:
        may_stop: Simulations of which some stopped early are good enough.
    """
    done = subprocess.run([sys.executable, "-m", "sciwm", *words])
    if done.returncode not in ((0, SOME_STOPPED) if may_stop else (0,)):
        raise SystemExit(done.returncode)


def labelled(labels: Path, simulator: str, start: Path, time: str, *words: str) -> float:
    """Writes dynamics with labels, and tells the processor seconds that took, over all attempts."""
    finished, spent = labels.with_suffix(".finished"), labels.with_suffix(".seconds")
    if not finished.is_file():
        began = _spent_by_commands()
        command = ["simulate", simulator, str(start), time, "--out", str(labels), *words]
        try:
            sciwm_command(*command, may_stop=True)
            finished.touch()
        finally:
            with spent.open("a") as file:
                print(_spent_by_commands() - began, file=file)
    return sum(float(line) for line in spent.read_text().split())


def trained(preset: str, run: Path, train: Path, budget: int, seed: int, *options: str) -> Path:
    """The run folder, after `budget` processor seconds of training."""
    if not (run / "metrics.json").is_file():
        where = ["--name", run.name, "--folder", str(run.parent), "--seed", str(seed)]
        words = ["--data.train", str(train), "--task.cpu_seconds", str(budget), *options]
        sciwm_command("train", preset, *words, *where)
    return run


def cost(run: Path) -> float:
    """Processor seconds of training, compiling included."""
    record = json.loads((run / "metrics.json").read_text())
    return float(record["cpu_seconds"] + record["build_cpu_seconds"])


def _spent_by_commands() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

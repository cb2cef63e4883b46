"""Steps that benchmarks of learning GFN2-xTB first have in common; each is done once and found again."""

import subprocess
import sys
from pathlib import Path

GFN2_ATOMS = (
    "--task.model.init_args.reference_energies",
    "{H: -10.707211, C: -48.798080, O: -102.521808}",
)
"""eV, free atoms in GFN2-xTB (datasets/ethanol_xtb/recipe.py)."""


def sciwm_command(*words: str) -> None:
    """Runs `sciwm`."""
    subprocess.run([sys.executable, "-m", "sciwm", *words], check=True)


def trained(preset: str, run: Path, train: Path, budget: int, seed: int, *options: str) -> Path:
    """The run folder, after `budget` processor seconds of training."""
    if not (run / "model.pt").is_file():
        where = ["--name", run.name, "--folder", str(run.parent), "--seed", str(seed)]
        words = ["--data.train", str(train), "--task.cpu_seconds", str(budget), *options]
        sciwm_command("train", preset, *words, *where)
    return run

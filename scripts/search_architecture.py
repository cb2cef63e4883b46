"""The search behind the presets: what each choice is worth at an equal budget of processor time.

Trains `configs/acac.yaml` with one thing changed at a time and prints errors on the 50 held-back frames; test
frames are not looked at. Finished rows are kept, so an interrupted search goes on.

    python scripts/search_architecture.py [--budget 100] [--rows '["1 layer"]'] [--json_file FILE]
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from jsonargparse import auto_cli

ENCODER = "--task.model.init_args.encoder"
ROWS = {
    "default": [],
    "32 channels": [f"{ENCODER}.channels", "32"],
    "degree 3, 32 channels": [f"{ENCODER}.lmax", "3", f"{ENCODER}.channels", "32"],
    "degree 1": [f"{ENCODER}.lmax", "1"],
    "1 layer": [f"{ENCODER}.layers", "1"],
    "3 layers, 32 channels": [f"{ENCODER}.layers", "3", f"{ENCODER}.channels", "32"],
    "cutoff 4": [f"{ENCODER}.cutoff", "4.0"],
    "12 radial functions": [f"{ENCODER}.basis_size", "12"],
    "matrix rate 0.01": ["--task.matrix_rate", "0.01"],
    "matrix rate 0.0025": ["--task.matrix_rate", "0.0025"],
    "batch of 10": ["--data.batch_size", "10"],
    "energy weight 10": ["--task.energy_weight", "10"],
    "no basis decay": [f"{ENCODER}.basis_decay", "0"],
    "2 rounds of orthogonalisation": ["--task.matrix_rounds", "2"],
    "not compiled": ["--task.compiled", "false"],
}


def main(
    budget: int = 100,
    rows: list[str] | None = None,
    train: str = "runs/bench_acac/train.h5md",
    json_file: str | None = None,
    folder: str = "runs/search",
) -> None:
    """Prints one line for each row.

    Args:
        budget: Processor seconds of training.
        rows: Which; all by default.
        train: The frames, as `bench_acac.py` imports them.
        json_file: Where to write the table as JSON.
        folder: Where to work.
    """
    table = {}
    for name in rows or ROWS:
        run = Path(folder, f"{name.replace(' ', '_').replace(',', '')}-{budget}s")
        words = ["train", "configs/acac.yaml", "--data.train", train, "--folder", folder]
        words += ["--name", run.name, "--task.cpu_seconds", str(budget), *ROWS[name]]
        if not (run / "metrics.json").is_file():
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run([sys.executable, "-m", "sciwm", *words], check=True, env=environment)
        found = json.loads((run / "metrics.json").read_text())
        table[name] = {
            "force_rmse": 1e3 * found["last"]["valid/force"],
            "energy_rmse": 1e3 * found["last"]["valid/energy"],
            "steps": found["steps"],
            "ms_per_step": 1e3 * found["cpu_seconds"] / found["steps"],
            "parameters": found["parameters"],
            "command": "sciwm " + " ".join(words),
        }
        row = table[name]
        print(
            f"{name:24s} {row['force_rmse']:7.2f} meV/Å {row['energy_rmse']:7.2f} meV "
            f"{row['steps']:7d} steps of {row['ms_per_step']:6.2f} ms {row['parameters']:8d} parameters"
        )
    if json_file:
        Path(json_file).write_text(json.dumps(table, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    auto_cli(main)

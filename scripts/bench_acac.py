"""Accuracy on acetylacetone after a fixed budget of processor time, beside the null model.

Imports the published files (train_300K: 450 to learn from, 50 held back), trains `configs/acac.yaml` for
480 processor seconds on one thread, and reports root mean square errors on test_MD_300K, once for each
seed; about 9 minutes a seed. Published after full training on a GPU: MACE 0.9 meV and
5.1 meV/Å (arXiv:2206.07697).

    python scripts/bench_acac.py [--seeds 3] [--test 600K=test_MD_600K.xyz] [--json_file FILE]
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from jsonargparse import auto_cli

import sciwm
from sciwm.data.collection import Collection
from sciwm.evaluation.evaluate import evaluate


def main(
    source: str = "../shared/data/acac",
    budget: int = 480,
    seeds: int = 1,
    test: list[str] | None = None,
    json_file: str | None = None,
    folder: str = "runs/bench_acac",
) -> None:
    """Prints the table and the figures.

    Args:
        source: Folder with train_300K.xyz and test_MD_300K.xyz.
        budget: Processor seconds of training.
        seeds: Runs, each with its own weights and split.
        test: Further test files, each as NAME=FILE.
        json_file: Where to write the figures as JSON too.
        folder: Where to work.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    tests = {"300K": f"{source}/test_MD_300K.xyz"}
    tests |= dict(entry.split("=", 1) for entry in test or [])
    sciwm_command = [sys.executable, "-m", "sciwm"]
    files = {name: Path(folder, f"test_{name}.h5md") for name in tests}
    sources = {Path(folder, "train.h5md"): f"{source}/train_300K.xyz"}
    sources |= {files[name]: path for name, path in tests.items()}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for target, path in sources.items():
        if not target.is_file():
            subprocess.run([*sciwm_command, "import", path, "--to", str(target)], check=True)
    values: dict[str, list[float]] = {}
    nulls: dict[str, float] = {}
    for seed in range(seeds):
        run = Path(folder, f"seed{seed}-{budget}s")
        if not (run / "model.pt").is_file():
            options = ["--data.train", f"{folder}/train.h5md", "--task.cpu_seconds", str(budget)]
            where = ["--name", run.name, "--folder", folder, "--seed", str(seed)]
            command = [*sciwm_command, "train", "configs/acac.yaml", *options, *where]
            subprocess.run(command, check=True)
        model = sciwm.load(run).model
        for name, file in files.items():
            rows = {row.name: row for row in evaluate(model, Collection([file])).rows}
            for figure, row in (("force", rows["force"]), ("energy", rows["energy"])):
                values.setdefault(f"{figure}_rmse_{name}", []).append(row.errors.rmse)
                nulls[f"{figure}_rmse_{name}"] = row.null.rmse
    print(f"\n{'':20s}{'median':>10s}{'lowest':>10s}{'highest':>10s}{'null':>10s}")
    figures = {}
    for name, found in values.items():
        unit = "meV/Å" if name.startswith("force") else "meV"
        middle = statistics.median(found)
        row = (middle, min(found), max(found), nulls[name])
        print(f"{name:20s}" + "".join(f"{value:10.2f}" for value in row) + f"  {unit}")
        figures[name] = {"value": middle, "unit": unit}
    print()
    for name, figure in figures.items():
        print(name, f"{figure['value']:.4g}", figure["unit"])
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    auto_cli(main)

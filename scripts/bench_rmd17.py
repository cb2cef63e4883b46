"""Accuracy on ethanol of revised MD17 from 50 frames, beside the null model.

Draws 50 frames from the published split (split a, 1000 frames), trains `configs/rmd17.yaml` on one thread
and reports mean absolute errors on the other 950, once for each seed, which draws its own 50. Published
after full training on 50 frames: MACE 6.7 meV and 32.6 meV/Å (arXiv:2206.07697), NequIP 8.7 and 40.2.

    python scripts/bench_rmd17.py [--seeds 3] [--budget 1500] [--json_file FILE]
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import torch
from jsonargparse import auto_cli

import sciwm
from sciwm.data.collection import Collection
from sciwm.evaluation.evaluate import evaluate


def main(
    source: str = "../shared/data/rmd17/ethanol_split_a.xyz",
    frames: int = 50,
    budget: int = 1500,
    seeds: int = 1,
    json_file: str | None = None,
    folder: str = "runs/bench_rmd17",
    options: list[str] | None = None,
) -> None:
    """Prints the table and the figures.

    Args:
        source: The 1000 frames.
        frames: How many to learn from, held-back ones included.
        budget: Processor seconds of training.
        seeds: Runs, each with its own frames and weights.
        json_file: Where to write the figures as JSON too.
        folder: Where to work.
        options: Further words for `sciwm train`.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    values: dict[str, list[float]] = {}
    nulls: dict[str, float] = {}
    for seed in range(seeds):
        train, test = _divided(Path(source), frames, seed, Path(folder))
        run = Path(folder, f"seed{seed}-{budget}s")
        if not (run / "model.pt").is_file():
            words = ["--data.train", str(train), "--task.cpu_seconds", str(budget)]
            words += ["--name", run.name, "--folder", folder, "--seed", str(seed), *(options or [])]
            command = [sys.executable, "-m", "sciwm", "train", "configs/rmd17.yaml", *words]
            subprocess.run(command, check=True)
        rows = {row.name: row for row in evaluate(sciwm.load(run).model, Collection([test])).rows}
        for name, unit in (("force", "meV/Å"), ("energy", "meV")):
            values.setdefault(f"{name}_mae", []).append(rows[name].errors.mae)
            nulls[f"{name}_mae"] = rows[name].null.mae
            print(f"seed {seed}: {name} mean absolute error {rows[name].errors.mae:.2f} {unit}")
    print(f"\n{'':12s}{'median':>10s}{'lowest':>10s}{'highest':>10s}{'null':>10s}")
    figures = {}
    for name, found in values.items():
        unit = "meV/Å" if name.startswith("force") else "meV"
        row = (statistics.median(found), min(found), max(found), nulls[name])
        print(f"{name:12s}" + "".join(f"{value:10.2f}" for value in row) + f"  {unit}")
        figures[name] = {"value": row[0], "unit": unit, "null": row[3], "each": found}
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1))


def _divided(source: Path, frames: int, seed: int, folder: Path) -> tuple[Path, Path]:
    """Files of the frames to learn from and of all others."""
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / f"train{seed}.h5md", folder / f"test{seed}.h5md"
    if not all(file.is_file() for file in files):
        found = ase.io.read(source, ":")
        order = np.random.default_rng(seed).permutation(len(found))
        for file, rows in zip(files, (order[:frames], order[frames:]), strict=True):
            part = file.with_suffix(".extxyz")
            ase.io.write(part, [found[i] for i in rows])
            words = [str(part), "--to", str(file)]
            subprocess.run([sys.executable, "-m", "sciwm", "import", *words], check=True)
    return files


if __name__ == "__main__":
    auto_cli(main)

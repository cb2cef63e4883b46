"""Accuracy on ethanol of revised MD17 from 50 frames, beside the null model.

Draws 50 frames from the published split (split a, 1000 frames), trains `configs/rmd17.yaml` on one thread
and reports mean absolute errors on the other 950, once for each seed, which draws its own 50. Then again,
from weights that first learned GFN2-xTB (`--reference`): dynamics with it from the 50 frames gives as many
labels as wanted at milliseconds each, and what is left to learn is how the two methods differ. Published
after full training on 50 frames alone: MACE 6.7 meV and 32.6 meV/Å (arXiv:2206.07697), NequIP 8.7 and 40.2.

    python scripts/bench_rmd17.py [--seeds 3] [--reference 0] [--json_file FILE]
"""

import json
import os
import statistics
import time
from pathlib import Path

import ase.io
import numpy as np
import torch
from gfn2_first import GFN2_ATOMS, sciwm_command, trained
from jsonargparse import auto_cli

import sciwm
from sciwm.data.collection import Collection
from sciwm.evaluation.evaluate import evaluate

PRESET = "configs/rmd17.yaml"


def main(
    source: str = "../shared/data/rmd17/ethanol_split_a.xyz",
    frames: int = 50,
    budget: int = 150,
    seeds: int = 1,
    reference: int = 2000,
    reference_budget: int = 500,
    json_file: str | None = None,
    folder: str = "runs/bench_rmd17",
) -> None:
    """Prints the table and the figures.

    Args:
        source: The 1000 frames.
        frames: How many to learn from, held-back ones included.
        budget: Processor seconds of learning them; more did not help (results/search.md).
        seeds: Runs, each with its own frames and weights.
        reference: Frames of GFN2-xTB; none leaves that part out.
        reference_budget: Processor seconds of learning those.
        json_file: Where to write the figures as JSON too.
        folder: Where to work.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    values: dict[str, list[float]] = {}
    nulls: dict[str, float] = {}
    for seed in range(seeds):
        place = Path(folder, f"{frames}-frames-seed{seed}")
        train, test = _divided(Path(source), frames, seed, place)
        runs = {"alone": trained(PRESET, place / f"alone-{budget}s", train, budget, seed)}
        if reference:
            runs["after GFN2-xTB"] = _corrected(
                place, train, budget, seed, reference, reference_budget
            )
        for kind, run in runs.items():
            rows = {
                row.name: row for row in evaluate(sciwm.load(run).model, Collection([test])).rows
            }
            for name, unit in (("force", "meV/Å"), ("energy", "meV")):
                values.setdefault(f"{name}_mae {kind}", []).append(rows[name].errors.mae)
                nulls[f"{name}_mae {kind}"] = rows[name].null.mae
                print(f"seed {seed}, {kind}: {name} {rows[name].errors.mae:.2f} {unit}", flush=True)
    print(
        f"\n{'mean absolute error':28s}{'median':>10s}{'lowest':>10s}{'highest':>10s}{'null':>10s}"
    )
    figures = {}
    for name, found in values.items():
        unit = "meV/Å" if name.startswith("force") else "meV"
        row = (statistics.median(found), min(found), max(found), nulls[name])
        print(f"{name:28s}" + "".join(f"{value:10.2f}" for value in row) + f"  {unit}")
        figures[name] = {"value": row[0], "unit": unit, "null": row[3], "each": found}
    if json_file:
        content = {"frames": frames, "budget": budget} | figures
        content |= {"reference_frames": reference, "reference_budget": reference_budget}
        Path(json_file).write_text(json.dumps(content, indent=1, ensure_ascii=False))


def _divided(source: Path, frames: int, seed: int, folder: Path) -> tuple[Path, Path]:
    """Files of the frames to learn from and of all others."""
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "train.h5md", folder / "test.h5md"
    if not all(file.is_file() for file in files):
        found = ase.io.read(source, ":")
        order = np.random.default_rng(seed).permutation(len(found))
        for file, rows in zip(files, (order[:frames], order[frames:]), strict=True):
            part = file.with_suffix(".extxyz")
            ase.io.write(part, [found[i] for i in rows])
            sciwm_command("import", str(part), "--to", str(file))
    return files


def _corrected(
    folder: Path, train: Path, budget: int, seed: int, reference: int, reference_budget: int
) -> Path:
    """A run that learns the 50 frames after it has learned GFN2-xTB."""
    labels = folder / f"gfn2-{reference}.h5md"
    if not labels.is_file():
        began = time.monotonic()
        starts, every, step = 5, 16, 0.5
        duration = f"{reference / starts * every * step:g}fs"
        words = ["--frames", ",".join(str(k) for k in range(starts)), "--temperature", "600K"]
        words += ["--dt", f"{step}fs", "--every", str(every), "--seed", str(seed)]
        unfinished = labels.with_name("unfinished.h5md")
        sciwm_command("simulate", "gfn2", str(train), duration, *words, "--out", str(unfinished))
        unfinished.rename(labels)
        print(f"{reference} frames of GFN2-xTB took {time.monotonic() - began:.0f} s", flush=True)
    learned = trained(
        PRESET,
        folder / f"gfn2-{reference}-{reference_budget}s",
        labels,
        reference_budget,
        seed,
        *GFN2_ATOMS,
        *("--data.split", "time", "--data.valid", "100", "--data.batch_size", "5"),
        *("--task.matrix_rate", "0.005", "--task.matrix_rounds", "5"),
    )
    return trained(
        PRESET,
        folder / f"after-gfn2-{reference}-{reference_budget}s-{budget}s",
        train,
        budget,
        seed,
        *("--task.start", str(learned / "model.pt")),
        *("--task.matrix_rate", "0.001", "--task.learning_rate", "3e-4"),
    )


if __name__ == "__main__":
    auto_cli(main)

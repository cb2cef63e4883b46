"""Accuracy on ethanol of revised MD17 from 50 frames, beside the null model.

Draws 50 frames from the published split (split a, 1000 frames), trains on one thread and reports mean
absolute errors on the other 950, once for each seed, which draws its own 50. Three ways:

- one model: `configs/rmd17.yaml` on the 50 frames;
- taught: several such models, whose mean then labels their own dynamics from the 50 frames, and one model
  that learns these labels (`committee.py`): nothing else of the reference, less than an hour in all;
- after GFN2-xTB: dynamics with it from the 50 frames gives as many labels as wanted at milliseconds each, and
  what is left to learn from the 50 frames is how the two methods differ.

Published after full training on 50 frames alone: MACE 6.7 meV and 32.6 meV/Å (arXiv:2206.07697), NequIP 8.7
and 40.2.

    python scripts/bench_rmd17.py [--seeds '[0, 1, 2]'] [--only '["taught"]'] [--json_file FILE]
"""

import json
import os
import statistics
from pathlib import Path
from typing import Literal, get_args

import ase.io
import numpy as np
import torch
from committee import taught
from gfn2_first import GFN2_ATOMS, cost, labelled, sciwm_command, trained
from jsonargparse import auto_cli

import sciwm
from sciwm.data.collection import Collection
from sciwm.evaluation.evaluate import evaluate

PRESET = "configs/rmd17.yaml"
UNITS = {"force": "meV/Å", "energy": "meV"}


Way = Literal["one model", "taught", "after GFN2-xTB"]


def main(
    source: str = "../shared/data/rmd17/ethanol_split_a.xyz",
    frames: int = 50,
    budget: int = 60,
    members: int = 8,
    student_budget: int = 300,
    seeds: list[int] | None = None,
    only: list[Way] | None = None,
    reference: int = 2000,
    reference_budget: int = 500,
    refining_budget: int = 150,
    json_file: str | None = None,
    folder: str = "runs/bench_rmd17",
) -> None:
    """Prints the table and the figures.

    Args:
        source: The 1000 frames.
        frames: How many to learn from, held-back ones included.
        budget: Processor seconds of learning them; twice as many hardly help (results/search.md).
        members: Models whose mean teaches.
        student_budget: Processor seconds of learning from them.
        seeds: Runs, each with its own frames and weights; 0, 1 and 2 by default.
        only: Which ways; all by default.
        reference: Frames of GFN2-xTB.
        reference_budget: Processor seconds of learning those.
        refining_budget: Processor seconds of learning the frames after them.
        json_file: Where to write the figures as JSON too.
        folder: Where to work.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    rows: list[tuple[str, float, dict[str, tuple[float, float]]]] = []
    for seed in seeds or [0, 1, 2]:
        place = Path(folder, f"{frames}-frames-seed{seed}")
        train, test = divided(Path(source), frames, seed, place)
        for way in only or get_args(Way):
            if way == "one model":
                run, spent = _member(place, train, budget, seed, 0), 0.0
            elif way == "taught":
                run, spent = _taught(place, train, budget, members, student_budget, seed)
            else:
                run, spent = _corrected(
                    place, train, refining_budget, seed, reference, reference_budget
                )
            errors = evaluate(sciwm.load(run).model, Collection([test])).rows
            found = {row.name: (row.errors.mae, row.null.mae) for row in errors}
            rows.append((way, spent + cost(run), found))
            text = ", ".join(f"{name} {found[name][0]:.2f} {unit}" for name, unit in UNITS.items())
            print(f"seed {seed}, {way}: {text}, {rows[-1][1]:.0f} s of one core", flush=True)
    print(
        f"\n{'mean absolute error':28s}{'median':>10s}{'lowest':>10s}{'highest':>10s}{'null':>10s}"
    )
    figures: dict[str, object] = {
        "frames": frames,
        "seeds": seeds or [0, 1, 2],
        "members": members,
        "budgets": {
            "one model": budget,
            "taught": student_budget,
            "reference": reference_budget,
            "after it": refining_budget,
        },
        "reference_frames": reference,
    }
    for way in only or get_args(Way):
        for name, unit in UNITS.items():
            each = [found[name][0] for kind, _, found in rows if kind == way]
            nulls = [found[name][1] for kind, _, found in rows if kind == way]
            line = (statistics.median(each), min(each), max(each), statistics.median(nulls))
            print(f"{name + ' ' + way:28s}" + "".join(f"{x:10.2f}" for x in line) + f"  {unit}")
            kept = {"value": line[0], "unit": unit, "null": line[3], "each": each}
            figures[f"{name}_mae {way}"] = kept
        figures[f"cpu_seconds {way}"] = [round(spent) for kind, spent, _ in rows if kind == way]
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1, ensure_ascii=False))


def _member(folder: Path, train: Path, budget: int, seed: int, number: int) -> Path:
    """A run that learns the frames, with weights and held-back frames of its own."""
    run = folder / f"member{number}-{budget}s"
    return trained(PRESET, run, train, budget, 100 * seed + number)


def _taught(
    folder: Path, train: Path, budget: int, members: int, student_budget: int, seed: int
) -> tuple[Path, float]:
    """A run that learns what models of the frames agree on, and what those cost."""
    teachers = [_member(folder, train, budget, seed, number) for number in range(members)]
    student, labelling = taught(
        PRESET,
        folder,
        train,
        teachers,
        *("--data.batch_size", "5"),
        *("--task.matrix_rate", "0.005", "--task.matrix_rounds", "5"),
        starts=":",
        duration="250fs",
        temperature="500K",
        budget=student_budget,
        seed=seed,
    )
    return student, labelling + sum(cost(teacher) for teacher in teachers)


def divided(source: Path, frames: int, seed: int, folder: Path, *words: str) -> tuple[Path, Path]:
    """Files of the frames to learn from and of all others.

    Args:
        words: Further options of `sciwm import`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "train.h5md", folder / "test.h5md"
    if not all(file.is_file() for file in files):
        found = ase.io.read(source, ":")
        order = np.random.default_rng(seed).permutation(len(found))
        for file, rows in zip(files, (order[:frames], order[frames:]), strict=True):
            part = file.with_suffix(".extxyz")
            ase.io.write(part, [found[i] for i in rows])
            sciwm_command("import", str(part), "--to", str(file), "--overwrite", *words)
    return files


def _corrected(
    folder: Path, train: Path, budget: int, seed: int, reference: int, reference_budget: int
) -> tuple[Path, float]:
    """A run that learns the 50 frames after it has learned GFN2-xTB, and what came before."""
    starts, every, step = 5, 16, 0.5
    duration = f"{reference / starts * every * step:g}fs"
    words = ["--frames", f":{starts}", "--temperature", "600K"]
    words += ["--dt", f"{step}fs", "--every", str(every), "--seed", str(seed)]
    labels = folder / f"gfn2-{reference}.h5md"
    spent = labelled(labels, "gfn2", train, duration, *words)
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
    corrected = trained(
        PRESET,
        folder / f"after-gfn2-{reference}-{reference_budget}s-{budget}s",
        train,
        budget,
        seed,
        *("--task.start", str(learned / "model.pt")),
        *("--task.matrix_rate", "0.001", "--task.learning_rate", "3e-4"),
    )
    return corrected, cost(learned) + spent


if __name__ == "__main__":
    auto_cli(main)

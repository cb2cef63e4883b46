"""Thermal survival: does the learned world rank molecules it never saw as quantum chemistry does?

The same recipe (Langevin dynamics at 3000 K, 3 ps, until a bond breaks for good) runs with GFN2-xTB and in
learned worlds, on the molecules of datasets/survival/molecules.csv: `train` ones give frames to learn from,
`test` ones are kept apart from training, scales and the choice of checkpoints. Reported are the rank
correlation of survival between the two, its interval from resampling molecules, and the cost ratio: processor
seconds of the reference over those of one world for the same steps of eight seeds of every test molecule.
The null model ranks by size, larger molecules breaking first.

    python scripts/bench_survival.py [--members 2] [--json_file FILE]

The reference takes hours of one core; it is kept, and continued where it stopped.
"""

import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from jsonargparse import auto_cli
from scipy.stats import spearmanr

from sciwm.core.molecules import frame_from_smiles
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.discovery.problem.outcomes.survival import ThermalSurvival
from sciwm.models import archive
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.references.xtb import GFN2

SEEDS = {"train": 3, "test": 8}


def main(
    folder: str = "runs/bench_survival",
    molecules: str = "datasets/survival/molecules.csv",
    members: int = 2,
    budget: int = 900,
    first: int | None = None,
    json_file: str | None = None,
) -> None:
    """Measures, trains, imagines, compares.

    Args:
        folder: Where to work.
        molecules: CSV with columns smiles and use (train or test).
        members: Worlds, trained from different seeds.
        budget: Processor seconds of training for each.
        first: Molecules of the file to use; all by default.
        json_file: Where to write the figures.
    """
    torch.set_num_threads(1)
    work = Path(folder)
    with open(molecules) as stream:
        rows = list(csv.DictReader(stream))[:first]
    reference = [measured(work / "reference", n, row) for n, row in enumerate(rows)]
    gather(work, rows)
    worlds = [trained(work, seed, budget) for seed in range(members)]
    tests = [n for n, row in enumerate(rows) if row["use"] == "test"]
    imagined = [lifetimes_in(work, path, rows, tests) for path in worlds]
    compare(rows, tests, reference, imagined, costs(worlds[0], rows, tests), json_file)


def costs(
    model: Path, rows: list[dict[str, str]], tests: list[int], steps: int = 60
) -> list[float]:
    """Processor seconds of the reference over those of the world for the same steps, A B A B."""
    frames = [frame_from_smiles(rows[n]["smiles"]) for n in tests]
    recipe = ThermalSurvival(time=0.5 * steps, seeds=SEEDS["test"])
    world = LearnedSimulator(archive.load(model).model)
    recipe.lifetimes(world, frames)  # warm
    ratios = []
    for repeat in range(2):
        before = processor_seconds()
        for frame in frames:
            gfn2 = GFN2(electronic_temperature=3000.0)
            recipe.lifetimes(gfn2, [frame], seed=repeat)
            gfn2.close()
        between = processor_seconds()
        recipe.lifetimes(world, frames, seed=repeat)
        ratios.append((between - before) / (processor_seconds() - between))
    return ratios


def processor_seconds() -> float:
    """Of this process and those it has ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, kinds))


def measured(folder: Path, n: int, row: dict[str, str]) -> dict:
    """The reference's lifetimes of one molecule, with an H5MD file of its frames."""
    name = f"{row['use']}-{n:02d}"
    target = folder / f"{name}.json"
    if target.is_file():
        return json.loads(target.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    world = GFN2(electronic_temperature=3000.0)
    frame = frame_from_smiles(row["smiles"])
    started = time.time()
    [found] = ThermalSurvival(seeds=SEEDS[row["use"]]).lifetimes(world, [frame])
    seconds = time.time() - started
    world.close()
    if not isinstance(found, tuple):
        raise SystemExit(f"{row['smiles']}: {found}")
    times, frames, flag = found
    parts = folder / f"{name}.h5md"
    parts.unlink(missing_ok=True)
    with H5MDWriter(parts, units=world.units) as writer:
        seed = -1
        for one in frames:
            seed += one.step == 0
            writer.append(one, group=f"{name}-{seed}")
    record = {
        "smiles": row["smiles"],
        "atoms": len(frame),
        "lifetimes": [None if np.isinf(t) else float(t) for t in times],
        "flag": flag,
        "wall_s": seconds,
    }
    target.write_text(json.dumps(record))
    print(row["smiles"], record["lifetimes"], f"{seconds:.0f} s", flag or "", flush=True)
    return record


def gather(work: Path, rows: list[dict[str, str]]) -> None:
    """All frames of training molecules in one file."""
    target = work / "train.h5md"
    if target.is_file():
        return
    partial = work / "train.partial.h5md"
    partial.unlink(missing_ok=True)
    with H5MDWriter(partial) as writer:
        for n, row in enumerate(rows):
            if row["use"] != "train":
                continue
            with H5MDFile(work / "reference" / f"train-{n:02d}.h5md") as file:
                for trajectory in file.trajectories:
                    for k in range(1, trajectory.n_frames):  # all start alike
                        writer.append(trajectory.frame(k), group=trajectory.name)
    partial.rename(target)


def trained(work: Path, seed: int, budget: int) -> Path:
    """A world, trained as configs/survival.yaml says."""
    run = work / f"world{seed}"
    if not (run / "model.pt").is_file():
        options = ["--data.train", str(work / "train.h5md"), "--task.cpu_seconds", str(budget)]
        where = ["--name", run.name, "--folder", str(work), "--seed", str(seed)]
        command = [
            sys.executable,
            "-m",
            "sciwm",
            "train",
            "configs/survival.yaml",
            *options,
            *where,
        ]
        subprocess.run(command, check=True)
    return run / "model.pt"


def lifetimes_in(work: Path, model: Path, rows: list[dict[str, str]], tests: list[int]) -> dict:
    """Lifetimes of all test molecules in one world, all simulations side by side."""
    target = model.parent / f"lifetimes-{len(tests)}.json"
    if target.is_file():
        return json.loads(target.read_text())
    world = LearnedSimulator(archive.load(model).model)
    known = set(torch.nonzero(world.model.domain.seen)[:, 0].tolist())
    frames = [frame_from_smiles(rows[n]["smiles"]) for n in tests]
    assert all(set(frame.numbers.tolist()) <= known for frame in frames)
    started, clock = time.time(), time.process_time()
    found = ThermalSurvival(seeds=SEEDS["test"]).lifetimes(world, frames, seed=1)
    record = {
        "wall_s": time.time() - started,
        "cpu_s": time.process_time() - clock,
        "molecules": [
            {
                "lifetimes": [None if np.isinf(t) else float(t) for t in one[0]],
                "flag": one[2],
            }
            if isinstance(one, tuple)
            else {"lifetimes": [], "flag": one.reason}
            for one in found
        ],
    }
    target.write_text(json.dumps(record))
    return record


def compare(
    rows: list[dict[str, str]],
    tests: list[int],
    reference: list[dict],
    imagined: list[dict],
    ratios: list[float],
    json_file: str | None,
) -> None:
    """The table, and the figures."""

    def share(lifetimes: list) -> float:
        return float(np.mean([t is None for t in lifetimes])) if lifetimes else float("nan")

    def mean_time(lifetimes: list) -> float:
        return (
            float(np.mean([3000.0 if t is None else t for t in lifetimes])) if lifetimes else np.nan
        )

    true = np.array([share(reference[n]["lifetimes"]) for n in tests])
    worlds = np.array([[share(m["lifetimes"]) for m in one["molecules"]] for one in imagined])
    said = np.nanmean(worlds, axis=0)
    true_time = np.array([mean_time(reference[n]["lifetimes"]) for n in tests])
    said_time = np.nanmean(
        [[mean_time(m["lifetimes"]) for m in one["molecules"]] for one in imagined], axis=0
    )
    atoms = np.array([reference[n]["atoms"] for n in tests])
    print(
        f"\n{'molecule':24s}{'reference':>10s}"
        + "".join(f"{f'world {k}':>10s}" for k in range(len(worlds)))
    )
    for k, n in enumerate(tests):
        cells = "".join(f"{value:10.2f}" for value in worlds[:, k])
        flags = sum(bool(one["molecules"][k]["flag"]) for one in imagined)
        print(f"{rows[n]['smiles']:24s}{true[k]:10.2f}{cells}{'  flagged' if flags else ''}")
    kept = np.isfinite(said)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(2000):
        chosen = rng.choice(np.flatnonzero(kept), kept.sum())
        value = spearmanr(true[chosen], said[chosen]).statistic
        if np.isfinite(value):
            draws.append(value)
    low, high = np.percentile(draws, [2.5, 97.5])
    figures = {
        "test_molecules": (len(tests), ""),
        "spearman_survival": (spearmanr(true[kept], said[kept]).statistic, ""),
        "spearman_survival_lower": (low, ""),
        "spearman_survival_upper": (high, ""),
        "spearman_survival_time": (spearmanr(true_time[kept], said_time[kept]).statistic, ""),
        "spearman_null_number_of_atoms": (spearmanr(true, -atoms).statistic, ""),
        "survival_mean_absolute_error": (float(np.abs(true - said)[kept].mean()), ""),
        "survival_null_mean_absolute_error": (float(np.abs(true - true.mean()).mean()), ""),
        "without_a_value": (int((~kept).sum()), "molecules"),
        "world_cpu_seconds": (float(np.mean([one["cpu_s"] for one in imagined])), "s"),
        "cost_ratio": (float(np.mean(ratios)), ""),
        "cost_ratio_lowest": (min(ratios), ""),
    }
    print()
    for name, (value, unit) in figures.items():
        print(name, f"{value:.4g}", unit)
    if json_file:
        content = {n: {"value": float(v), "unit": u} for n, (v, u) in figures.items()}
        Path(json_file).write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    auto_cli(main)

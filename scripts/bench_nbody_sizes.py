"""Charged particles: a law learned from motions of three to five of them, and asked about twenty.

Makes motions of softened charges whose numbers, charges and masses vary, trains `configs/charged_nbody.yaml`
on the positions and velocities of 3 to 5 particles, and predicts one unit of time of fresh motions of 5 and
of 20 (about 15 minutes on one core). Errors are per particle; straight motion, the null model, says how much
harder twenty are by themselves.

    python scripts/bench_nbody_sizes.py [--json_file FILE]
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli

import sciwm
from sciwm.core.state import State
from sciwm.data.h5md import H5MDFile
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import VelocityVerlet
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.rollout.stability import Finiteness

TRAINED, ASKED = (3, 5), (5, 20)
START, FRAMES, SPACING, STEP = 30, 10, 0.1, 0.002


def made(folder: Path, count: int, sizes: tuple[int, int], seed: int) -> Path:
    """Motions of so many particles, from the first size to the last."""
    file = folder / "softened.h5md"
    if not file.is_file():
        recipe = [sys.executable, "datasets/charged_nbody/recipe.py", "softened"]
        sized = ["--n_min", str(sizes[0]), "--n_max", str(sizes[1]), "--seed", str(seed)]
        options = ["--count", str(count), "--out", str(folder)]
        subprocess.run([*recipe, *sized, *options], check=True)
    return file


def errors(simulator: LearnedSimulator, file: Path) -> dict[str, np.ndarray]:
    """(S,) mean squared errors per particle and component of each motion, learned and straight."""
    with H5MDFile(file) as source:
        pairs = [(t.frame(START), t.frame(START + FRAMES)) for t in source.trajectories]
    state = State.collate([State.from_frame(begin, torch.float64) for begin, _ in pairs])
    # Errors count however wrong the motion goes.
    steps = round(FRAMES * SPACING / STEP)
    rollout = Rollout(VelocityVerlet(simulator, STEP), every=steps, guard=Finiteness())
    learned = rollout.run(state, steps).state.positions.numpy()
    straight = (state.positions + FRAMES * SPACING * state.velocities).numpy()
    truth = np.stack([end.positions for _, end in pairs])
    return {
        name: ((found.reshape(truth.shape) - truth) ** 2).mean(axis=(1, 2))
        for name, found in (("learned", learned), ("straight", straight))
    }


def main(
    json_file: str | None = None,
    folder: str = "runs/charged_sizes",
    run: str = "runs/charged_sizes_model",
) -> None:
    """Prints errors and their ratios.

    Args:
        json_file: Where to write the figures as JSON too.
        folder: For the data.
        run: Where the trained model is, or is to be made.
    """
    train = made(Path(folder), 1000, TRAINED, 0)
    if not Path(run, "model.pt").is_file():
        command = [sys.executable, "-m", "sciwm", "train", "configs/charged_nbody.yaml"]
        where = ["--name", Path(run).name, "--folder", str(Path(run).parent)]
        subprocess.run([*command, *where, "--data.train", str(train)], check=True)
    simulator = LearnedSimulator(sciwm.load(run).model.double())
    found = {n: errors(simulator, made(Path(folder, f"of{n}"), 200, (n, n), 1)) for n in ASKED}
    figures = {}
    for n, kinds in found.items():
        for name, each in kinds.items():
            # Roots, so that ratios are those of distances.
            values = {"rms": np.sqrt(each.mean()), "median": np.sqrt(np.median(each))}
            for kind, value in values.items():
                figures[f"of{n}_{name}_{kind}"] = {"value": float(value), "unit": "length"}
    few, many = ASKED
    for name in ("learned", "straight"):
        for kind in ("rms", "median"):
            ratio = (
                figures[f"of{many}_{name}_{kind}"]["value"]
                / figures[f"of{few}_{name}_{kind}"]["value"]
            )
            figures[f"ratio_{name}_{kind}"] = {"value": float(ratio), "unit": ""}
    for name, figure in figures.items():
        print(f"{name:24s} {figure['value']:.4g} {figure['unit']}")
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    auto_cli(main)

"""Charged 5-body, frame 30 -> 40: error of the motion that the pair potential learned, beside null models.

Makes the standard protocol's data, trains `configs/charged_nbody.yaml` on 3000 trajectories, chooses the
time step on validation trajectories, and scores 2000 test trajectories (about 12 minutes on one core).
The mean is ruled by a few close encounters, on which an exact integration of the true law scores 0.0049;
so median, 95th percentile and the benign subset (no encounter sudden enough to leave straight motion wrong
by more than 1) stand beside it. Published means: EGNN .0071, SEGNN .0043, MVN .0035.

    python scripts/bench_nbody.py [--test FILE.npz] [--json FILE]
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli

import sciwm
from sciwm.core.frame import Frame
from sciwm.core.progress import Bar
from sciwm.core.state import State
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import VelocityVerlet
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.rollout.stability import Finiteness

START, STOP, SPACING = 30, 40, 0.1
CHUNK = 500


def predicted(
    simulator: LearnedSimulator, loc: np.ndarray, vel: np.ndarray, charges: np.ndarray, dt: float
) -> np.ndarray:
    """(S, n, 3) positions at frame STOP, from those and the velocities at frame START."""
    found = []
    for first in Bar(range(0, len(loc), CHUNK), desc=f"rolling out, dt {dt:g}", unit="chunk"):
        rows = range(first, min(first + CHUNK, len(loc)))
        state = State.collate(
            [
                State.from_frame(
                    Frame(
                        numbers=np.ones(loc.shape[2], dtype=np.int64),
                        positions=loc[k, START],
                        velocities=vel[k, START],
                        masses=np.ones(loc.shape[2]),
                        charges=charges[k],
                    ),
                    torch.float64,
                )
                for k in rows
            ]
        )
        newton = VelocityVerlet(simulator, dt)
        # Errors count however wrong the motion goes.
        steps = round((STOP - START) * SPACING / dt)
        rollout = Rollout(newton, every=steps, guard=Finiteness())
        end = rollout.run(state, steps).state
        found.append(end.positions.numpy().reshape(len(rows), -1, 3))
    return np.concatenate(found)


def scored(
    simulator: LearnedSimulator, file: str, dt: float, prefix: str
) -> dict[str, dict[str, object]]:
    """Prints the errors on a file beside those of the null models, and returns them as figures."""
    with np.load(file, allow_pickle=False) as content:
        loc, vel, charges = (content[key].astype(float) for key in ("loc", "vel", "charges"))
    charges = charges.reshape(len(loc), -1)
    truth, time = loc[:, STOP], (STOP - START) * SPACING
    straight = loc[:, START] + time * vel[:, START]
    rows = {
        "learned pair potential": predicted(simulator, loc, vel, charges, dt),
        "straight motion": straight,
        "no motion": loc[:, START],
    }
    benign = np.abs(straight - truth).max(axis=(1, 2)) < 1.0
    figures: dict[str, dict[str, object]] = {}
    print(f"\n{'mean squared error':26s}{'mean':>12s}{'median':>12s}{'95th':>12s}{'benign':>12s}")
    for name, positions in rows.items():
        error = ((positions - truth) ** 2).mean(axis=(1, 2))
        values = {
            "mse_mean": error.mean(),
            "mse_median": np.median(error),
            "mse_p95": np.quantile(error, 0.95),
            "mse_benign_mean": error[benign].mean(),
        }
        print(f"{name:26s}" + "".join(f"{value:12.3g}" for value in values.values()))
        full = prefix + ("" if name.startswith("learned") else name.replace(" ", "_") + "_")
        figures |= {full + k: {"value": float(v), "unit": "length²"} for k, v in values.items()}
    print(f"({len(loc)} trajectories of {loc.shape[2]} particles, {benign.mean():.0%} benign)\n")
    return figures


def main(
    test: str | None = None,
    json_file: str | None = None,
    data: str = "runs/charged",
    run: str = "runs/charged_nbody",
) -> None:
    """Prints the table and the figures.

    Args:
        test: Any npz file with loc, vel (S, 49, n, 3) and charges (S, n), instead of the test split.
        json_file: Where to write the figures as JSON too.
        data: Where the standard data is, or is to be made.
        run: Where the trained model is, or is to be made.
    """
    recipe = [sys.executable, "datasets/charged_nbody/recipe.py", "standard", "--npz", "true"]
    if not Path(data, "train.h5md").is_file():
        subprocess.run([*recipe, "--out", data], check=True)
    if not Path(data, "of20", "test.npz").is_file():
        few = ["--n_train", "1", "--n_valid", "1", "--n_test", "200", "--particles", "20"]
        subprocess.run([*recipe, *few, "--out", f"{data}/of20"], check=True)
    if not Path(run, "model.pt").is_file():
        where = ["--name", Path(run).name, "--folder", str(Path(run).parent)]
        files = ["--data.train", f"{data}/train.h5md"]
        command = [sys.executable, "-m", "sciwm", "train", "configs/charged_nbody.yaml"]
        subprocess.run([*command, *where, *files], check=True)
    model = sciwm.load(run).model.double()
    simulator = LearnedSimulator(model)

    with np.load(f"{data}/valid.npz", allow_pickle=False) as file:
        loc, vel, charges = (file[key][:CHUNK].astype(float) for key in ("loc", "vel", "charges"))
    scores = {
        dt: ((predicted(simulator, loc, vel, charges, dt) - loc[:, STOP]) ** 2).mean()
        for dt in (0.005, 0.002, 0.001)
    }
    dt = min(scores, key=scores.__getitem__)
    print("validation mean error by time step:", {k: f"{v:.5f}" for k, v in scores.items()})

    figures = scored(simulator, test or f"{data}/test.npz", dt, "")
    figures |= scored(simulator, f"{data}/of20/test.npz", dt, "of20_")
    for name, figure in figures.items():
        print(name, f"{figure['value']:.6g}", figure["unit"])
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    auto_cli(main)

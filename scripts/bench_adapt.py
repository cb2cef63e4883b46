"""Fifty frames of density-functional theory: learned from scratch, and by adapting a world that was there.

Draws frames from the published splits of revised MD17, trains on one thread for the same processor time and
reports mean absolute errors on all other frames: from scratch (`configs/rmd17.yaml`), from the parent, and
from the parent with replay (`configs/adapt.yaml`). With `--held` (labelled frames of the parent's own kind,
unseen in training) also how much of that is still known afterwards through the parent's readout.

Published after full training on 50 frames alone: MACE 6.7 meV and 32.6 meV/Å for ethanol, 17.0 and 43.9 for
aspirin (arXiv:2206.07697).

    python scripts/bench_adapt.py [--parent organic] [--held FILE] [--json_file FILE]
"""

import json
import os
import statistics
from pathlib import Path

import numpy as np
import torch
from bench_rmd17 import divided
from gfn2_first import cost, trained
from jsonargparse import auto_cli

import sciwm
from sciwm.core.state import State
from sciwm.data.collection import Collection
from sciwm.evaluation.evaluate import evaluate
from sciwm.evaluation.run import model_file
from sciwm.models import archive
from sciwm.models.construction import build, describe
from sciwm.models.dynamics.force_field import ForceField
from sciwm.simulation.learned import predict
from sciwm.training.inheritance import force_field_of

UNITS = {"force": "meV/Å", "energy": "meV"}
MOLECULES = {
    "ethanol": ("ethanol_split_a.xyz",),
    "aspirin": ("aspirin_meV.xyz", "--units", "meV"),
}
"""The file of each, and what it does not say of itself."""

KEPT = 300
"""Frames of the parent's kind that are looked at."""


def main(
    parent: str = "organic",
    source: str = "../shared/data/rmd17",
    molecules: list[str] | None = None,
    frames: int = 50,
    budget: int = 120,
    seeds: list[int] | None = None,
    held: str | None = None,
    json_file: str | None = None,
    folder: str = "runs/bench_adapt",
) -> None:
    """Prints the table and the figures.

    Args:
        parent: The world to adapt.
        source: Folder of the frames.
        molecules: Which; all by default.
        frames: How many to learn from, held-back ones included.
        budget: Processor seconds of training, compiling aside.
        seeds: Draws of the frames; 0 and 1 by default.
        held: H5MD file of frames like the parent's training data.
        json_file: Where to write the figures as JSON too.
        folder: Where to work.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    base = force_field_of(archive.load(model_file(parent)))
    figures: dict[str, object] = {"parent": parent, "frames": frames, "budget": budget}
    if held is not None:
        figures["parent_force"] = _figure([_error_on(base, held)], "meV/Å")
    for molecule in molecules or list(MOLECULES):
        found: dict[str, list[dict[str, float]]] = {}
        for seed in seeds or [0, 1]:
            place = Path(folder, f"{molecule}-{frames}-seed{seed}")
            file, *words = MOLECULES[molecule]
            train, test = divided(Path(source, file), frames, seed, place, *words)
            starts = ("--task.start", parent)
            ways = {
                "scratch": ("configs/rmd17.yaml", _atoms(train)),
                "adapted": ("configs/adapt.yaml", (*starts, "--task.replay", "null")),
                "adapted with replay": ("configs/adapt.yaml", starts),
            }
            for way, (preset, options) in ways.items():
                run = place / f"{way.replace(' ', '-')}-{budget}s"
                trained(preset, run, train, budget, seed, *options)
                rows = evaluate(sciwm.load(run).model, Collection([test])).rows
                errors = {row.name: row.errors.mae for row in rows}
                errors |= {f"{row.name} null": row.null.mae for row in rows}
                errors["cpu_seconds"] = cost(run)
                if held is not None and way != "scratch":
                    errors["parent"] = _error_on(_remembering(base, run), held)
                found.setdefault(way, []).append(errors)
                told = ", ".join(f"{name} {value:.4g}" for name, value in errors.items())
                print(f"{molecule}, seed {seed}, {way}: {told}", flush=True)
        for way, each in found.items():
            prefix = f"{molecule} {way}"
            for name, unit in UNITS.items():
                figure = _figure([one[name] for one in each], unit)
                figure["null"] = statistics.median(one[f"{name} null"] for one in each)
                figures[f"{prefix}, {name} mae"] = figure
            figures[f"{prefix}, cpu_seconds"] = [round(one["cpu_seconds"]) for one in each]
            if "parent" in each[0]:
                figure = _figure([one["parent"] for one in each], "meV/Å")
                figures[f"{prefix}, parent's readout on its own kind, force rmse"] = figure
        if json_file:
            Path(json_file).write_text(json.dumps(figures, indent=1, ensure_ascii=False))


def _figure(each: list[float], unit: str) -> dict[str, object]:
    return {"value": statistics.median(each), "unit": unit, "each": each}


def _atoms(train: Path) -> tuple[str, ...]:
    """No energies of free atoms where the preset's are of another molecule's elements."""
    with_them = {1, 6, 8}
    data = Collection([train])
    seen = set(np.concatenate([data.frame(entry).numbers for entry in data.frames]).tolist())
    if seen <= with_them:
        return ()
    return ("--task.model.init_args.reference_energies", "null")


def _remembering(parent: ForceField, run: Path) -> ForceField:
    """The parent on the encoder of the run, with the readout that practised or else its own."""
    checkpoint = run / "checkpoints" / "best.ckpt"
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    twin = build(describe(parent))
    assert isinstance(twin, ForceField)
    prefix = "replayed.model." if any(name.startswith("replayed.") for name in state) else "model."
    taken = {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if name.startswith((prefix + "encoder.", "replayed.model.readouts."))
    }
    twin.load_state_dict(parent.state_dict() | taken)
    return twin.eval()


def _error_on(model: ForceField, held: str) -> float:
    """meV/Å, root mean square error of force components."""
    data = Collection([held])
    squares, count = 0.0, 0
    for k in np.unique(np.linspace(0, len(data.frames) - 1, KEPT).astype(int)):
        frame = data.frame(data.frames[k])
        found = predict(model, State.from_frame(frame)).forces.double().numpy()
        squares += float(((found - frame.forces) ** 2).sum())
        count += found.size
    return 1e3 * (squares / count) ** 0.5


if __name__ == "__main__":
    auto_cli(main)

"""Calls of the reference that a world needs that teaches itself, beside frames of reference dynamics.

Ethanol at 300 K by GFN2-xTB, until the force error is below a goal. A world that teaches itself asks for
what it wants to know (`sciwm learn`). The null model is what people do: dynamics with the reference, frames
drawn from it, and the same trainings of the same model on ever more of them; its steps are calls too. All
worlds are judged by frames of another run of reference dynamics, which none of them learns.

    python scripts/bench_learn.py [--calls 400] [--json_file FILE]
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli

from sciwm.cli.simulate import simulator_named
from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.data.collection import Collection
from sciwm.evaluation.evaluate import evaluate
from sciwm.learning import loop, teaching
from sciwm.learning.asking import atom_energies
from sciwm.learning.exploration import time_step
from sciwm.learning.goal import ErrorGoal
from sciwm.learning.history import LearningRound, history
from sciwm.learning.ledger import Answer, LearningLedger
from sciwm.learning.plan import LearningPlan
from sciwm.learning.questions import Question
from sciwm.learning.structures import structure_from
from sciwm.models import archive
from sciwm.simulation.propagators import Langevin
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.thermostats import FRICTION
from sciwm.simulation.velocities import maxwell_boltzmann


def main(
    molecule: str = "CCO",
    reference: str = "gfn2",
    until: str = "force_error < 20 meV/Å",
    calls: int = 400,
    encoder: dict[str, Any] | None = None,
    duration: float = 250.0,
    spacing: int = 20,
    frames: list[int] | None = None,
    test: int = 60,
    seed: int = 0,
    json_file: str | None = None,
    folder: str = "runs/bench_learn",
) -> None:
    """Prints the figures.

    Args:
        molecule: SMILES, or a file.
        reference: See `sciwm learn`.
        until: The goal.
        calls: Of the reference, at most, to learn from.
        encoder: Arguments of the model's encoder; a small one by default.
        duration: fs that copies explore in a round.
        spacing: Steps between frames drawn from reference dynamics.
        frames: Numbers of them that are learned in turn, until the goal is met.
        test: Frames of another run, to judge all worlds by.
        seed: Of everything.
        json_file: Where to write the figures as JSON too.
        folder: Where to work.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    place, goal = Path(folder), ErrorGoal.parse(until)
    structure, simulator = structure_from(molecule, seed), simulator_named(reference)
    plan = LearningPlan(
        calls=calls,
        time=duration,
        encoder=encoder or {"cutoff": 4.0, "channels": 16, "basis_decay": 1.0},
        seed=seed,
    )
    place.mkdir(parents=True, exist_ok=True)
    unseen = place / "test.h5md"
    drawn(simulator, structure, plan, test, spacing, seed + 1, unseen)
    figures: dict[str, Any] = {"molecule": molecule, "reference": reference, "goal": until}

    began = time.process_time()
    ended = loop.learn(structure, simulator, goal, place / "taught", plan)
    ledger = LearningLedger(place / "taught" / "ledger.jsonl")
    taught = {
        "ending": ended.ending,
        "calls": ended.last.calls,
        "reference_seconds": round(ended.last.seconds, 2),
        "cpu_seconds": round(time.process_time() - began),
        "rounds": [told(one) for one in history(ledger, structure)],
        "error_on_reference_dynamics": force_error(place / "taught" / "model.pt", unseen),
        "unit": "meV/Å",
    }
    figures["taught"] = taught
    print(json.dumps(taught, ensure_ascii=False), flush=True)
    kept(figures, json_file)

    counts = frames or [25, 50, 100, 200, 400]
    own = place / "reference_dynamics.h5md"
    seconds = drawn(simulator, structure, plan, max(counts), spacing, seed, own)
    source = Collection([own])
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(source.frames))
    figures["drawn"] = {"spacing": spacing, "unit": "meV/Å", "worlds": []}
    before: Path | None = None
    for number, count in enumerate(counts, 1):
        labels = [answered(source.frame(source.frames[k]), k) for k in order[:count]]
        began = time.process_time()
        before = teaching.train_world(
            place / "drawn" / f"{number:03d}",
            structure,
            labels,
            atom_energies(ledger, structure),
            before,
            None,
            number,
            plan,
        )
        # As long a run as so many frames take.
        share = count / len(source.frames)
        row = {
            "frames": count,
            "calls": count * spacing,
            "reference_seconds": round(seconds * share, 2),
            "cpu_seconds": round(time.process_time() - began),
            "error": force_error(before, unseen),
        }
        figures["drawn"]["worlds"].append(row)
        print(json.dumps(row), flush=True)
        kept(figures, json_file)
        if row["error"] < 1e3 * goal.force_error:
            break


def drawn(
    simulator: Any,
    structure: Frame,
    plan: LearningPlan,
    count: int,
    spacing: int,
    seed: int,
    file: Path,
) -> float:
    """Writes frames of the reference's own dynamics, after 200 fs to warm up; tells what they cost in s."""
    spent = file.with_suffix(".seconds")
    state = State.from_frame(structure, torch.float64)
    state = maxwell_boltzmann(state, plan.temperature, MOLECULAR, seed)
    step = time_step(state)
    langevin = Langevin(simulator, step, plan.temperature, FRICTION["molecular"], seed)
    if not spent.is_file():
        warm = Rollout(langevin, every=spacing).run(state, round(200 / step)).state
        began = time.perf_counter()
        found = Rollout(langevin, every=spacing).run(warm, count * spacing).frames[0][1:]
        seconds = time.perf_counter() - began
        bare = [one.with_(velocities=None, time=None, step=None) for one in found]
        teaching.write_labels(file, bare)
        spent.write_text(f"{seconds}\n")
    return float(spent.read_text())


def told(one: LearningRound) -> dict[str, float]:
    """A round's errors in meV/Å."""
    measured = one.measured
    found = {"calls": one.calls, "labels": one.labels, "error": round(1e3 * measured.error, 2)}
    if math.isfinite(measured.high):
        found |= {"low": round(1e3 * measured.low, 2), "high": round(1e3 * measured.high, 2)}
    return found


def answered(frame: Frame, number: int) -> Answer:
    """A frame of dynamics as if it had been asked."""
    question = Question(f"drawn-{number}", "fresh", "", frame.positions)
    return Answer(question, 0, 0.0, frame.energy, frame.forces)


def force_error(model: Path, unseen: Path) -> float:
    """meV/Å, root mean square of components."""
    found = evaluate(archive.load(model).model, Collection([unseen]))
    return round(found.row("force").errors.rmse, 2)


def kept(figures: dict[str, Any], json_file: str | None) -> None:
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    auto_cli(main)

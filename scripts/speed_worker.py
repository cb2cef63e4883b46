"""One of our presets, timed on request: the counterpart of a rival's worker in `bench_speed.py`.

Reads lines of JSON {"op", "threads", "seconds"} and answers each with a line {"n", "wall", "cpu", "wmin"},
the median and best seconds of one repetition. Operations: "train", a whole optimiser step on 10 molecules of
acetylacetone; "eval64", forces of 64 of them; "si216", forces of a rattled crystal of 216 silicon atoms;
"md1" and "md64", one step of molecular dynamics with neighbour list and recording, of 1 and of 64 molecules,
Weights are untrained, as the rivals' are: speed does not depend on them. Molecules would not stay whole, so
steps are too short for anything to move: whether neighbours moved is looked at, but they are never searched
anew.

    python scripts/speed_worker.py PRESET.yaml [eager]
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import ase.io
import numpy as np
import torch
import yaml
from ase import Atoms
from ase.build import bulk

from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import State, frame_from_ase
from sciwm.models.archive import build
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.dynamics.potential import Potential
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.programs.compilation import compile_model
from sciwm.models.statistics import survey
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import VelocityVerlet
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.velocities import maxwell_boltzmann
from sciwm.training.compiled_loss import CompiledLoss
from sciwm.training.force_errors import (
    LOSS_VARYING,
    SUMS,
    labelled_example,
    loss_inputs,
    squared_errors,
)
from sciwm.training.force_task import ForceTask

SOURCE = Path(os.environ.get("SCIWM_ACAC", "../shared/data/acac/train_300K.xyz"))
REPORT = 50
"""Steps of dynamics between frames."""


class Worker:
    """Repetitions of each operation, made ready when first asked for."""

    def __init__(self, preset: Path, compiled: bool):
        self.description = yaml.safe_load(preset.read_text())["task"]["init_args"]["model"]
        self.compiled = compiled
        molecules = ase.io.read(SOURCE, ":64")
        self.frames = [
            frame_from_ase(Atoms(one.numbers, one.positions)).with_(
                energy=one.get_potential_energy(), forces=one.get_forces()
            )
            for one in molecules
        ]
        self.ready: dict[str, Callable[[], object]] = {}

    def model(self, frames: list, seed: int = 0) -> ForceField:
        torch.manual_seed(seed)
        encoder = Encoder(**self.description["init_args"]["encoder"])
        options = self.description["init_args"] | {"encoder": encoder}
        model = build({"class_path": self.description["class_path"], "init_args": options})
        assert isinstance(model, ForceField)
        model.adapt(survey(frames, model.cutoff, model.units, model.reference_table()))
        return model

    def repetition(self, op: str) -> Callable[[], object]:
        if op not in self.ready:
            if op == "train":
                self.ready[op] = self.training()
            elif op in ("md1", "md64"):
                self.ready[op] = self.dynamics(int(op[2:]))
            else:
                self.ready[op] = self.evaluation(op)
            self.ready[op]()
        return self.ready[op]

    def finished(self, frames: list) -> Potential:
        model = self.model(frames)
        model.scale.mul_(1e-3)  # untrained forces are so steep that dynamics would be stopped
        return compile_model(model) if self.compiled else model.requires_grad_(False)

    def training(self) -> Callable[[], object]:
        model = self.model(self.frames)
        task = ForceTask(model)
        optimiser = task.configure_optimizers()
        for group in optimiser.param_groups:
            group["lr"] = 1e-5
        states = [State.from_frame(frame) for frame in self.frames[:60]]
        for state in states:
            state.energy = state.energy.double()
            attach_pairs(state, model.cutoff)
        example = labelled_example(model, stress=False)
        program = None
        if self.compiled:
            program = CompiledLoss(model, squared_errors, example, LOSS_VARYING[: len(example)])
        coefficients = torch.zeros(len(SUMS))
        coefficients[1], coefficients[2] = 2.0 / 10, 1.0 / 450
        count = iter(range(10**9))

        def step() -> None:
            start = 10 * (next(count) % 6)
            batch = State.collate(states[start : start + 10])
            inputs = loss_inputs(model, batch, NeighbourTable.from_pairs(batch))
            optimiser.zero_grad()
            if program is None:
                loss = (coefficients * squared_errors(model, *inputs)).sum()
            else:
                loss = program(coefficients, inputs)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimiser.step()

        return step

    def evaluation(self, op: str) -> Callable[[], object]:
        if op == "si216":
            crystal = bulk("Si", cubic=True).repeat(3)
            crystal.rattle(0.05, seed=0)
            frames = [frame_from_ase(crystal).with_(energy=0.0, forces=np.ones((216, 3)))]
        else:
            frames = self.frames[: int(op.removeprefix("eval"))]
        model = self.finished(frames)
        state = State.collate([State.from_frame(frame) for frame in frames])
        table = NeighbourTable.from_pairs(attach_pairs(state, model.cutoff))
        return lambda: model(state, table)

    def dynamics(self, copies: int) -> Callable[[], object]:
        simulator = LearnedSimulator(self.finished(self.frames))
        states = [State.from_frame(frame.with_(energy=None, forces=None)) for frame in self.frames]
        state = maxwell_boltzmann(State.collate(states[:copies]), 1e-3, simulator.units, 0)
        rollout = Rollout(VelocityVerlet(simulator, 1e-3), every=REPORT)

        def run() -> None:
            # A whole short run, so that its start and its frames are paid for too.
            result = rollout.run(state, REPORT)
            if set(result.steps) != {REPORT}:
                raise RuntimeError(f"dynamics stopped early: {result.reasons}")

        return run


def timed(step: Callable[[], object], seconds: float, steps: int) -> dict[str, float]:
    """Of one step, where a repetition takes several."""
    wall, cpu, end = [], [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(wall) < 3:
        began, spent = time.perf_counter(), time.process_time()
        step()
        wall.append((time.perf_counter() - began) / steps)
        cpu.append((time.process_time() - spent) / steps)
    middle = float(np.median(wall))
    return {"n": len(wall), "wall": middle, "wmin": min(wall), "cpu": float(np.median(cpu))}


def main() -> None:
    worker = Worker(Path(sys.argv[1]), "eager" not in sys.argv[2:])
    size = sum(p.numel() for p in worker.model(worker.frames).parameters())
    print(json.dumps({"ready": 1, "params": size}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        torch.set_num_threads(asked["threads"])
        try:
            step = worker.repetition(asked["op"])
            steps = REPORT if asked["op"].startswith("md") else 1
            answer: dict = timed(step, asked["seconds"], steps)
        except Exception as error:  # the driver shows it and goes on with the others
            answer = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

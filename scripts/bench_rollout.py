"""What a step of dynamics costs beside the model: kicks, drift, noise, neighbours, guards and frames.

One molecule of ethanol, untrained weights of the medium preset, compiled (a minute). The model alone, and
rollouts by velocity Verlet and Langevin dynamics, which stay in memory, take turns; processor time a step,
and the difference that each turn shows.

    python scripts/bench_rollout.py [--rounds 30] [--json_file FILE]
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import torch
from ase.build import molecule
from jsonargparse import auto_cli

from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import State, frame_from_ase
from sciwm.interfaces.world import World
from sciwm.models.archive import Archive
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.statistics import survey
from sciwm.simulation.propagators import Langevin, Propagator, VelocityVerlet
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.velocities import maxwell_boltzmann

STEPS = 100
"""Of a turn."""

EVERY = 10
"""Steps between frames, as commands have it."""

KELVIN = 1e-3
"""Untrained forces are so steep that dynamics would be stopped at room temperature."""


def main(rounds: int = 30, json_file: str | None = None) -> None:
    """Prints milliseconds a step.

    Args:
        rounds: Turns of each.
        json_file: Where to write the figures as JSON.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng, atoms = np.random.default_rng(0), molecule("CH3CH2OH")
    frames = []
    for _ in range(4):
        forces = rng.normal(size=(len(atoms), 3))
        frames.append(frame_from_ase(atoms).with_(energy=0.0, forces=forces))
    model = ForceField(Encoder(cutoff=5.0), reference_energies={"H": 0, "C": 0, "O": 0})
    model.adapt(survey(frames, model.cutoff, model.units, model.reference_table()))
    model.scale.mul_(1e-3)
    world = World(Archive(model), threads=1)
    world.compile()
    simulator = world.simulator()
    state = State.from_frame(frame_from_ase(atoms))
    state = maxwell_boltzmann(state, KELVIN, simulator.units)
    table = NeighbourTable.from_pairs(attach_pairs(state.clone(), model.cutoff + 0.5))

    def alone() -> None:
        for _ in range(STEPS):
            simulator.model(state, table)

    def rolled(propagator: Propagator) -> Callable[[], None]:
        rollout = Rollout(propagator, every=EVERY)

        def run() -> None:
            result = rollout.run(state, STEPS)
            assert result.steps == [STEPS], result.reasons

        return run

    turns = {
        "model alone": alone,
        "velocity Verlet": rolled(VelocityVerlet(simulator, KELVIN)),
        "Langevin": rolled(Langevin(simulator, KELVIN, KELVIN, 0.01)),
    }
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(rounds + 2):
        for name, run in turns.items():
            began = time.process_time()
            run()
            if turn > 1:  # the first ones warm up
                taken[name].append(1e3 * (time.process_time() - began) / STEPS)
    found = {"model alone": summary(taken["model alone"])}
    for name in list(turns)[1:]:
        pairs = zip(taken[name], taken["model alone"], strict=True)
        found[f"{name}, beside the model"] = summary([one - bare for one, bare in pairs])
    print("milliseconds a step: lowest, median")
    for name, numbers in found.items():
        print(f"{name:35s}", *(f"{one:9.3f}" for one in numbers.values()))
    if json_file:
        content = {"load": os.getloadavg()[0], "milliseconds": found}
        Path(json_file).write_text(json.dumps(content, indent=1))


def summary(turns: list[float]) -> dict[str, float]:
    return {"low": min(turns), "median": statistics.median(turns)}


if __name__ == "__main__":
    auto_cli(main)

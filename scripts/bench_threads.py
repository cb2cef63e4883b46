"""What threads are worth: a step of dynamics on one thread, on all, and as evaluations choose.

One molecule of ethanol, 64 of them and 512 atoms of silicon, untrained weights of the medium preset. The
choices take turns, so that all meet the same load of the machine; the lowest, median and mean wall time of
their turns is given. With `--compiled` ethanol's programs are built first, a minute for each.

    python scripts/bench_threads.py [--rounds 12] [--compiled true] [--json_file FILE]
"""

import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from jsonargparse import auto_cli

from sciwm.core.state import State, frame_from_ase
from sciwm.interfaces.world import World
from sciwm.models.archive import Archive
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.programs.compilation import compile_model
from sciwm.models.statistics import survey
from sciwm.simulation.propagators import VelocityVerlet
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.velocities import maxwell_boltzmann

EVERY = 10
"""Steps between frames."""


def main(
    rounds: int = 12, seconds: float = 0.5, compiled: bool = False, json_file: str | None = None
) -> None:
    """Prints milliseconds a step.

    Args:
        rounds: Turns of each choice, with and without the busy process.
        seconds: How long a turn is, at least one frame.
        compiled: Measure ethanol with programs too.
        json_file: Where to write the figures as JSON.
    """
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    choices = {"one thread": 1, f"{cores} threads": cores, "by itself": None}
    ethanol, silicon = (molecule("CH3CH2OH"), bulk("Si", cubic=True).repeat(4))
    cases = {"ethanol": (ethanol, 1), "64 ethanol": (ethanol, 64), "512 silicon": (silicon, 1)}
    runs: dict[str, dict[str, Callable[[], int]]] = {}
    for name, (atoms, copies) in cases.items():
        runs[name] = {how: dynamics(atoms, copies, count) for how, count in choices.items()}
    if compiled:
        runs["ethanol, compiled"] = {
            how: dynamics(ethanol, 1, count, compiled=True) for how, count in choices.items()
        }
    found: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{cores} cores; milliseconds a step: lowest, median, mean of the turns")
    for busy in (False, True):
        other = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
        if busy:
            other.start()
        for name, run in runs.items():
            taken: dict[str, list[float]] = {how: [] for how in run}
            for turn in range(rounds + 1):
                for how, some_steps in run.items():
                    each = milliseconds_a_step(some_steps, seconds)
                    if turn:  # the first warms up
                        taken[how].append(each)
            case = f"{name}, beside a busy process" if busy else name
            found[case] = {how: summary(one) for how, one in taken.items()}
            for how, numbers in found[case].items():
                print(f"{case:45s}{how:12s}", *(f"{one:9.2f}" for one in numbers.values()))
            if json_file:
                content = {"cores": cores, "load": os.getloadavg()[2], "milliseconds": found}
                Path(json_file).write_text(json.dumps(content, indent=1))
        if busy:
            other.kill()


def dynamics(
    atoms: Atoms, copies: int, threads: int | None, compiled: bool = False
) -> Callable[[], int]:
    """Takes some steps and says how many."""
    # Other weights, or a program that an earlier call built would be found for them.
    torch.manual_seed(1 if compiled else 2)
    rng, frames = np.random.default_rng(0), []
    for seed in range(copies):
        shaken = atoms.copy()
        shaken.rattle(0.03, seed=seed)
        forces = rng.normal(size=(len(atoms), 3))
        frames.append(frame_from_ase(shaken).with_(energy=0.0, forces=forces))
    model = ForceField(Encoder(cutoff=5.0), reference_energies={"H": 0, "C": 0, "O": 0, "Si": 0})
    model.adapt(survey(frames, model.cutoff, model.units, model.reference_table()))
    model.scale.mul_(1e-3)  # untrained forces are so steep that dynamics would be stopped
    if compiled:
        compile_model(model, threads or 1)
    simulator = World(Archive(model), threads).simulator()
    states = [State.from_frame(frame.with_(energy=None, forces=None)) for frame in frames]
    state = maxwell_boltzmann(State.collate(states), 1e-3, simulator.units)
    rollout = Rollout(VelocityVerlet(simulator, 1e-3), every=EVERY)

    def some_steps() -> int:
        result = rollout.run(state, EVERY)
        assert set(result.steps) == {EVERY}, result.reasons
        return EVERY

    return some_steps


def milliseconds_a_step(some_steps: Callable[[], int], seconds: float) -> float:
    steps, began = 0, time.perf_counter()
    while steps == 0 or time.perf_counter() - began < seconds:
        steps += some_steps()
    return 1e3 * (time.perf_counter() - began) / steps


def summary(turns: list[float]) -> dict[str, float]:
    return {
        "low": min(turns),
        "median": statistics.median(turns),
        "mean": statistics.mean(turns),
    }


def spin() -> None:
    parent = os.getppid()
    while os.getppid() == parent:  # who measures may be killed
        pass


if __name__ == "__main__":
    auto_cli(main)

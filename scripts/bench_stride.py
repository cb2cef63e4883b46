"""Long strides of a molecule, against the force field that they were learned from.

The world of `make` (runs/ethanol) is the truth. It simulates 16 copies at 300 K and 16 at 500 K; a flow map
learns strides of 8 and 16 fs from their motion, and a small force field learns their forces, to stand in
within strides of RESPA (configs/ethanol_flow.yaml, configs/ethanol_cheap.yaml). Then all move the same
molecules at both temperatures:

- the truth at 0.5 fs, and at 1 fs; its own scatter is the null of distributions: one half of its copies
  against the other;
- the map at 8 and at 16 fs;
- RESPA at 2 and at 4 fs, and at 4 and 8 fs with strides accepted or refused (GHMC).

Temperature and share of heat of every element, with standard errors over copies; distributions of bond
lengths and of the turning of the hydroxyl group (Jensen-Shannon distance from the truth's); and the cost of a
picosecond of one molecule, all in turns on one core. The first time takes an hour of one core, later ones
half of it.

    make && python scripts/bench_stride.py [--picoseconds 6] [--json_file FILE]
"""

import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from jsonargparse import auto_cli
from scipy.spatial.distance import jensenshannon

import sciwm
from sciwm.cli import main as command
from sciwm.cli.simulate import SOME_STOPPED
from sciwm.core.bonds import bonds
from sciwm.core.frame import Array, Frame
from sciwm.core.state import State
from sciwm.data.h5md import H5MDFile
from sciwm.evaluation.evaluate import species_name
from sciwm.interfaces.motion import MotionSettings
from sciwm.interfaces.world import World
from sciwm.simulation.observables import motion as paths
from sciwm.simulation.observables.thermodynamics import equipartition, temperature
from sciwm.simulation.propagators import GHMC
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.velocities import kinetic_energy, maxwell_boltzmann

Figures = dict[str, dict[str, Any]]

WARM = (300.0, 500.0)  # K
EVERY_FS = 16.0
BINS = 60
ROUNDS, TIMED_FS = 5, 1600.0


def main(
    teacher: Path = Path("runs/ethanol"),
    folder: Path = Path("runs/bench_stride"),
    copies: int = 16,
    picoseconds: float = 10.0,
    json_file: str | None = None,
) -> None:
    """Prints the figures, and writes them.

    Args:
        teacher: The run folder of a force field of ethanol.
        folder: Where to keep trajectories and models.
        copies: Simulations of each way at each temperature.
        picoseconds: Of each.
        json_file: Where to write the figures as JSON too.
    """
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    motion = [taught(teacher, folder, kelvin, copies) for kelvin in WARM]
    flow, cheap = (learned(name, motion, folder) for name in ("ethanol_flow", "ethanol_cheap"))
    truth = sciwm.load(teacher, threads=1)
    truth.compile()
    within = cheap.simulator()
    ways: dict[str, tuple[World, dict[str, Any]]] = {
        "truth, 0.5 fs": (truth, {"dt": 0.5}),
        "truth, 1 fs": (truth, {"dt": 1.0}),
        "map, 8 fs": (flow, {"dt": 8.0}),
        "map, 16 fs": (flow, {"dt": 16.0}),
        "RESPA, 2 fs": (truth, {"dt": 2.0, "cheap": within, "cheap_steps": 4}),
        "RESPA, 4 fs": (truth, {"dt": 4.0, "cheap": within, "cheap_steps": 8}),
        "GHMC on RESPA, 4 fs": (
            truth, {"dt": 4.0, "cheap": within, "cheap_steps": 8, "thermostat": "ghmc"},
        ),
        "GHMC on RESPA, 8 fs": (
            truth, {"dt": 8.0, "cheap": within, "cheap_steps": 16, "thermostat": "ghmc"},
        ),
    }  # fmt: skip
    figures = costs(ways, motion[0])
    figures |= drift(flow, truth, motion)
    for kelvin, path in zip(WARM, motion, strict=True):
        figures |= averages(ways, kelvin, starts(path, copies), picoseconds * 1000)
    told(figures)
    for name, one in figures.items():
        error = f" ± {one['error']:.2g}" if "error" in one else ""
        null = f"  (null {one['null']:.3g})" if "null" in one else ""
        print(f"{name:52s}{one['value']:10.4g}{error} {one['unit']}{null}")
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1, ensure_ascii=False))


def taught(teacher: Path, folder: Path, kelvin: float, copies: int) -> Path:
    """Motion at constant energy that the teacher simulated, frames 1 fs apart, once it is warm."""
    warm, out = folder / f"warm_{kelvin:.0f}K.h5md", folder / f"motion_{kelvin:.0f}K.h5md"
    with H5MDFile(teacher / "train.h5md") as file:
        apart = max(sum(len(one) for one in file.trajectories) // copies, 1)
    for arguments in (
        [teacher / "train.h5md", "1ps", "--frames", f":{apart * copies}:{apart}", "--temperature",
         f"{kelvin}K", "--every", 2000, "--out", warm],
        [warm, "6ps", "--every", 2, "--out", out],
    ):  # fmt: skip
        # Hot copies may leave what the teacher was trained on; what they did before is right.
        if command(["simulate", str(teacher), *map(str, arguments)]) not in (0, SOME_STOPPED):
            raise RuntimeError(f"the teacher cannot simulate {arguments[-1]}")
    return out


def learned(job: str, motion: list[Path], folder: Path) -> World:
    """The model of a job, trained on the motion."""
    if not (folder / job / "model.pt").is_file():
        data = json.dumps([str(path) for path in motion])
        arguments = [f"configs/{job}.yaml", "--data.train", data, "--folder", str(folder)]
        if command(["train", *arguments, "--name", job]) != 0:
            raise RuntimeError(f"{job} was not trained")
    world = sciwm.load(folder / job, threads=1)
    world.compile()
    return world


def starts(path: Path, copies: int) -> State:
    """Where the teacher's simulations ended, of those that came to the end."""
    with H5MDFile(path) as file:
        longest = max(len(one) for one in file.trajectories)
        frames = [one.frame(longest - 1) for one in file.trajectories if len(one) == longest]
    chosen = [frames[k % len(frames)].with_(energy=None, forces=None) for k in range(copies)]
    state = State.collate([State.from_frame(frame, torch.float64) for frame in chosen])
    state.stream = torch.arange(copies)
    return state


def costs(ways: dict[str, tuple[World, dict[str, Any]]], path: Path) -> Figures:
    """Milliseconds for a picosecond of one molecule, the best of rounds in which all take turns."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, (world, options) in ways.items():
            propagator = MotionSettings(temperature=300.0, **options).propagator(world.mover())
            steps = round(TIMED_FS / propagator.stride)
            rollout = Rollout(propagator, every=steps)
            state = rollout.run(starts(path, 1), 1).state
            began = time.perf_counter()
            rollout.run(state, steps)
            spent = (time.perf_counter() - began) / TIMED_FS * 1e6
            best[name] = min(spent, best.get(name, np.inf))
    return {f"cost, {name}": {"value": one, "unit": "ms per ps"} for name, one in best.items()}


def drift(flow: World, truth: World, motion: list[Path]) -> Figures:
    """How the truth's total energy changes along the map's longest strides without a thermostat."""
    figures: Figures = {}
    for kelvin, path in zip(WARM, motion, strict=True):
        start = starts(path, 16)
        propagator = MotionSettings().propagator(flow.mover())
        steps = round(2000 / propagator.stride)
        ends = Rollout(propagator, every=steps).run(start, steps)
        change = total(truth, ends.state) - total(truth, start)
        times = np.array(ends.steps) * propagator.stride * 1e-3
        each = (change / start.counts.numpy() / times * 1e3)[times > 0]
        figures[f"drift, map, 16 fs, {kelvin:.0f} K"] = {
            "value": float(each.mean()),
            "error": float(each.std(ddof=1) / len(each) ** 0.5),
            "unit": "meV/atom/ps",
        }
    return figures


def total(truth: World, state: State) -> Array:
    """(S,) energies."""
    energy = truth.simulator().evaluate(state).energy.double()
    return (energy + kinetic_energy(state, truth.units)).numpy()


def averages(
    ways: dict[str, tuple[World, dict[str, Any]]], kelvin: float, start: State, duration: float
) -> Figures:
    """Heat and distributions of every way at one temperature."""
    figures: Figures = {}
    truth: list[list[Frame]] = []
    units = next(iter(ways.values()))[0].units
    for name, (world, options) in ways.items():
        propagator = MotionSettings(temperature=kelvin, seed=1, **options).propagator(world.mover())
        steps = round(duration / propagator.stride)
        state = maxwell_boltzmann(start, kelvin, units, 1)
        found = Rollout(propagator, every=max(round(EVERY_FS / propagator.stride), 1)).run(
            state, steps
        )
        where = f"{kelvin:.0f} K, {name}"
        lost = sum(reason is not None for reason in found.reasons)
        figures[f"{where}: stopped early"] = {"value": lost, "unit": f"of {len(found.reasons)}"}
        if isinstance(propagator, GHMC):
            figures[f"{where}: accepted"] = {"value": 100 * propagator.score.share, "unit": "%"}
        frames = [
            one[len(one) // 10 :]
            for one, why in zip(found.frames, found.reasons, strict=True)
            if why is None
        ]
        if len(frames) < 2:
            continue
        truth = truth or frames
        figures |= {f"{where}: {key}": one for key, one in heat(frames, kelvin, units).items()}
        figures |= {f"{where}: {key}": one for key, one in shapes(frames, truth).items()}
    return figures


def heat(frames: list[list[Frame]], kelvin: float, units: Any) -> Figures:
    """Distance of temperatures from the thermostat's, and of elements' from that of all, in percent."""
    moving = [paths.Motion.from_frames(one, units) for one in frames]
    held = np.array([float(temperature(one, "nothing").value) for one in moving]) / kelvin
    figures = {"temperature": _percent(held)}
    shares = [equipartition(one, "nothing") for one in moving]
    for number in sorted(shares[0]):
        values = np.array([float(one[number].value) for one in shares])
        figures[f"equipartition, {species_name(number, units)}"] = _percent(values)
    return figures


def _percent(ratios: Array) -> dict[str, Any]:
    error = float(ratios.std(ddof=1) / len(ratios) ** 0.5)
    return {"value": 100 * (float(ratios.mean()) - 1), "error": 100 * error, "unit": "%"}


def shapes(frames: list[list[Frame]], truth: list[list[Frame]]) -> Figures:
    """Jensen-Shannon distances of distributions from the truth's; the null is its own two halves'."""
    pairs, turning = places(truth[0][0])
    quantities: dict[str, Callable[[Frame], float]] = {
        f"bond {name}": partial(_length, pair=pair) for name, pair in pairs.items()
    }
    quantities["torsion"] = partial(_torsion, turning=turning)
    figures: Figures = {}
    half = len(truth) // 2
    for name, measure in quantities.items():
        mine, theirs, one, other = (
            np.array([measure(frame) for path in some for frame in path])
            for some in (frames, truth, truth[:half], truth[half:])
        )
        edges = np.linspace(theirs.min(), theirs.max(), BINS + 1)

        def apart(a: Array, b: Array, edges: Array = edges) -> float:
            counts = [np.histogram(np.clip(x, edges[0], edges[-1]), edges)[0] for x in (a, b)]
            return float(jensenshannon(*counts, base=2))

        figures[f"{name}, distance of distributions"] = {
            "value": apart(mine, theirs), "null": apart(one, other), "unit": "",
        }  # fmt: skip
    return figures


def places(frame: Frame) -> tuple[dict[str, tuple[int, int]], list[int]]:
    """A bond of every kind, and the four atoms of the hydroxyl group's torsion."""
    found: dict[str, tuple[int, int]] = {}
    near: dict[int, list[int]] = {}
    for i, j in bonds(frame.numbers, frame.positions).tolist():
        ends = sorted((i, j), key=lambda atom: -frame.numbers[atom])
        name = "-".join(chemical_symbols[frame.numbers[atom]] for atom in ends)
        found.setdefault(name, (i, j))
        near.setdefault(i, []).append(j)
        near.setdefault(j, []).append(i)
    oxygen = int(np.flatnonzero(frame.numbers == 8)[0])
    carbon = next(atom for atom in near[oxygen] if frame.numbers[atom] == 6)
    hydrogen = next(atom for atom in near[oxygen] if frame.numbers[atom] == 1)
    methyl = next(atom for atom in near[carbon] if frame.numbers[atom] == 6)
    return found, [methyl, carbon, oxygen, hydrogen]


def _length(frame: Frame, pair: tuple[int, int]) -> float:
    return float(np.linalg.norm(frame.positions[pair[0]] - frame.positions[pair[1]]))


def _torsion(frame: Frame, turning: list[int]) -> float:
    a, b, c, d = frame.positions[turning]
    axis = (c - b) / np.linalg.norm(c - b)
    v, w = a - b - np.dot(a - b, axis) * axis, d - c - np.dot(d - c, axis) * axis
    return float(np.degrees(np.arctan2(np.dot(np.cross(axis, v), w), np.dot(v, w))))


def told(figures: Figures) -> None:
    """Adds the figures that stand for all of a system."""
    far = [
        (abs(one["value"]), name)
        for name, one in figures.items()
        if "map, 16 fs: equipartition" in name
    ]
    warm = [abs(one["value"]) for name, one in figures.items() if "map, 16 fs: temperature" in name]
    ratio = figures["cost, truth, 0.5 fs"]["value"] / figures["cost, map, 16 fs"]["value"]
    figures |= {
        "ethanol_stride_fs": {"value": 16.0, "unit": "fs"},
        "ethanol_speedup": {"value": ratio, "unit": "times"},
        "ethanol_equipartition_percent": {"value": max(far)[0], "unit": "%"},
        "ethanol_temperature_percent": {"value": max(warm), "unit": "%"},
        "ethanol_drift": figures["drift, map, 16 fs, 300 K"],
    }


if __name__ == "__main__":
    auto_cli(main, as_positional=False)

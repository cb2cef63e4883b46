"""Long strides of four kinds of matter, each against the force field that it was learned from.

- ethanol: the world of `make` (runs/ethanol) is the truth; 16 copies at 300 K and 16 at 500 K.
- acac: acetylacetone, the world that comes with sciwm is the truth; likewise.
- lj: a force field of the law of Lennard and Jones; three copies of a fluid of 216 and of a crystal of 256.
- silicon: a force field of density functional theory; three copies of 216 atoms, a crystal and its melt.

A flow map learns two strides from their motion, the longer one twice the shorter. Of molecules a small force
field learns the forces too, to stand in within strides of RESPA. Then all move the same systems:

- the truth at its usual step, and of molecules at twice that; its own scatter is the null of distributions:
  one half of its copies against the other;
- the map at both strides;
- of molecules RESPA at 2 and 4 fs, and at 4 and 8 fs with strides accepted or refused (GHMC).

Errors of one stride beside those of straight motion; temperature, share of heat of every element and of the
longest waves, with standard errors over copies; distributions of distances and of a torsion (Jensen-Shannon
distance from the truth's); diffusion; and the cost of a system for a time, all in turns on one core. Each
takes an hour of one core or two, half of it when asked again.

    make && python scripts/bench_stride.py [--system lj] [--duration 6] [--json_file FILE]
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
from ase.geometry import get_distances
from jsonargparse import auto_cli
from scipy.spatial.distance import jensenshannon
from stride_systems import SETUPS, Condition, Setup, simulated

import sciwm
from sciwm.cli import main as command
from sciwm.core.bonds import bonds
from sciwm.core.frame import Array, Frame
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.data.h5md import H5MDFile
from sciwm.evaluation.evaluate import species_name
from sciwm.interfaces.motion import MotionSettings
from sciwm.interfaces.world import World
from sciwm.simulation.observables import motion as paths
from sciwm.simulation.observables.diffusion import diffusion_coefficient
from sciwm.simulation.observables.thermodynamics import equipartition, temperature
from sciwm.simulation.propagators import GHMC
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.velocities import kinetic_energy, maxwell_boltzmann

Figures = dict[str, dict[str, Any]]
Ways = dict[str, tuple[World, dict[str, Any]]]

CHEAP = (
    "--data.init_args.frames",
    "::40",
    "--data.init_args.valid",
    200,
    "--data.init_args.split",
    "trajectory",
    "--task.init_args.cpu_seconds",
    150,
    "--task.init_args.compiled",
    "true",
)
"""How the small force field learns from the motion, and for longer than in its job."""

BINS = 60
ROUNDS, TIMED_STRIDES = 5, 100

LONGER = 5
"""Times longer than the truth a map moves matter in a box."""


def main(
    system: str = "ethanol",
    folder: Path | None = None,
    copies: int | None = None,
    duration: float | None = None,
    flow_seconds: float = 900.0,
    json_file: str | None = None,
) -> None:
    """Prints the figures, and writes them.

    Args:
        system: One of ethanol, acac, lj, silicon.
        folder: Where to keep trajectories and models.
        copies: Simulations of each way in each condition; without it as many as were learned from.
        duration: Of each, in ps or reduced; without it as long as those that were learned from.
        flow_seconds: Processor time that the map learns.
        json_file: Where to write the figures as JSON too.
    """
    torch.set_num_threads(1)
    setup = SETUPS[system]
    folder = folder or Path("runs/bench_stride", system)
    folder.mkdir(parents=True, exist_ok=True)
    teacher, conditions = setup.truth(folder)
    motion = [taught(setup, teacher, condition, folder) for condition in conditions]
    flow = learned(
        "ethanol_flow", motion, folder, "--data.init_args.stride", setup.frames,
        "--data.init_args.batch_size", setup.batch, "--task.init_args.cpu_seconds", flow_seconds,
        "--task.init_args.model.init_args.encoder.cutoff", setup.cutoff,
        "--task.init_args.model.init_args.unit_system", sciwm.load(teacher).units.name,
    )  # fmt: skip
    truth = sciwm.load(teacher, threads=1)
    truth.compile()
    units = truth.units
    unit = f" {units.time}".rstrip()
    ways: Ways = {f"truth, {setup.step:g}{unit}": (truth, {"dt": setup.step})}
    if setup.molecule:
        ways[f"truth, {2 * setup.step:g}{unit}"] = truth, {"dt": 2 * setup.step}
    for stride in setup.strides:
        ways[f"map, {stride:g}{unit}"] = flow, {"dt": stride}
    if setup.molecule:
        cheap = learned("ethanol_cheap", motion, folder, *CHEAP).simulator()
        for dt, ghmc in ((2.0, False), (4.0, False), (4.0, True), (8.0, True)):
            within = {"dt": dt, "cheap": cheap, "cheap_steps": round(2 * dt)}
            name = f"{'GHMC on ' * ghmc}RESPA, {dt:g} fs"
            ways[name] = truth, within | ({"thermostat": "ghmc"} if ghmc else {})
    number = copies or setup.copies
    lasts = duration or float(setup.motion.removesuffix("ps"))
    lasts *= 1000 if units.name == "molecular" else 1
    figures = costs(ways, setup, conditions[0], motion[0])
    for condition, path in zip(conditions, motion, strict=True):
        start = starts(path, number)
        figures |= one_stride(flow, truth, setup, condition, start)
        figures |= drift(flow, truth, setup, condition, start)
        figures |= averages(ways, setup, condition, start, lasts)
    told(figures, system, setup, units)
    for name, one in figures.items():
        error = f" ± {one['error']:.2g}" if "error" in one else ""
        null = f"  (null {one['null']:.3g})" if "null" in one else ""
        print(f"{name:60s}{one['value']:10.4g}{error} {one['unit']}{null}")
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1, ensure_ascii=False))


def taught(setup: Setup, teacher: str, condition: Condition, folder: Path) -> Path:
    """Motion at constant energy that the teacher simulated, once it is warm."""
    name = condition.name.replace(" ", "")
    warm, out = folder / f"warm_{name}.h5md", folder / f"motion_{name}.h5md"
    simulated(teacher, condition.start, condition.warming, *condition.options, "--temperature",
              str(condition.temperature), "--dt", str(setup.step), "--every", "1000", "--out",
              str(warm))  # fmt: skip
    simulated(teacher, str(warm), setup.motion, "--dt", str(setup.step), "--every",
              str(setup.every), "--out", str(out))  # fmt: skip
    return out


def learned(job: str, motion: list[Path], folder: Path, *options: Any) -> World:
    """The model of a job, trained on the motion."""
    if not (folder / job / "model.pt").is_file():
        data = json.dumps([str(path) for path in motion])
        arguments = [f"configs/{job}.yaml", "--data.train", data, "--folder", str(folder)]
        if command(["train", *arguments, "--name", job, *map(str, options)]) != 0:
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


def costs(ways: Ways, setup: Setup, condition: Condition, path: Path) -> Figures:
    """Milliseconds for a picosecond, or a unit of time, of one system: the best of rounds in turns."""
    best: dict[str, float] = {}
    units = next(iter(ways.values()))[0].units
    lasts = TIMED_STRIDES * setup.strides[1]
    per = 1000.0 if units.name == "molecular" else 1.0
    for _ in range(ROUNDS):
        for name, (world, options) in ways.items():
            settings = MotionSettings(temperature=condition.temperature, **options)
            propagator = settings.propagator(world.mover())
            steps = round(lasts / propagator.stride)
            rollout = Rollout(propagator, every=steps)
            state = rollout.run(starts(path, 1), 1).state
            began = time.perf_counter()
            ended = rollout.run(state, steps)
            spent = (time.perf_counter() - began) / lasts * per * 1e3
            if ended.reasons[0] is None:
                best[name] = min(spent, best.get(name, np.inf))
    unit = "ms per ps" if units.name == "molecular" else "ms per unit of time"
    return {f"cost, {name}": {"value": one, "unit": unit} for name, one in best.items()}


def one_stride(
    flow: World, truth: World, setup: Setup, condition: Condition, start: State
) -> Figures:
    """Error of velocities and of displacements after one stride, in shares of usual ones."""
    figures: Figures = {}
    for stride in setup.strides:
        ends = []
        for world, dt in ((truth, setup.step), (flow, stride)):
            steps = round(stride / dt)
            moved = MotionSettings(dt=dt).propagator(world.mover())
            ends.append(Rollout(moved, every=steps).run(start, steps).state)
        straight = start.positions + stride * start.velocities
        gone = (ends[0].positions - start.positions).square().mean().sqrt()
        usual = ends[0].velocities.square().mean().sqrt()
        for quantity, found, true, null, scale in (
            ("velocities", ends[1].velocities, ends[0].velocities, start.velocities, usual),
            ("displacements", ends[1].positions, ends[0].positions, straight, gone),
        ):
            value, without = (
                float((one - true).square().mean().sqrt() / scale) for one in (found, null)
            )
            figures[f"{condition.name}, one stride of {stride:g}: error of {quantity}"] = {
                "value": 100 * value, "null": 100 * without, "unit": "%",
            }  # fmt: skip
    return figures


def drift(flow: World, truth: World, setup: Setup, condition: Condition, start: State) -> Figures:
    """How the truth's total energy changes along the map's longest strides without a thermostat."""
    propagator = MotionSettings().propagator(flow.mover())
    steps = round(125 * setup.strides[1] / propagator.stride)
    ends = Rollout(propagator, every=steps).run(start, steps)
    change = total(truth, ends.state) - total(truth, start)
    picoseconds = truth.units.name == "molecular"
    times = np.array(ends.steps) * propagator.stride * (1e-3 if picoseconds else 1.0)
    each = (change / start.counts.numpy() / times * 1e3)[times > 0]
    return {
        f"drift, map, {setup.strides[1]:g}, {condition.name}": {
            "value": float(each.mean()),
            "error": float(each.std(ddof=1) / len(each) ** 0.5),
            "unit": "meV/atom/ps" if picoseconds else "thousandths per atom and time",
        }
    }


def total(truth: World, state: State) -> Array:
    """(S,) energies."""
    energy = truth.simulator().evaluate(state).energy.double()
    return (energy + kinetic_energy(state, truth.units)).numpy()


def averages(
    ways: Ways, setup: Setup, condition: Condition, start: State, duration: float
) -> Figures:
    """Heat and distributions of every way in one condition."""
    figures: Figures = {}
    truth: list[list[Frame]] = []
    truth_world = next(iter(ways.values()))[0]
    units = truth_world.units
    kelvin = condition.temperature
    apart = setup.strides[1]
    for name, (world, options) in ways.items():
        if setup.friction is not None:
            options = options | {"friction": setup.friction}
        propagator = MotionSettings(temperature=kelvin, seed=1, **options).propagator(world.mover())
        # Long waves are few, and tell their temperature only in time.
        longer = LONGER if world is not truth_world and not setup.molecule else 1
        steps = round(longer * duration / propagator.stride)
        state = maxwell_boltzmann(start, kelvin, units, 1)
        found = Rollout(propagator, every=max(round(apart / propagator.stride), 1)).run(
            state, steps
        )
        where = f"{condition.name}, {name}"
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
        moving = [paths.Motion.from_frames(one, units) for one in frames]
        measured = heat(moving, kelvin, units) | shapes(frames, truth, setup)
        if not setup.molecule:
            measured |= waves(moving, kelvin)
        if condition.liquid:
            measured |= spreading(moving)
        figures |= {f"{where}: {key}": one for key, one in measured.items()}
    return figures


def heat(moving: list[paths.Motion], kelvin: float, units: UnitSystem) -> Figures:
    """Distance of temperatures from the thermostat's, and of elements' from that of all, in percent."""
    held = np.array([float(temperature(one, "nothing").value) for one in moving]) / kelvin
    figures = {"temperature": _percent(held)}
    shares = [equipartition(one, "nothing") for one in moving]
    if len(shares[0]) < 2:
        return figures
    for number in sorted(shares[0]):
        values = np.array([float(one[number].value) for one in shares])
        figures[f"equipartition, {species_name(number, units)}"] = _percent(values)
    return figures


def waves(moving: list[paths.Motion], kelvin: float) -> Figures:
    """Temperature of the longest waves that fit into the box, of particles of one mass, in percent.

    The sum of v cos(k·x) over particles has the variance kT/m Σ cos² in equilibrium, whatever the forces;
    with the momentum of the whole held, Σ cos² less the square of Σ cos over their number.
    """
    shares = []
    for one in moving:
        assert one.velocities is not None
        phase = 2 * np.pi * np.einsum("tni,tij->tnj", one.positions, np.linalg.inv(one.cells))
        wave = np.concatenate([np.cos(phase), np.sin(phase)], axis=2)
        motion = one.velocities - one.velocities.mean(axis=1, keepdims=True)
        sums = np.einsum("tnk,tnc->tkc", wave, motion)
        spread = (wave**2).sum(axis=1) - wave.sum(axis=1) ** 2 / wave.shape[1]
        squares = one.masses[0] * sums**2 / (spread[:, :, None] * one.units.boltzmann * kelvin)
        shares.append(float(squares.mean()) / one.units.acceleration)
    return {"longest waves": _percent(np.array(shares))}


def spreading(moving: list[paths.Motion]) -> Figures:
    """The diffusion coefficient."""
    longest = moving[0].frame_spacing * (len(moving[0]) // 16)
    found = [diffusion_coefficient(one.without_drift(), (longest / 3, longest)) for one in moving]
    values = np.array([float(one.value) for one in found])
    error = float(values.std(ddof=1) / len(values) ** 0.5)
    return {"diffusion": {"value": float(values.mean()), "error": error, "unit": found[0].unit}}


def _percent(ratios: Array) -> dict[str, Any]:
    error = float(ratios.std(ddof=1) / len(ratios) ** 0.5)
    return {"value": 100 * (float(ratios.mean()) - 1), "error": 100 * error, "unit": "%"}


def shapes(frames: list[list[Frame]], truth: list[list[Frame]], setup: Setup) -> Figures:
    """Jensen-Shannon distances of distributions from the truth's; the null is its own two halves'."""
    quantities: dict[str, Callable[[Frame], Array]] = {"distances": _distances}
    if setup.torsion is not None:
        pairs = bonds_of_each_kind(truth[0][0])
        quantities = {f"bond {name}": partial(_length, pair=pair) for name, pair in pairs.items()}
        quantities["torsion"] = partial(_torsion, turning=list(setup.torsion))
    figures: Figures = {}
    half = len(truth) // 2
    for name, measure in quantities.items():
        mine, theirs, one, other = (
            np.concatenate([measure(frame) for path in some for frame in path])
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


def bonds_of_each_kind(frame: Frame) -> dict[str, tuple[int, int]]:
    """One of every pair of elements."""
    found: dict[str, tuple[int, int]] = {}
    for i, j in bonds(frame.numbers, frame.positions).tolist():
        ends = sorted((i, j), key=lambda atom: -frame.numbers[atom])
        found.setdefault("-".join(chemical_symbols[frame.numbers[atom]] for atom in ends), (i, j))
    return found


def _distances(frame: Frame) -> Array:
    """Of all pairs nearer than half a box."""
    _, apart = get_distances(frame.positions, cell=frame.cell, pbc=frame.pbc)
    upper = apart[np.triu_indices(len(apart), k=1)]
    return upper[upper < 0.5 * np.linalg.norm(frame.cell, axis=1).min()]


def _length(frame: Frame, pair: tuple[int, int]) -> Array:
    return np.linalg.norm(frame.positions[[pair[0]]] - frame.positions[[pair[1]]], axis=1)


def _torsion(frame: Frame, turning: list[int]) -> Array:
    a, b, c, d = frame.positions[turning]
    axis = (c - b) / np.linalg.norm(c - b)
    v, w = a - b - np.dot(a - b, axis) * axis, d - c - np.dot(d - c, axis) * axis
    return np.degrees([np.arctan2(np.dot(np.cross(axis, v), w), np.dot(v, w))])


def told(figures: Figures, system: str, setup: Setup, units: UnitSystem) -> None:
    """Adds the figures that stand for all of a system."""
    unit = f" {units.time}".rstrip()
    way = f"map, {setup.strides[1]:g}{unit}"
    off = {
        what: max(
            (abs(one["value"]) for name, one in figures.items() if f"{way}: {what}" in name),
            default=float("nan"),
        )
        for what in ("equipartition", "longest waves", "temperature")
    }
    truth = figures[f"cost, truth, {setup.step:g}{unit}"]["value"]
    drifts = [one for name, one in figures.items() if name.startswith("drift")]
    figures |= {
        f"{system}_stride_fs": {"value": setup.strides[1], "unit": units.time or "reduced"},
        f"{system}_stride_over_step": {"value": setup.strides[1] / setup.step, "unit": "times"},
        f"{system}_speedup": {"value": truth / figures[f"cost, {way}"]["value"], "unit": "times"},
        f"{system}_equipartition_percent": {
            "value": off["equipartition" if setup.molecule else "longest waves"], "unit": "%",
        },
        f"{system}_temperature_percent": {"value": off["temperature"], "unit": "%"},
        f"{system}_drift": drifts[0],
    }  # fmt: skip


if __name__ == "__main__":
    auto_cli(main, as_positional=False)

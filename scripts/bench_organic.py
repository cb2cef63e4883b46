"""The shipped world on molecules that it never saw, beside GFN2-xTB, which it learned from.

Held-back molecules of the lists (datasets/organic_xtb) with at least 8 heavy atoms. Four parts:

- forces: errors of forces and energies on frames of GFN2's own Langevin dynamics at 300, 500 and 1000 K,
  40 fs after frames that were heated in MMFF94s, beside the null model of no force at all;
- outcomes: errors of dipoles, charges and gaps on the same frames, beside no dipole, the mean charge of the
  element and the mean gap of these frames;
- relaxed: minima and energies of conformers of drug-like ones (QED of at least 0.5), against those that
  GFN2 finds from the world's minima;
- cost: seconds for forces of one structure of oligoglycine, one thread each, in turns.

The frames are made once, in about five minutes, and kept in the folder; the rest takes about ten.

    python scripts/bench_organic.py [--model organic] [--only '["forces"]'] [--json_file FILE]
"""

import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import runpy
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from ase.data import chemical_symbols
from jsonargparse import auto_cli
from rdkit import Chem
from rdkit.Chem import QED
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr

import sciwm
from sciwm.core.bonds import bonds
from sciwm.core.frame import Array, Frame
from sciwm.core.molecules import frame_from_smiles, parsed
from sciwm.core.progress import Bar
from sciwm.core.properties import PROPERTIES
from sciwm.core.state import State
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.interfaces.world import World
from sciwm.models.dynamics.potential import DerivedPotential
from sciwm.simulation.propagators import Langevin
from sciwm.simulation.references.xtb import GFN2
from sciwm.simulation.relaxation import relax
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.simulator import Simulator

Part = Literal["forces", "outcomes", "relaxed", "cost"]
Figures = dict[str, dict[str, Any]]

LISTS = [f"../shared/data/{name}" for name in (
    "aqsoldb/data_curated.csv", "esol/delaney-processed.csv", "freesolv/database.txt",
)]  # fmt: skip
TEMPERATURES = (300.0, 500.0, 1000.0)  # K
STEPS, TIME_STEP, FRICTION = 40, 1.0, 0.05  # of GFN2's dynamics; fs, 1/fs
FEWEST = 8  # heavy atoms
KCAL_MOL = 0.0433641  # eV
FMAX = 0.02  # eV/Å
GROUPS = {
    "aromatic ring": "a", "carbonyl": "[CX3]=O", "carboxylic acid": "C(=O)[OX2H]",
    "ester": "C(=O)[OX2][#6]",
    "amide": "C(=O)[NX3]", "alcohol or phenol": "[#6;!$(C=O)][OX2H]",
    "ether": "[#6;!$(C=O)][OX2][#6;!$(C=O)]",
    "amine": "[NX3;!$(N-C=O);!$(N=*);!$(N-S=O)][#6]", "nitrile": "C#N", "nitro": "[N+](=O)[O-]",
    "sulfonyl": "S(=O)(=O)", "sulfur without oxygen": "[#16;!$(S=O)]", "fluorine": "F", "chlorine": "Cl",
    "only C and H": "[$([#6])]",
}  # fmt: skip
LENGTHS = {20: 2, 50: 7, 100: 14, 200: 28}  # residues of glycine, by about how many atoms


def main(
    model: str = "organic",
    lists: list[str] | None = None,
    only: list[Part] | None = None,
    molecules: int = 80,
    drug_like: int = 40,
    conformers: int = 3,
    folder: Path = Path("runs/bench_organic"),
    json_file: str | None = None,
) -> None:
    """Prints the figures, and writes them.

    Args:
        model: A name, run folder or model file of a world.
        lists: Tables with the column SMILES; those of the reference data by default.
        only: Which parts; all by default.
        molecules: For forces.
        drug_like: For relaxed geometries.
        conformers: Of each of those.
        folder: Where to keep the frames.
        json_file: Where to write the figures as JSON too.
    """
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = runpy.run_path("datasets/organic_xtb/recipe.py")
    every = recipe["molecules"]([Path(path) for path in lists or LISTS])
    unseen = [s for s in every if recipe["held_back"](s) and parsed(s).GetNumAtoms() >= FEWEST]
    figures: Figures = {}
    wanted = only or get_args(Part)
    if {"forces", "outcomes"} & set(wanted):
        frames = _frames(unseen[:molecules], recipe["Heated"], folder / "test.h5md")
        world = sciwm.load(model, threads=1)
        if "forces" in wanted:
            figures |= forces(world.simulator(), frames)
            figures |= expected_errors(world, frames)
        if "outcomes" in wanted:
            figures |= outcomes(world, frames)
    if "relaxed" in wanted:
        chosen = [s for s in unseen if QED.qed(parsed(s)) >= 0.5][:drug_like]
        figures |= relaxed(sciwm.load(model, threads=1).simulator(), chosen, conformers)
    if "cost" in wanted:
        world = sciwm.load(model, threads=1)
        world.compile()
        figures |= cost(world.simulator())
    for name, one in figures.items():
        beside = f"  (null {one['null']:.4g})" if "null" in one else ""
        print(f"{name:45s}{one['value']:10.4g} {one['unit']}{beside}")
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1, ensure_ascii=False))


def _frames(chosen: Sequence[str], heated: Any, path: Path) -> list[Frame]:
    """Frames of GFN2's dynamics, each molecule at every temperature; from the file where it is there."""
    if not path.exists():
        partial = path.with_suffix(".partial.h5md")
        partial.unlink(missing_ok=True)
        with H5MDWriter(partial, creator_note="scripts/bench_organic.py") as writer:
            for k, smiles in enumerate(Bar(chosen, desc="GFN2 dynamics", unit="molecule")):
                rng = np.random.default_rng([1, k])
                starts = [heated(smiles, rng).frame(kelvin) for kelvin in TEMPERATURES]
                state = State.collate([State.from_frame(one, torch.float64) for one in starts])
                heat = torch.tensor(TEMPERATURES)
                motion = Langevin(GFN2(), TIME_STEP, heat, FRICTION, seed=k)
                ends = Rollout(motion, every=STEPS).run(state, STEPS).frames
                for kelvin, frames in zip(TEMPERATURES, ends, strict=True):
                    kept = frames[-1].with_(
                        smiles=smiles, label=f"{kelvin:.0f} K", time=None, step=None
                    )
                    writer.append(kept, group=f"{k:03d}")
        partial.rename(path)
    with H5MDFile(path) as file:
        return [one.frame(k) for one in file.trajectories for k in range(len(one))]


def forces(world: Simulator, frames: Sequence[Frame]) -> Figures:
    """Errors by temperature, element and functional group."""
    wrong, shifts = [], []
    for frame in Bar(frames, desc="forces", unit="frame"):
        found = world.evaluate(State.from_frame(frame, torch.float64))
        wrong.append(found.forces.double().numpy() - frame.forces)
        shifts.append(float(found.energy[0]) - frame.energy)
    names = [str(frame.smiles) for frame in frames]
    numbers = np.concatenate([frame.numbers for frame in frames])
    of_atom = np.concatenate(wrong)
    true = np.concatenate([frame.forces for frame in frames])

    def rms(values: Array) -> float:
        return 1000 * float(np.sqrt(np.mean(values**2)))

    def of(chosen: Sequence[int]) -> dict[str, Any]:
        null = np.concatenate([frames[i].forces for i in chosen])
        return {
            "value": rms(np.concatenate([wrong[i] for i in chosen])),
            "unit": "meV/Å",
            "null": rms(null),
            "frames": len(chosen),
        }

    figures: Figures = {"force RMSE": of(range(len(frames)))}
    figures["force MAE"] = {
        "value": 1000 * float(np.abs(of_atom).mean()),
        "unit": "meV/Å",
        "null": 1000 * float(np.abs(true).mean()),
    }
    for label in dict.fromkeys(str(frame.label) for frame in frames):
        figures[f"force RMSE, {label}"] = of([i for i, f in enumerate(frames) if f.label == label])
    by_molecule = {
        smiles: [i for i, name in enumerate(names) if name == smiles]
        for smiles in dict.fromkeys(names)
    }
    each = {smiles: float(of(rows)["value"]) for smiles, rows in by_molecule.items()}
    figures["force RMSE, median molecule"] = {
        "value": statistics.median(each.values()),
        "unit": "meV/Å",
    }
    worst = max(each, key=lambda smiles: each[smiles])
    figures["force RMSE, worst molecule"] = {
        "value": each[worst],
        "unit": "meV/Å",
        "smiles": worst,
    }
    for z in np.unique(numbers).tolist():
        figures[f"force RMSE, {chemical_symbols[z]}"] = {
            "value": rms(of_atom[numbers == z]),
            "unit": "meV/Å",
            "null": rms(true[numbers == z]),
            "atoms": int((numbers == z).sum()),
        }
    for group, smarts in GROUPS.items():
        pattern = Chem.MolFromSmarts(smarts)
        plain = group == "only C and H"
        rows = [
            i
            for i, name in enumerate(names)
            if parsed(name).HasSubstructMatch(pattern)
            and not (plain and {a.GetAtomicNum() for a in parsed(name).GetAtoms()} - {6})
        ]
        if rows:
            figures[f"force RMSE, {group}"] = of(rows)
    # Within a molecule: its mean error is that of its formation, and no force tells of it.
    inner = [
        np.array(shifts)[rows] - np.mean(np.array(shifts)[rows]) for rows in by_molecule.values()
    ]
    spread = [
        np.array([frames[i].energy for i in rows]) - np.mean([frames[i].energy for i in rows])
        for rows in by_molecule.values()
    ]
    figures["energy MAE within a molecule"] = {
        "value": 1000 * float(np.abs(np.concatenate(inner)).mean()),
        "unit": "meV",
        "null": 1000 * float(np.abs(np.concatenate(spread)).mean()),
    }
    figures["energy MAE of a molecule per atom"] = {
        "value": 1000
        * float(np.mean([abs(s) / len(f) for s, f in zip(shifts, frames, strict=True)])),
        "unit": "meV",
    }
    return figures


def expected_errors(world: World, frames: Sequence[Frame]) -> Figures:
    """How well the world tells how wrong its forces are, on molecules that it was not calibrated on."""
    model = world.model
    field = model.base if isinstance(model, DerivedPotential) else model
    bound = getattr(getattr(field, "force_error", None), "bound", None)
    if bound is None:
        return {}
    told, wrong = [], []
    for frame in Bar(frames, desc="expected errors", unit="frame"):
        found = world.simulator().evaluate(State.from_frame(frame, torch.float64))
        assert found.force_error is not None
        told.append(found.force_error.double().numpy())
        wrong.append(np.linalg.norm(found.forces.double().numpy() - frame.forces, axis=1))
    expected, true = np.concatenate(told), np.concatenate(wrong)
    means = [np.sqrt(np.mean(one**2)) for one in told], [np.sqrt(np.mean(one**2)) for one in wrong]
    return {
        "expected error: rank correlation, atoms": {
            "value": float(spearmanr(expected, true).statistic),
            "unit": "",
        },
        "expected error: rank correlation, frames": {
            "value": float(spearmanr(*means).statistic),
            "unit": "",
        },
        "expected error: coverage of 90 % bounds": {
            "value": 100 * float(np.mean(true < float(bound) * expected)),
            "unit": "%",
        },
    }


def outcomes(world: World, frames: Sequence[Frame]) -> Figures:
    """Mean absolute errors of what the world's heads tell, against GFN2's."""
    simulator = world.simulator()
    names = getattr(world.model, "properties", ())
    true: dict[str, list[Array]] = {name: [] for name in names}
    told: dict[str, list[Array]] = {name: [] for name in names}
    for frame in Bar(frames, desc="outcomes", unit="frame"):
        answer = GFN2().properties([frame])[0]
        if isinstance(answer, Exception):
            raise answer
        observed = simulator.observe(State.from_frame(frame, torch.float64), names)
        for name in names:
            true[name].append(np.asarray(getattr(answer, name), dtype=float).reshape(-1))
            told[name].append(observed[name].double().numpy().reshape(-1))
    elements = np.concatenate([frame.numbers for frame in frames])
    figures: Figures = {}
    for name in names:
        truth, found = np.concatenate(true[name]), np.concatenate(told[name])
        guess = np.zeros_like(truth)
        if name == "charges":
            for z in np.unique(elements):
                guess[elements == z] = truth[elements == z].mean()
        elif name != "dipole":
            guess += truth.mean()
        figures[f"outcome: {name} MAE"] = {
            "value": float(np.abs(found - truth).mean()),
            "unit": PROPERTIES[name].unit,
            "null": float(np.abs(guess - truth).mean()),
        }
    return figures


def relaxed(world: Simulator, chosen: Sequence[str], conformers: int) -> Figures:
    """Minima and conformer energies against GFN2's."""
    starts = [frame_from_smiles(smiles, seed) for smiles in chosen for seed in range(conformers)]
    mine = relax(
        world, State.collate([State.from_frame(one, torch.float64) for one in starts]), FMAX
    )
    theirs = relax(GFN2(), mine.state, FMAX)
    systems = range(len(starts))
    ends = [mine.state.frame(s).positions for s in systems]
    targets = [theirs.state.frame(s).positions for s in systems]
    sound = [bool(mine.converged[s]) and bool(theirs.converged[s]) for s in systems]
    broken = [
        not np.array_equal(bonds(one.numbers, one.positions), bonds(one.numbers, end))
        for one, end in zip(starts, ends, strict=True)
    ]
    apart = [_rmsd(ends[s], targets[s]) for s in systems if sound[s]]
    errors = []
    for first in range(0, len(starts), conformers):
        here = [s for s in range(first, first + conformers) if sound[s]]
        if len(here) < 2:
            continue
        gap = np.array([float(mine.energy[s]) - float(theirs.energy[s]) for s in here])
        errors += np.abs(gap - gap.mean()).tolist()
    return {
        "relaxed: molecules": {"value": len(chosen), "unit": "", "conformers": len(starts)},
        "relaxed: median RMSD": {"value": statistics.median(apart), "unit": "Å"},
        "relaxed: mean RMSD": {"value": statistics.mean(apart), "unit": "Å"},
        "relaxed: share with RMSD below 0.05 Å": {
            "value": 100 * float(np.mean(np.array(apart) < 0.05)),
            "unit": "%",
        },
        "relaxed: conformer energy MAE": {
            "value": statistics.mean(errors) / KCAL_MOL,
            "unit": "kcal/mol",
        },
        "relaxed: bonds changed": {"value": sum(broken), "unit": f"of {len(starts)}"},
        "relaxed: not converged": {
            "value": len(starts) - int(mine.converged.sum()),
            "unit": f"of {len(starts)}",
        },
    }


def _rmsd(one: Array, other: Array) -> float:
    """Å, of all atoms, once turned onto each other."""
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    _, distance = Rotation.align_vectors(one, other)
    return float(distance) / len(one) ** 0.5


def cost(world: Simulator, rounds: int = 3) -> Figures:
    """Seconds for one structure, GFN2 and the world in turns; the world with many at once, and with one."""
    figures: Figures = {}
    gfn2 = GFN2()
    rng = np.random.default_rng(0)
    for atoms, residues in LENGTHS.items():
        start = frame_from_smiles("NCC(=O)" * residues + "O")
        at_once = max(1600 // len(start), 1)

        def shaken(count: int, start: Frame = start) -> State:
            noise = 0.02 * rng.standard_normal((count, len(start), 3))
            frames = [start.with_(positions=start.positions + one) for one in noise]
            return State.collate([State.from_frame(one) for one in frames])

        def seconds(work: Callable[[], object], systems: int) -> float:
            began = time.perf_counter()
            work()
            return (time.perf_counter() - began) / systems

        for simulator, count in ((gfn2, 1), (world, at_once), (world, 1)):
            simulator.evaluate(shaken(count))  # warm
        taken: dict[str, list[float]] = {"gfn2": [], "many": [], "one": []}
        for _ in range(rounds):
            for name, simulator, count, calls in (
                ("gfn2", gfn2, 1, 2),
                ("many", world, at_once, 1),
                ("one", world, 1, 4),
            ):
                states = [shaken(count) for _ in range(calls)]
                taken[name].append(
                    seconds(lambda: [simulator.evaluate(one) for one in states], calls * count)  # noqa: B023
                )
        middle = {name: statistics.median(times) for name, times in taken.items()}
        kept = {"atoms": len(start), "seconds": middle, "unit": "times"}
        figures[f"cost: GFN2 over world, {atoms} atoms, {at_once} at once"] = kept | {
            "value": middle["gfn2"] / middle["many"]
        }
        figures[f"cost: GFN2 over world, {atoms} atoms, one at a time"] = kept | {
            "value": middle["gfn2"] / middle["one"]
        }
    return figures


if __name__ == "__main__":
    auto_cli(main, as_positional=False)

"""A training job for data that nobody has written one for: chosen from what the files hold.

The choices follow what was measured (`scripts/search_architecture.py`, `docs/training.md`): the medium
preset, small batches, a step for every frame about sixty times over, and where molecules have few labels a
world that is there already to start from.
"""

import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from ase.data import chemical_symbols

from sciwm.core.bounds import LONGEST_TRAINING
from sciwm.core.construction import Description, construct
from sciwm.core.frame import Frame
from sciwm.core.geometry import cell_heights
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import State
from sciwm.core.threads import on_threads
from sciwm.core.units import MOLECULAR
from sciwm.data.collection import Collection
from sciwm.data.splits import split_entries
from sciwm.evaluation.run import model_file, shipped_worlds
from sciwm.models import archive
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.dynamics.potential import Potential
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.programs.tracing import compiler
from sciwm.models.statistics import survey
from sciwm.training.force_errors import loss_inputs, squared_errors

LOOKED_AT = 200
"""Frames, spread over the data."""

FEW = 200
"""Frames below which a world that knows the elements is a better start than none."""

EPOCHS = 60
"""Times that every frame is learned from."""

FEWEST_STEPS, MOST_STEPS = 4000, 60_000

STEP_ATOMS = 60
"""Particles in a training step, about: small batches learn most in a given time."""

WORTH_COMPILING = 300.0
"""s of training without a compiled program, above which building one pays."""

CUTOFF = 5.0
"""Å."""

REACH = 2.7
"""Of a pair potential in a periodic box, in usual distances of neighbours."""


@dataclass
class Proposal:
    """A job and why it is this one.

    Attributes:
        job: As a job file holds it.
        reasons: A line for each choice.
    """

    job: dict[str, object]
    reasons: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The job file: reasons as comments, then YAML."""
        comments = "".join(f"# {reason}\n" for reason in self.reasons)
        return comments + yaml.safe_dump(self.job, sort_keys=False, default_flow_style=None)


def propose(files: list[Path]) -> Proposal:
    """A job for H5MD files of one kind.

    Raises:
        ValueError: If they hold nothing that can be learned from.
    """
    data = Collection(files)
    if len(data.frames) < 2:
        raise ValueError(
            f"{', '.join(map(str, files))} holds {len(data.frames)} frames; to learn and to hold some back "
            "takes at least two"
        )
    chosen = np.unique(np.linspace(0, len(data.frames) - 1, LOOKED_AT).astype(int))
    frames = [data.frame(data.frames[i]) for i in chosen]
    if all(frame.energy is not None and frame.forces is not None for frame in frames):
        return _from_forces(data, frames)
    if data.units is MOLECULAR:
        raise ValueError(
            f"not every frame of {', '.join(map(str, files))} has energies and forces, from which a "
            "model of molecules or materials learns. Label its frames with a reference (`sciwm simulate "
            "gfn2`), or learn the motion itself with a job of your own (docs/training.md)"
        )
    return _from_motion(data, frames)


def _from_forces(data: Collection, frames: list[Frame]) -> Proposal:
    count, atoms = len(data.frames), float(np.mean([len(frame) for frame in frames]))
    species = _species(data, frames)
    periodic = any(frame.pbc.any() for frame in frames)
    stress = all(frame.pbc.all() and frame.stress is not None for frame in frames)
    batch = int(np.clip(round(STEP_ATOMS / atoms), 1, 8))
    proposal = Proposal({}, [_seen(data, frames, species)])
    valid = int(np.clip(round(0.1 * count), 1, 500))
    split, why = _split(data, frames, valid)
    proposal.reasons.append(f"Held back: about {valid} frames, {why}.")
    items: dict[str, object] = {
        "train": _named(data),
        "valid": valid,
        "split": split,
        "batch_size": batch,
    }
    settings: dict[str, object] = {}
    if stress:
        items["stress"], settings["stress_weight"] = True, 0.1
    start = None
    if data.units is MOLECULAR and not periodic and count <= FEW:
        start = _world_for(frames)
    if start is not None:
        settings |= {"start": start, "replay": "auto", "matrix_rate": 0.001, "learning_rate": 3e-4}
        proposal.reasons.append(
            f"Few frames: it starts from the world {start!r}, which knows the elements, and practises what "
            "that knew beside the new data."
        )
        model: Potential = archive.load(model_file(start)).potential
    else:
        model, described = _new_model(data, frames, species, periodic)
        settings["model"] = described
        if data.units is MOLECULAR:
            proposal.reasons.append(
                "Energies of free atoms are fitted; where you know those of your method, give "
                "reference_energies, and bonds will break at the right cost."
            )
        else:
            settings["matrix_rate"] = 0.03
    some = frames[:: max(1, len(frames) // batch)][:batch]
    seconds = _step_seconds(model, some) * (1 if start is None else 2)
    steps = int(np.clip(EPOCHS * count / batch, FEWEST_STEPS, MOST_STEPS))
    cost = min(steps * seconds, LONGEST_TRAINING / 2)
    if cost > WORTH_COMPILING and compiler():
        settings["compiled"] = True
        cost /= 2
        proposal.reasons.append(
            "Compiled: a minute or two of building first, then steps twice as fast."
        )
    budget = max(60.0, float(f"{cost:.2g}"))
    settings["cpu_seconds"] = budget
    proposal.reasons.append(
        f"A step of {batch} frames takes {1e3 * seconds:.0f} ms here; about {budget / 60:.0f} minutes of "
        "one core (cpu_seconds). More lowers the error slowly."
    )
    proposal.job = {
        "data": {"class_path": "sciwm.data.FrameData", "init_args": items},
        "task": {"class_path": "sciwm.training.ForceTask", "init_args": settings},
        "max_steps": 2 * steps,  # where they turn out faster
        "validate_every": 500,
    }
    return proposal


def _from_motion(data: Collection, frames: list[Frame]) -> Proposal:
    species = _species(data, frames)
    whole = data.trajectories
    if any(one.timestep is None for one in whole):
        raise ValueError(
            f"{', '.join(map(str, data.paths))} has neither forces nor an even time between frames, so "
            "there is nothing to learn from; import it with --timestep, or with forces"
        )
    moving = all("velocities" in one.fields for one in whole)
    split = "trajectory" if len(whole) > 1 else "time"
    length = 2 if moving else 4
    if len(data.windows(length, 1)) < 2:
        raise ValueError(
            f"{', '.join(map(str, data.paths))} has no {length} successive frames to learn motion from"
        )
    items = {
        "train": _named(data),
        "valid": 0.1,
        "split": split,
        "length": length,
        "batch_size": int(np.clip(round(600 / np.mean([len(f) for f in frames])), 4, 128)),
    }
    _, model = _pair_potential(frames, species)
    task = {"model": model, "substeps": 10, "learning_rate": 0.03}
    reasons = [
        _seen(data, frames, species),
        "No forces: the law is learned from motion alone, as a sum over pairs of particles.",
        f"Held back: a tenth, by {split}.",
    ]
    job: dict[str, object] = {
        "data": {"class_path": "sciwm.data.WindowData", "init_args": items},
        "task": {"class_path": "sciwm.training.MotionTask", "init_args": task},
        "max_steps": 1000,
        "validate_every": 250,
    }
    return Proposal(job, reasons)


def _new_model(
    data: Collection, frames: list[Frame], species: list[int], periodic: bool
) -> tuple[Potential, dict[str, object]]:
    """A model, and how a job file describes it."""
    if data.units is not MOLECULAR:
        return _pair_potential(frames, species)
    # Crystals and liquids have several times the neighbours, and forces of fewer kinds.
    encoder = {"cutoff": CUTOFF} | ({"channels": 32} if periodic else {"basis_decay": 1.0})
    described: dict[str, object] = {
        "class_path": "sciwm.models.ForceField",
        "init_args": {"encoder": encoder},
    }
    return ForceField(Encoder(**encoder)), described


def _pair_potential(frames: list[Frame], species: list[int]) -> tuple[Potential, dict[str, object]]:
    """A model of particles, and how a job file describes it."""
    periodic = [frame for frame in frames if frame.pbc.any()]
    if periodic:
        reach = min(float(np.min(cell_heights(frame.cell, frame.pbc))) for frame in periodic) / 2
        spacing = max(_spacing(frame) for frame in periodic)
        cutoff = float(f"{min(REACH * spacing, reach):.3g}")
        basis: Description = {
            "class_path": "sciwm.models.BesselBasis",
            "init_args": {"cutoff": cutoff, "size": 16},
        }
    else:
        basis = {
            "class_path": "sciwm.models.InverseMultiquadricBasis",
            "init_args": {"size": 16, "narrowest": 0.01, "widest": 10.0},
        }
    described: Description = {
        "class_path": "sciwm.models.PairPotential",
        "init_args": {"basis": basis, "types": max(species) + 1},
    }
    return construct(described, Potential), described


def _spacing(frame: Frame) -> float:
    """Usual distance of neighbours: of a lattice of that density."""
    edges = frame.cell[frame.pbc]
    volume = float(np.sqrt(np.linalg.det(edges @ edges.T)))
    return (volume / len(frame)) ** (1 / len(edges))


def _species(data: Collection, frames: list[Frame]) -> list[int]:
    """Those of the frames that were looked at, and of the first of each trajectory."""
    firsts = [data.frame(entry) for entry in data.frames if entry.frame == 0]
    return sorted({int(number) for frame in (*frames, *firsts) for number in frame.numbers})


def _split(data: Collection, frames: list[Frame], valid: int) -> tuple[str, str]:
    """What held-back frames must not share with the others, and why."""
    whole = data.trajectories
    if len({tuple(sorted(frame.numbers.tolist())) for frame in frames}) > 10:
        with suppress(ValueError):  # all may have one scaffold
            _, held = split_entries(data, data.frames, valid, "molecule", 0)
            if len(held) <= 2 * valid:
                return "molecule", "molecules that training does not see"
    if any(one.timestep is not None and one.n_frames > 1 for one in whole):
        if len(whole) >= 10:
            return "trajectory", "trajectories that training does not see"
        return "time", "the end of each trajectory, for neighbouring frames are nearly the same"
    return "frame", "drawn at random"


def _world_for(frames: list[Frame]) -> str | None:
    """A world that comes with the package and knows all that the frames hold."""
    for name in shipped_worlds():
        domain = archive.load(model_file(name)).model.domain
        state = State.collate([State.from_frame(frame) for frame in frames])
        if not domain.unseen(state.numbers, state.batch) and domain.covers_charges(
            state.total_charge
        ):
            return name
    return None


def _step_seconds(model: Potential, frames: list[Frame]) -> float:
    """Processor time of one training step without a compiled program."""
    if not bool(model.domain.seen.any()):
        model.adapt(survey(frames, model.cutoff, model.units, None))
    state = State.collate([State.from_frame(frame) for frame in frames])
    inputs = loss_inputs(model, state, NeighbourTable.from_pairs(attach_pairs(state, model.cutoff)))
    times = []
    with on_threads(1):
        for _ in range(6):
            began = time.process_time()
            squared_errors(model, *inputs).sum().backward()
            times.append(time.process_time() - began)
    return statistics.median(times[1:])


def _seen(data: Collection, frames: list[Frame], species: list[int]) -> str:
    sizes = [len(frame) for frame in frames]
    low, high = min(sizes), max(sizes)
    kinds = (
        " ".join(chemical_symbols[number] for number in species)
        if data.units is MOLECULAR
        else f"types {', '.join(map(str, species))}"
    )
    extent = f"{low}" if low == high else f"{low} to {high}"
    return f"Seen: {len(data.frames)} frames of {extent} particles ({kinds})."


def _named(data: Collection) -> str | list[str]:
    names = [str(path) for path in data.paths]
    return names[0] if len(names) == 1 else names

"""Matter whose long strides are measured: the force field that is its truth, and where motion begins."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.build import bulk, make_supercell
from ase.io import write

from sciwm.cli import main as command
from sciwm.cli.simulate import SOME_STOPPED
from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.core.units import REDUCED
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.simulation.propagators import Langevin
from sciwm.simulation.references.ase_potentials import lennard_jones
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.velocities import maxwell_boltzmann

SILICON = "../shared/data/mlearn/Si_train.extxyz.gz"
LJ_STATES = {"fluid": (0.8, 1.0), "solid": (1.05, 0.5)}
"""Density and temperature."""


@dataclass(frozen=True)
class Condition:
    """A state of matter that is warmed up, moved, learned from and judged.

    Attributes:
        name: As figures call it.
        temperature: In the units' own.
        start: What `sciwm simulate` starts from.
        options: Of the warming up, such as which frames.
        warming: How long.
        liquid: Whether particles diffuse.
    """

    name: str
    temperature: float
    start: str
    options: tuple[str, ...]
    warming: str
    liquid: bool = False


@dataclass(frozen=True)
class Setup:
    """How one system is measured; times in its units, fs or reduced.

    Attributes:
        truth: Makes the force field if need be, in a folder, and tells its name and the conditions.
        step: Time step of the truth.
        every: Steps between the frames to learn from.
        frames: Of those in the shorter stride; the longer one is twice as long.
        batch: Windows in a training step.
        friction: Of the thermostat, where not the usual one.
        motion: How long each copy moves to be learned from.
        copies: Of each condition.
        cutoff: Of the map.
        molecule: Whether it is one, with bonds and fast hydrogens.
        torsion: Four atoms.
    """

    truth: Callable[[Path], tuple[str, tuple[Condition, ...]]]
    step: float
    every: int
    frames: int
    batch: int
    motion: str
    copies: int
    friction: float | None = None
    cutoff: float = 6.0
    torsion: tuple[int, int, int, int] | None = None

    @property
    def molecule(self) -> bool:
        """Whether it is one, without a box."""
        return self.torsion is not None

    @property
    def strides(self) -> tuple[float, float]:
        """The shorter and the longer."""
        shorter = self.step * self.every * self.frames
        return shorter, 2 * shorter


def ethanol(folder: Path) -> tuple[str, tuple[Condition, ...]]:
    """The world of `make`."""
    run = Path("runs/ethanol")
    with H5MDFile(run / "train.h5md") as file:
        apart = max(sum(len(one) for one in file.trajectories) // 16, 1)
    start, options = str(run / "train.h5md"), ("--frames", f":{16 * apart}:{apart}")
    return str(run), tuple(
        Condition(f"{kelvin:.0f} K", kelvin, start, options, "1ps") for kelvin in (300.0, 500.0)
    )


def acac(folder: Path) -> tuple[str, tuple[Condition, ...]]:
    """The world that comes with sciwm, of which GFN2-xTB is the teacher."""
    options = ("--copies", "16")
    return "organic", tuple(
        Condition(f"{kelvin:.0f} K", kelvin, "CC(=O)C=C(C)O", options, "1ps")
        for kelvin in (300.0, 500.0)
    )


def lj(folder: Path) -> tuple[str, tuple[Condition, ...]]:
    """A force field of the law of Lennard and Jones, from frames of its fluid and its crystal."""
    run, data = folder / "truth", folder / "train.h5md"
    conditions = tuple(
        Condition(
            name, temperature, str(folder / f"{name}.h5md"), ("--copies", "3"), "4", name == "fluid"
        )
        for name, (_, temperature) in LJ_STATES.items()
    )
    if not data.is_file():
        lj_frames(data, folder)
    if not (run / "model.pt").is_file():
        trained(run, data, "--data.stress", "false", "--task.init_args.stress_weight", "0",
                "--data.init_args.valid", "0.1", "--data.init_args.split", "time",
                "--task.init_args.model.init_args.encoder.cutoff", "2.0",
                "--task.init_args.model.init_args.repulsion", "false",
                "--task.init_args.model.init_args.unit_system", "reduced")  # fmt: skip
    return str(run), conditions


def lj_frames(data: Path, folder: Path) -> None:
    """Writes a start of every state, and frames of it and of hotter ones to learn from."""
    law = lennard_jones(1.0, 1.0, 2.5, REDUCED)
    with H5MDWriter(data, units=REDUCED) as writer:
        for name, (density, temperature) in LJ_STATES.items():
            frame = crystal(density, 216 if name == "fluid" else 256)
            with H5MDWriter(folder / f"{name}.h5md", units=REDUCED) as first:
                first.append(frame, name)
            start = State.from_frame(frame)
            for number, hot in enumerate((temperature, 1.5 * temperature)):
                state = maxwell_boltzmann(start, hot, REDUCED, number)
                langevin = Langevin(law, 0.004, hot, 1.0, number)
                melted = Rollout(langevin, every=500).run(state, 1000).state
                for one in Rollout(langevin, every=25).run(melted, 1500).frames[0]:
                    writer.append(one, f"{name}{number}")


def silicon(folder: Path) -> tuple[str, tuple[Condition, ...]]:
    """A force field of silicon by density functional theory, with and without its melting."""
    run, data, start = folder / "truth", folder / "train.h5md", folder / "crystal.extxyz"
    if not (run / "model.pt").is_file():
        if command(["import", SILICON, "--to", str(data), "--overwrite", "true"]) != 0:
            raise RuntimeError(f"{SILICON} cannot be imported")
        trained(run, data)
    write(start, make_supercell(bulk("Si", a=5.469, cubic=True), 3 * np.eye(3)))
    melt = folder / "melt.h5md"
    simulated(str(run), str(start), "4ps", "--temperature", "3400K", "--dt", "1fs", "--every", "4000",
              "--copies", "3", "--out", str(melt))  # fmt: skip
    return str(run), (
        Condition("solid", 500.0, str(start), ("--copies", "3"), "1ps"),
        Condition("liquid", 2500.0, str(melt), (), "2ps", liquid=True),
    )


SETUPS = {
    "ethanol": Setup(ethanol, 0.5, 2, 8, 32, "6ps", 16, torsion=(0, 1, 2, 8)),
    "acac": Setup(acac, 0.5, 2, 8, 20, "6ps", 16, torsion=(7, 0, 1, 2)),
    "lj": Setup(lj, 0.004, 5, 3, 2, "12", 3, friction=1.0, cutoff=2.0),
    "silicon": Setup(silicon, 1.0, 5, 3, 2, "3ps", 3, friction=0.005),
}


def crystal(density: float, particles: int) -> Frame:
    """A cube of the face-centred lattice of which as many sites as are too many stay empty."""
    cells = int(np.ceil((particles / 4) ** (1 / 3) - 1e-9))
    side = (particles / density) ** (1 / 3)
    lattice = bulk("Ar", "fcc", a=side / cells, cubic=True).repeat(cells)
    chosen = np.sort(np.random.default_rng(0).permutation(len(lattice))[:particles])
    return Frame(
        numbers=np.ones(particles, dtype=np.int64),
        positions=lattice.positions[chosen],
        cell=np.asarray(lattice.cell),
        pbc=np.ones(3, dtype=bool),
        masses=np.ones(particles),
    )


def trained(run: Path, data: Path, *options: str) -> None:
    """The job of silicon, on other data."""
    arguments = ["configs/silicon.yaml", "--data.init_args.train", json.dumps([str(data)]),
                 "--task.init_args.compiled", "true", *options]  # fmt: skip
    if command(["train", *arguments, "--folder", str(run.parent), "--name", run.name]) != 0:
        raise RuntimeError(f"{run} was not trained")


def simulated(*arguments: str) -> None:
    """Hot copies may leave what the truth was trained on; what they did before is right."""
    if command(["simulate", *arguments]) not in (0, SOME_STOPPED):
        raise RuntimeError(f"the truth cannot simulate {arguments}")

"""Makes the ethanol set: GFN2-xTB energies and forces, and one undisturbed picosecond of motion.

Two files a scientist might bring along: extended XYZ with labelled frames drawn from Langevin
dynamics at 400 K, and H5MD with consecutive constant-energy dynamics from a frame at 300 K.
About six minutes on one core: `OMP_NUM_THREADS=1 python datasets/ethanol_xtb/recipe.py`.
"""

import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_masses
from jsonargparse import auto_cli
from tblite.interface import Calculator

from sciwm.core.frame import Array, Frame
from sciwm.core.molecules import frame_from_smiles
from sciwm.core.progress import Bar
from sciwm.core.units import BOHR, HARTREE, MOLECULAR
from sciwm.data.h5md import H5MDWriter

SMILES = "CCO"
ACCURACY = 0.1  # of the self-consistent cycle; the usual 1.0 leaves visible noise in the forces
TIME_STEP = 0.5  # fs
FRICTION = 0.01  # 1/fs
SYMBOLS = {1: "H", 6: "C", 8: "O"}
UNPAIRED = {1: 1, 6: 2, 8: 2}  # electrons in the ground state of the free atom


class GFN2:
    """GFN2-xTB for one molecule, warm-started from the last geometry (Bannwarth et al. 2019)."""

    def __init__(self, numbers: np.ndarray, positions: Array, unpaired: int = 0):
        self._calculator = Calculator("GFN2-xTB", numbers, positions / BOHR, uhf=unpaired)
        self._calculator.set("accuracy", ACCURACY)
        self._calculator.set("verbosity", 0)
        self._last: Any = None

    def __call__(self, positions: Array) -> tuple[float, Array]:
        """Energy in eV and (N, 3) forces in eV/Å."""
        self._calculator.update(positions / BOHR)
        self._last = self._calculator.singlepoint(self._last)
        gradient = self._last.get("gradient")
        return float(self._last.get("energy")) * HARTREE, -gradient * (HARTREE / BOHR)


def isolated_atoms() -> dict[str, float]:
    """GFN2 energies of free H, C and O in eV: the zero that binding energies are counted from."""
    at_origin = np.zeros((1, 3))
    return {SYMBOLS[z]: GFN2(np.array([z]), at_origin, UNPAIRED[z])(at_origin)[0] for z in SYMBOLS}


def langevin(
    gfn2: GFN2, start: Frame, temperature: float, rng: np.random.Generator
) -> Iterator[Frame]:
    """Endless BAOAB Langevin dynamics (Leimkuhler & Matthews 2013), one frame per step."""
    masses = _masses(start)
    spread = np.sqrt(MOLECULAR.boltzmann * temperature * MOLECULAR.acceleration / masses)
    keep = np.exp(-FRICTION * TIME_STEP)
    positions = start.positions
    velocities = start.velocities
    if velocities is None:
        velocities = spread * rng.standard_normal(positions.shape)
    energy, forces = gfn2(positions)
    while True:
        velocities = velocities + 0.5 * TIME_STEP * MOLECULAR.acceleration * forces / masses
        positions = positions + 0.5 * TIME_STEP * velocities
        noise = rng.standard_normal(positions.shape)
        velocities = keep * velocities + np.sqrt(1 - keep**2) * spread * noise
        positions = positions + 0.5 * TIME_STEP * velocities
        energy, forces = gfn2(positions)
        velocities = velocities + 0.5 * TIME_STEP * MOLECULAR.acceleration * forces / masses
        yield start.with_(positions=positions, velocities=velocities, energy=energy, forces=forces)


def constant_energy(gfn2: GFN2, start: Frame) -> Iterator[Frame]:
    """Endless velocity Verlet dynamics from `start`, which is the first frame yielded."""
    masses = _masses(start)
    assert start.velocities is not None
    positions, velocities = start.positions, start.velocities
    energy, forces = gfn2(positions)
    step = 0
    while True:
        yield start.with_(
            positions=positions,
            velocities=velocities,
            energy=energy,
            forces=forces,
            time=step * TIME_STEP,
            step=step,
        )
        velocities = velocities + 0.5 * TIME_STEP * MOLECULAR.acceleration * forces / masses
        positions = positions + TIME_STEP * velocities
        energy, forces = gfn2(positions)
        velocities = velocities + 0.5 * TIME_STEP * MOLECULAR.acceleration * forces / masses
        step += 1


def at_rest(frame: Frame) -> Frame:
    """The frame with its centre at the origin, not drifting and not turning as a whole."""
    masses = _masses(frame)
    assert frame.velocities is not None
    positions = frame.positions - (masses * frame.positions).sum(0) / masses.sum()
    velocities = frame.velocities - (masses * frame.velocities).sum(0) / masses.sum()
    inertia = (masses[:, 0] * (positions**2).sum(1)).sum() * np.eye(3)
    inertia -= (masses * positions).T @ positions
    turning = np.linalg.solve(inertia, (masses * np.cross(positions, velocities)).sum(0))
    return frame.with_(positions=positions, velocities=velocities - np.cross(turning, positions))


def extended_xyz(frame: Frame) -> str:
    """One frame as extended XYZ, rounded to 1e-5 Å and 1e-5 eV/Å."""
    assert frame.forces is not None
    lines = [
        str(len(frame)),
        f'Properties=species:S:1:pos:R:3:forces:R:3 energy={frame.energy:.6f} pbc="F F F"',
    ]
    for number, place, force in zip(frame.numbers, frame.positions, frame.forces, strict=True):
        values = " ".join(f"{value:.5f}" for value in (*place, *force))
        lines.append(f"{SYMBOLS[int(number)]} {values}")
    return "\n".join(lines) + "\n"


def main(
    out: Path = Path(__file__).parent,
    frames: int = 600,
    spacing: int = 400,
    equilibration: int = 4000,
    nve_frames: int = 1000,
    seed: int = 1,
) -> None:
    """Writes ethanol_400K.extxyz and ethanol_nve.h5md.

    Args:
        out: Folder to write into.
        frames: Labelled frames drawn at 400 K.
        spacing: Steps of 0.5 fs between them.
        equilibration: Steps thrown away before the first, and again at 300 K before the NVE run.
        nve_frames: Consecutive frames, 1 fs apart.
        seed: Of the conformer and of the noise.
    """
    parameters = {
        "method": "GFN2-xTB, gas phase",
        "dynamics": "velocity Verlet from a 300 K Langevin frame, momenta removed",
        "time_step_fs": TIME_STEP,
        "scf_accuracy": ACCURACY,
        "seed": seed,
        "tblite": version("tblite"),
        "numpy": version("numpy"),
        "rdkit": version("rdkit"),
        "python": platform.python_version(),
        **{f"isolated_atom_energy_{s}_eV": e for s, e in isolated_atoms().items()},
    }
    rng = np.random.default_rng(seed)
    start = frame_from_smiles(SMILES, seed)
    gfn2 = GFN2(start.numbers, start.positions)
    with H5MDWriter(
        out / "ethanol_nve.h5md",
        creator_note="datasets/ethanol_xtb/recipe.py",
        parameters=parameters,
        dtype="float32",
    ) as writer:
        frame = _labelled(
            out, gfn2, langevin(gfn2, start, 400.0, rng), frames, spacing, equilibration
        )
        mild = langevin(gfn2, frame, 300.0, rng)
        for _ in Bar(range(equilibration), desc="300 K", unit="step"):
            frame = next(mild)
        motion = constant_energy(gfn2, at_rest(frame))
        for step in Bar(range(2 * nve_frames - 1), desc="NVE", unit="step"):
            frame = next(motion)
            if step % 2 == 0:
                writer.append(frame)


def _labelled(
    out: Path, gfn2: GFN2, motion: Iterator[Frame], frames: int, spacing: int, equilibration: int
) -> Frame:
    """Writes every `spacing`th frame of the motion, and returns the last."""
    with open(out / "ethanol_400K.extxyz", "w") as stream:
        for step in Bar(range(1, equilibration + frames * spacing + 1), desc="400 K", unit="step"):
            frame = next(motion)
            if step > equilibration and (step - equilibration) % spacing == 0:
                # Labels belong to the coordinates as printed, so round first and compute then.
                printed = np.round(frame.positions - frame.positions.mean(axis=0), 5)
                energy, forces = gfn2(printed)
                label = frame.with_(positions=printed, energy=energy, forces=forces)
                stream.write(extended_xyz(label))
    return frame


def _masses(frame: Frame) -> Array:
    """(N, 1) in u."""
    return atomic_masses[frame.numbers][:, None]


if __name__ == "__main__":
    auto_cli(main, as_positional=False)

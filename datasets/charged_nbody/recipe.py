"""Makes trajectories of charged particles: the standard benchmark, and a clean relative of it.

    python datasets/charged_nbody/recipe.py standard --out runs/charged    about 20 s
    python datasets/charged_nbody/recipe.py softened --out runs/charged    about 40 s

`standard` follows the protocol on which equivariant networks are compared (Kipf et al. 2018;
Satorras et al. 2021): bare Coulomb forces clamped per component, and an integrator that lets the
energy wander at close encounters. `softened` obeys its law to integration error instead: momentum
is exact, energy is kept, and charges, masses and particle numbers vary.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from jsonargparse import auto_cli

from sciwm.core.frame import Array
from sciwm.core.progress import Bar
from sciwm.core.units import REDUCED
from sciwm.data.h5md import H5MDWriter, Replicas

BATCH = 500
"""Trajectories integrated together; more no longer fit the processor's cache."""

FRAME_SPACING = 0.1
OFFICIAL_TRAIN = 10_000
"""Train trajectories that precede the validation ones in the official random stream."""


class Law(Protocol):
    """How charged particles move. Particles run along axis 1, trajectories along the last."""

    def step(
        self, x: Array, v: Array, forces: Array, products: Array, masses: Array
    ) -> tuple[Array, Array, Array]:
        """(3, n, S) positions, velocities and forces one time step later."""

    def forces(self, x: Array, products: Array) -> Array:
        """(3, n, S) forces; `products` (P, S) holds q_i q_j of each pair i < j."""


@dataclass(frozen=True)
class StandardLaw:
    """F_i = sum_j q_i q_j r_ij / |r_ij|³, each Cartesian component clipped; semi-implicit Euler.

    Clipping makes the law neither rotation invariant nor momentum conserving.
    """

    time_step: float = 0.001
    force_limit: float = 100.0

    def forces(self, x: Array, products: Array) -> Array:
        forces = pair_forces(x, products, softening=0.0)
        return np.clip(forces, -self.force_limit, self.force_limit)

    def step(
        self, x: Array, v: Array, forces: Array, products: Array, masses: Array
    ) -> tuple[Array, Array, Array]:
        v = v + self.time_step * forces / masses
        x = x + self.time_step * v
        return x, v, self.forces(x, products)


@dataclass(frozen=True)
class SoftenedLaw:
    """F_i = sum_j q_i q_j r_ij / (|r_ij|² + ε²)^(3/2) with ε = `softening`; velocity Verlet."""

    time_step: float = 0.001
    softening: float = 0.2

    def forces(self, x: Array, products: Array) -> Array:
        return pair_forces(x, products, self.softening)

    def step(
        self, x: Array, v: Array, forces: Array, products: Array, masses: Array
    ) -> tuple[Array, Array, Array]:
        half = v + 0.5 * self.time_step * forces / masses
        x = x + self.time_step * half
        forces = self.forces(x, products)
        return x, half + 0.5 * self.time_step * forces / masses, forces

    def along(self, positions: Array, charges: Array) -> tuple[Array, Array]:
        """(T, S, n, 3) forces and (T, S) potential energies along (S, T, n, 3) trajectories."""
        first, second = np.triu_indices(positions.shape[2], k=1)
        products = (charges[:, first] * charges[:, second]).T
        forces = np.stack([self.forces(x.T, products).T for x in positions.swapaxes(0, 1)])
        apart = positions[:, :, second] - positions[:, :, first]
        distances = np.sqrt((apart**2).sum(axis=-1) + self.softening**2)
        return forces, (products.T[:, None] / distances).sum(axis=-1).T


def pair_forces(x: Array, products: Array, softening: float) -> Array:
    """(3, n, S) Coulomb forces at positions x (3, n, S)."""
    n = x.shape[1]
    first, second = np.triu_indices(n, k=1)
    towards = np.zeros((n, len(first)))
    towards[first, np.arange(len(first))] = 1.0
    towards[second, np.arange(len(first))] = -1.0
    apart = x[:, first] - x[:, second]
    squared = apart[0] ** 2 + apart[1] ** 2 + apart[2] ** 2 + softening**2
    return towards @ (apart * (products / (squared * np.sqrt(squared))))


def simulate(
    law: Law,
    positions: Array,
    velocities: Array,
    charges: Array,
    masses: Array,
    frames: int,
    spacing: int = 100,
) -> tuple[Array, Array]:
    """Runs many independent trajectories at once.

    Args:
        law: The forces and the integrator.
        positions, velocities: (S, n, 3) at the start.
        charges, masses: (S, n).
        frames: Frames to store, the start not counted.
        spacing: Time steps between them.

    Returns:
        (S, frames + 1, n, 3) positions and velocities, the start first.
    """
    first, second = np.triu_indices(positions.shape[1], k=1)
    stored_x = np.empty((len(positions), frames + 1, *positions.shape[1:]))
    stored_v = np.empty_like(stored_x)
    starts = range(0, len(positions), BATCH)
    progress = Bar(total=len(starts) * frames, desc="integrating", unit="frame", delay=2)
    for start in starts:
        rows = slice(start, start + BATCH)
        x, v = positions[rows].T, velocities[rows].T
        products = (charges[rows, first] * charges[rows, second]).T
        mass = masses[rows].T
        forces = law.forces(x, products)
        stored_x[rows, 0], stored_v[rows, 0] = x.T, v.T
        for frame in range(1, frames + 1):
            for _ in range(spacing):
                x, v, forces = law.step(x, v, forces, products, mass)
            stored_x[rows, frame], stored_v[rows, frame] = x.T, v.T
            progress.update()
    progress.close()
    return stored_x, stored_v


class OfficialStream:
    """Starting states in the order in which the official generator draws them.

    It draws from one legacy NumPy stream: per trajectory the charges, the positions, the
    velocities, and observation noise that it multiplies by zero.

    Args:
        particles: Particles per trajectory.
        seed: 43 makes the published data set.
    """

    FRAMES = 49
    SPEED = 0.5
    WALL = 5.0

    def __init__(self, particles: int = 5, seed: int = 43):
        self.particles = particles
        # The official data are defined by this generator; a modern one would make other data.
        self._rng = np.random.RandomState(seed)

    def draw(self, count: int) -> tuple[Array, Array, Array]:
        """(S, n, 3) positions, (S, n, 3) velocities and (S, n) charges of the next trajectories."""
        n = self.particles
        spread = (n / 5.0) ** (1 / 3)
        positions, velocities = np.empty((2, count, n, 3))
        charges = np.empty((count, n))
        for s in range(count):
            charges[s] = self._rng.choice([-1.0, 0.0, 1.0], size=(n, 1), p=[0.5, 0.0, 0.5])[:, 0]
            x = self._rng.randn(3, n) * spread
            v = self._rng.randn(3, n)
            v = v * self.SPEED / np.sqrt((v**2).sum(axis=0))
            self._rng.randn(2 * self.FRAMES * 3 * n)
            positions[s], velocities[s] = x.T, v.T
        return *self._reflected(positions, velocities), charges

    def skip(self, count: int) -> None:
        """Passes over trajectories without making them."""
        self.draw(count)

    def _reflected(self, x: Array, v: Array) -> tuple[Array, Array]:
        """Walls act once, on the starting state; later the particles are free to leave."""
        above, below = x > self.WALL, x < -self.WALL
        v = np.where(above, -np.abs(v), np.where(below, np.abs(v), v))
        x = np.where(above, 2 * self.WALL - x, np.where(below, -2 * self.WALL - x, x))
        return x, v


def standard_splits(
    n_train: int, n_valid: int, n_test: int, particles: int = 5, seed: int = 43
) -> dict[str, tuple[Array, Array, Array]]:
    """Positions and velocities (S, 49, n, 3) and charges (S, n) of each split.

    Frame k is at time 0.1 (k + 1): the starting state is not part of the benchmark.
    """
    stream = OfficialStream(particles, seed)
    splits = {}
    reserved = {"train": OFFICIAL_TRAIN, "valid": 2000, "test": 2000}
    for split, count in (("train", n_train), ("valid", n_valid), ("test", n_test)):
        x, v, charges = stream.draw(count)
        stream.skip(max(reserved[split] - count, 0))
        if count:
            masses = np.ones_like(charges)
            x, v = simulate(StandardLaw(), x, v, charges, masses, OfficialStream.FRAMES)
            splits[split] = x[:, 1:], v[:, 1:], charges
    return splits


def softened_start(
    count: int,
    particles: int,
    rng: np.random.Generator,
    charge: tuple[float, float] = (0.5, 1.5),
    mass: tuple[float, float] = (0.5, 2.0),
) -> tuple[Array, Array, Array, Array]:
    """(S, n, 3) positions and velocities, then (S, n) charges and masses; no total momentum.

    Speeds and spread are those of the standard set, so that results can be set side by side.
    """
    shape = (count, particles)
    positions = rng.standard_normal((*shape, 3)) * (particles / 5.0) ** (1 / 3)
    velocities = rng.standard_normal((*shape, 3))
    velocities *= OfficialStream.SPEED / np.linalg.norm(velocities, axis=-1, keepdims=True)
    charges = rng.uniform(*charge, shape) * rng.choice([-1.0, 1.0], shape)
    masses = rng.uniform(*mass, shape)
    drift = (masses[..., None] * velocities).sum(1) / masses.sum(1)[:, None]
    return positions, velocities - drift[:, None], charges, masses


def standard(
    out: Path,
    n_train: int = 3000,
    n_valid: int = 2000,
    n_test: int = 2000,
    particles: int = 5,
    seed: int = 43,
    npz: bool = False,
) -> None:
    """Writes train, valid and test of the charged n-body benchmark as H5MD.

    Args:
        out: Folder to write into.
        n_train: Trajectories to train on; the benchmark takes 3000 of the 10,000 official ones.
        n_valid: Trajectories to choose models by.
        n_test: Trajectories to report errors on.
        particles: Per trajectory.
        seed: Of the official stream.
        npz: Write loc, vel (S, 49, n, 3) and charges (S, n) in float32 as well.
    """
    out.mkdir(parents=True, exist_ok=True)
    splits = standard_splits(n_train, n_valid, n_test, particles, seed)
    for split, (x, v, charges) in splits.items():
        parameters = {"family": "standard", "split": split, "seed": seed, **asdict(StandardLaw())}
        with H5MDWriter(
            out / f"{split}.h5md",
            units=REDUCED,
            creator_note="datasets/charged_nbody/recipe.py",
            parameters=parameters,
            dtype="float32",
        ) as writer:
            replicas = _replicas(x, v, charges, np.ones_like(charges), first=1)
            writer.write_replicas("trajectory", replicas)
        if npz:
            np.savez(
                out / f"{split}.npz",
                loc=x.astype(np.float32),
                vel=v.astype(np.float32),
                charges=charges.astype(np.float32),
            )


def softened(
    out: Path,
    count: int = 200,
    n_min: int = 3,
    n_max: int = 20,
    frames: int = 50,
    seed: int = 0,
    law: SoftenedLaw = SoftenedLaw(),
) -> None:
    """Writes the clean family to softened.h5md, one particle group for each system size.

    Args:
        out: Folder to write into.
        count: Trajectories of each size.
        n_min: Smallest number of particles.
        n_max: Largest number of particles.
        frames: Frames 0.1 apart; the starting state is stored before them.
        seed: Of the starting states.
        law: Softening length and time step.
    """
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    parameters = {"family": "softened", "seed": seed, "coulomb_constant": 1.0, **asdict(law)}
    parameters |= {"charge_magnitude": [0.5, 1.5], "mass": [0.5, 2.0], "n": [n_min, n_max]}
    with H5MDWriter(
        out / "softened.h5md",
        units=REDUCED,
        creator_note="datasets/charged_nbody/recipe.py",
        parameters=parameters,
        dtype="float32",
    ) as writer:
        for n in range(n_min, n_max + 1):
            start = softened_start(count, n, rng)
            x, v = simulate(law, *start, frames, round(FRAME_SPACING / law.time_step))
            replicas = _replicas(x, v, start[2], start[3], first=0)
            forces, potential = law.along(x, start[2])
            writer.write_replicas(f"n{n}", replace(replicas, forces=forces, energy=potential))


def _replicas(x: Array, v: Array, charges: Array, masses: Array, first: int) -> Replicas:
    """Trajectories (S, T, n, 3) whose frames are numbered from `first`, 0.1 apart."""
    frames = np.arange(first, first + x.shape[1], dtype=np.float64)
    return Replicas(
        positions=x.swapaxes(0, 1),
        velocities=v.swapaxes(0, 1),
        numbers=np.ones(charges.shape, dtype=np.int64),
        charges=charges,
        masses=masses,
        times=FRAME_SPACING * frames,
    )


if __name__ == "__main__":
    auto_cli([standard, softened], as_positional=False)

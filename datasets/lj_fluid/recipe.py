"""Makes a Lennard-Jones fluid in a periodic box, in two or three dimensions, in reduced units.

    python datasets/lj_fluid/recipe.py --out runs/lj_fluid.h5md    about 30 seconds

Particles melt from a lattice under Langevin dynamics and then move at constant energy. The force
is truncated and shifted, F(r) = F_LJ(r) - F_LJ(r_c), so that neither it nor the energy jumps at
the cutoff and the energy of the fluid stays put (Toxvaerd and Dyre 2011).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli

from sciwm.core.frame import Array, Frame
from sciwm.core.progress import Bar
from sciwm.core.units import REDUCED
from sciwm.data.h5md import H5MDWriter

FRICTION = 1.0


@dataclass(frozen=True)
class LennardJones:
    """Energy and forces of all pairs by minimum image; ε = σ = m = 1.

    Attributes:
        side: Edge of the square or cubic box.
        cutoff: Where the force reaches zero.

    Raises:
        ValueError: If the cutoff is more than half the box.
    """

    side: float
    cutoff: float = 2.5

    def __post_init__(self) -> None:
        if self.cutoff > 0.5 * self.side:
            raise ValueError(
                f"cutoff={self.cutoff} is more than half the box side {self.side:.3f}, so the "
                "nearest-image rule would miss neighbours; use more particles or a lower density"
            )

    def __call__(self, positions: Array) -> tuple[float, Array]:
        """Potential energy and (N, d) forces."""
        first, second = np.triu_indices(len(positions), k=1)
        apart = positions[first] - positions[second]
        apart -= self.side * np.round(apart / self.side)
        squared = (apart**2).sum(axis=1)
        near = squared < self.cutoff**2
        apart, first, second = apart[near], first[near], second[near]
        r = np.sqrt(squared[near])
        shift = _force(self.cutoff)
        energy = _energy(r) - _energy(self.cutoff) + (r - self.cutoff) * shift
        push = apart * ((_force(r) - shift) / r)[:, None]
        forces = np.stack(
            [
                np.bincount(first, column, len(positions))
                - np.bincount(second, column, len(positions))
                for column in push.T
            ],
            axis=1,
        )
        return float(energy.sum()), forces


def _energy(r: Array | float) -> Array | float:
    return 4.0 * (r**-12 - r**-6)


def _force(r: Array | float) -> Array | float:
    return 48.0 * r**-13 - 24.0 * r**-7


def lattice(
    n: int, density: float, dimension: int, rng: np.random.Generator
) -> tuple[Array, float]:
    """(n, d) sites of a square or cubic lattice with vacancies, and the side of the box."""
    side = (n / density) ** (1 / dimension)
    per_edge = int(np.ceil(n ** (1 / dimension) - 1e-9))
    sites = np.stack(np.meshgrid(*[np.arange(per_edge)] * dimension, indexing="ij"), axis=-1)
    chosen = rng.choice(per_edge**dimension, size=n, replace=False)
    return (sites.reshape(-1, dimension)[chosen] + 0.5) * side / per_edge, side


def verlet(
    law: LennardJones, positions: Array, velocities: Array, forces: Array, time_step: float
) -> tuple[Array, Array, float, Array]:
    """Positions, velocities, potential energy and forces one velocity Verlet step later."""
    velocities = velocities + 0.5 * time_step * forces
    positions = positions + time_step * velocities
    energy, forces = law(positions)
    return positions, velocities + 0.5 * time_step * forces, energy, forces


def equilibrated(
    law: LennardJones,
    positions: Array,
    temperature: float,
    time_step: float,
    steps: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Positions and velocities after Langevin dynamics, at rest as a whole, at `temperature`.

    Between velocity Verlet steps the velocities meet the Ornstein-Uhlenbeck process exactly.
    """
    keep = np.exp(-FRICTION * time_step)
    velocities = np.sqrt(temperature) * rng.standard_normal(positions.shape)
    _, forces = law(positions)
    for _ in Bar(range(steps), desc="equilibration", unit="step", delay=2):
        positions, velocities, _, forces = verlet(law, positions, velocities, forces, time_step)
        noise = np.sqrt(temperature) * rng.standard_normal(positions.shape)
        velocities = keep * velocities + np.sqrt(1 - keep**2) * noise
    velocities = velocities - velocities.mean(axis=0)
    # The temperature of a frozen moment strays by sqrt(2/dN); take the asked one as the start.
    freedom = velocities.size - velocities.shape[1]
    return positions, velocities * np.sqrt(temperature * freedom / (velocities**2).sum())


def fluid(
    particles: int = 108,
    density: float = 0.8,
    temperature: float = 1.0,
    dimension: int = 3,
    frames: int = 1000,
    spacing: int = 10,
    time_step: float = 0.004,
    equilibration: int = 5000,
    seed: int = 0,
) -> Iterator[Frame]:
    """Frames of the fluid, wrapped into the box with image flags; see `main` for the arguments."""
    if dimension not in (2, 3):
        raise ValueError(f"{dimension=} must be 2 or 3")
    rng = np.random.default_rng(seed)
    start, side = lattice(particles, density, dimension, rng)
    law = LennardJones(side)
    x, v = equilibrated(law, start, temperature, time_step, equilibration, rng)
    energy, forces = law(x)
    cell = np.diag([side] * dimension + [0.0] * (3 - dimension))
    for step in range((frames - 1) * spacing + 1):
        if step:
            x, v, energy, forces = verlet(law, x, v, forces, time_step)
        if step % spacing:
            continue
        images = np.floor(x / side)
        yield Frame(
            numbers=np.ones(particles, dtype=np.int64),
            positions=_padded(x - images * side),
            cell=cell,
            pbc=np.arange(3) < dimension,
            velocities=_padded(v),
            forces=_padded(forces),
            energy=energy,
            masses=np.ones(particles),
            images=_padded(images).astype(np.int64),
            time=step * time_step,
            step=step,
            dimension=dimension,
        )


def _padded(vectors: Array) -> Array:
    return np.pad(vectors, ((0, 0), (0, 3 - vectors.shape[1])))


def main(
    out: Path,
    particles: int = 108,
    density: float = 0.8,
    temperature: float = 1.0,
    dimension: int = 3,
    frames: int = 1000,
    spacing: int = 10,
    time_step: float = 0.004,
    equilibration: int = 5000,
    seed: int = 0,
) -> None:
    """Writes a trajectory of the fluid.

    Args:
        out: File to write.
        particles: In the box.
        density: Particles per volume, or per area in two dimensions.
        temperature: From which the constant-energy run starts.
        dimension: 2 or 3.
        frames: Frames to store.
        spacing: Time steps between them.
        time_step: Of velocity Verlet.
        equilibration: Langevin steps before the first frame.
        seed: Of vacancies and noise.
    """
    given = {k: v for k, v in locals().items() if k != "out"}
    out.parent.mkdir(parents=True, exist_ok=True)
    with H5MDWriter(
        out,
        units=REDUCED,
        creator_note="datasets/lj_fluid/recipe.py",
        parameters={**given, "epsilon": 1.0, "sigma": 1.0, "cutoff": LennardJones.cutoff},
        dtype="float32",
    ) as writer:
        for frame in Bar(fluid(**given), total=frames, desc="frames", unit="frame"):
            writer.append(frame)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)

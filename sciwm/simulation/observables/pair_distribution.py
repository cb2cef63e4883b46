"""How particles are spaced: the pair distribution function."""

import numpy as np

from sciwm.core.frame import Array
from sciwm.core.geometry import cell_heights
from sciwm.core.neighbours import neighbour_pairs
from sciwm.core.progress import Bar
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.observable import Observable
from sciwm.simulation.observables.statistics import mean_with_error


def pair_distribution(
    motion: Motion, r_max: float, bins: int = 100, species: tuple[int, int] | None = None
) -> Observable:
    """Pair distances: g(r) in a periodic system, their probability density in a finite one.

    g(r) is the number of pairs in a shell over the number that uncorrelated particles would have
    there, N(N-1)/2 pairs spread over the volume (or area): an ideal gas gives one at every
    distance and every N. A finite system has no volume, so its pairs are divided by their number
    and the bin width alone.

    Args:
        motion: With its box.
        r_max: Largest distance.
        bins: Between zero and `r_max`.
        species: Counts pairs of these two types only.

    Raises:
        ValueError: If `r_max` exceeds half the smallest cell height, or there is no such pair.
    """
    half = 0.5 * min(cell_heights(cell, motion.pbc).min() for cell in motion.cells)
    if r_max > half:
        raise ValueError(
            f"{r_max=} is more than half the smallest cell height ({half:.4g}), where images of "
            "one particle are counted as many; use a smaller r_max or a larger box"
        )
    one, other = (motion.of_species(s) for s in species or (None, None))
    same = species is None or species[0] == species[1]
    n_pairs = one.sum() * (one.sum() - 1) / 2 if same else one.sum() * other.sum()
    if n_pairs == 0:
        raise ValueError(f"a single particle of type {species and species[0]} makes no pair")
    edges = np.linspace(0.0, r_max, bins + 1)
    counts = np.empty((len(motion), bins))
    frames = Bar(range(len(motion)), desc="pair distances", unit="frame", delay=2, leave=False)
    for t in frames:
        distances = _distances(motion, t, r_max, one, other)
        counts[t] = np.histogram(distances, edges)[0]
    if motion.pbc.sum() == motion.dimension:
        shells = np.diff(np.pi * edges**2 if motion.dimension == 2 else 4 / 3 * np.pi * edges**3)
        rows = motion.cells[:, motion.pbc]
        volumes = np.sqrt(np.linalg.det(rows @ rows.swapaxes(1, 2)))
        values = counts * volumes[:, None] / (n_pairs * shells)
        name, unit = "pair distribution function", ""
    else:
        values = counts / (n_pairs * np.diff(edges))
        length = motion.units.length
        name, unit = "pair distance density", f"1/{length}" if length else ""
    value, error = mean_with_error(values)
    centres = 0.5 * (edges[1:] + edges[:-1])
    return Observable(name, value, error, unit, centres, "distance", motion.units.length)


def _distances(motion: Motion, t: int, r_max: float, one: np.ndarray, other: np.ndarray) -> Array:
    """Distances of the pairs with one end in each set."""
    positions = motion.positions[t]
    (first, second), shifts = neighbour_pairs(positions, motion.cells[t], motion.pbc, r_max)
    wanted = (one[first] & other[second]) | (one[second] & other[first])
    first, second, shifts = first[wanted], second[wanted], shifts[wanted]
    return np.linalg.norm(positions[second] + shifts @ motion.cells[t] - positions[first], axis=1)

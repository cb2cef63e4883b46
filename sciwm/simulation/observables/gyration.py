"""How far a molecule spreads: its radius of gyration."""

import numpy as np
from numpy.typing import NDArray

from sciwm.core.geometry import cell_heights
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.observable import Observable
from sciwm.simulation.observables.statistics import mean_with_error


def radius_of_gyration(motion: Motion, atoms: NDArray[np.int64] | None = None) -> Observable:
    """Mean over time of sqrt(Σ m |r - r_centre|² / Σ m), over `atoms` or the whole system.

    Raises:
        ValueError: If the atoms of a periodic system do not sit together as one whole molecule.
    """
    rows = np.arange(len(motion.numbers)) if atoms is None else np.asarray(atoms)
    positions, masses = motion.positions[:, rows], motion.masses[rows]
    if np.any(motion.pbc):
        half = 0.5 * cell_heights(motion.cells[0], motion.pbc).min()
        centre = positions[0].mean(axis=0)
        extent = float(np.linalg.norm(positions[0] - centre, axis=1).max())
        if extent > half:
            raise ValueError(
                f"the first frame has an atom {extent:.4g} from the middle of the {len(rows)} "
                f"chosen, more than half the cell ({half:.4g}), so the molecule may be cut by the "
                "boundary; make it whole or choose the atoms of one molecule"
            )
    weights = masses / masses.sum()
    centre = np.einsum("n,tna->ta", weights, positions)[:, None]
    radii = np.sqrt((weights * ((positions - centre) ** 2).sum(axis=-1)).sum(axis=1))
    value, error = mean_with_error(radii)
    return Observable("radius of gyration", float(value), float(error), motion.units.length)

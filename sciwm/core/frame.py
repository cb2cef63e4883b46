"""One system at one moment, as plain arrays: what files hold and importers yield.

Free of torch, so that reading, writing and the reference-simulator workers stay light.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frame:
    """Particles, their box, and whatever is known of their motion and energy.

    Lengths in Å, energies in eV, times in fs, masses in u, charges in e; or all reduced.
    Two-dimensional systems have zeros in the third component and `dimension = 2`.

    Attributes:
        numbers: (N,) atomic numbers; particle types where units are reduced.
        positions: (N, 3), any periodic image.
        cell: (3, 3) row vectors; a zero row where the system does not repeat.
        pbc: (3,) which cell vectors repeat.
        velocities: (N, 3).
        forces: (N, 3).
        energy: Potential energy.
        stress: (3, 3), energy per volume, positive under tension (ASE's sign).
        masses: (N,).
        charges: (N,) charge carried by each particle; the source of fields in particle systems.
        total_charge: Net charge of the system.
        unpaired: Electrons without a partner of opposite spin; None: as few as their number allows.
        images: (N, 3) int, box crossings: position + images @ cell is unwrapped.
        time: Physical time.
        step: Integrator step.
        trajectory: Frames with one key follow one another in time.
        label: The configuration type, where the source names one.
        smiles: The molecule, where the source names it.
        source_frame: Number, from 0, of the frame in the file it was imported from.
        dimension: 2 or 3.
        properties: What else is known, by the names of `core.properties.PROPERTIES` and in their
            units; a name that is absent, or whose values are NaN, is not known.
    """

    numbers: NDArray[np.int64]
    positions: Array
    cell: Array = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(3, dtype=bool))
    velocities: Array | None = None
    forces: Array | None = None
    energy: float | None = None
    stress: Array | None = None
    masses: Array | None = None
    charges: Array | None = None
    total_charge: float = 0.0
    unpaired: int | None = None
    images: NDArray[np.int64] | None = None
    time: float | None = None
    step: int | None = None
    trajectory: str = ""
    label: str | None = None
    smiles: str | None = None
    source_frame: int | None = None
    dimension: int = 3
    properties: dict[str, Array | float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)

    def with_(self, **changes: object) -> "Frame":
        """A copy with some attributes changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def unwrapped(self) -> Array:
        """(N, 3) positions on the continuous path, as far as image flags tell it."""
        if self.images is None:
            return self.positions
        return self.positions + self.images @ self.cell

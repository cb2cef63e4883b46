"""What an H5MD file holds, field by field: the table to read before training on it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from sciwm.core.frame import Frame
from sciwm.core.properties import PROPERTIES, property_field, property_name
from sciwm.core.units import MOLECULAR, UnitSystem
from sciwm.data.h5md.reader import H5MDFile
from sciwm.data.h5md.trajectory import Trajectory

BLOCK_FRAMES = 256
BLOCK_BYTES = 32 << 20
"""Fields are read in blocks of this many frames, or of this size."""

FIELDS = (
    "positions",
    "velocities",
    "forces",
    "energy",
    "stress",
    "masses",
    "charges",
    "total_charge",
    "unpaired",
    "source_frame",
    *map(property_field, PROPERTIES),
)


@dataclass
class FieldStatistics:
    """One row of the table: the values of a field over all frames of all trajectories.

    Vectors and tensors are counted component by component.

    Attributes:
        name: The attribute of `Frame`.
        unit: Its unit; empty in reduced units.
        present: Frames that have it.
        frames: Frames in the file.
    """

    name: str
    unit: str
    frames: int
    present: int = 0
    minimum: float = np.inf
    maximum: float = -np.inf
    count: int = 0
    mean: float = 0.0
    _squares: float = 0.0

    @property
    def std(self) -> float:
        return float(np.sqrt(self._squares / self.count)) if self.count else np.nan

    @property
    def missing(self) -> int:
        return self.frames - self.present

    @property
    def constant(self) -> bool:
        """Whether every value is the same."""
        return self.count > 0 and self.minimum == self.maximum

    def add(self, values: np.ndarray) -> None:
        """Merge more values (Chan, Golub and LeVeque 1983, 10.1080/00031305.1983.10483115)."""
        n = values.size
        if n == 0:
            return
        mean = float(values.mean())
        difference = mean - self.mean
        total = self.count + n
        self._squares += float(((values - mean) ** 2).sum())
        self._squares += difference**2 * self.count * n / total
        self.mean += difference * n / total
        self.count = total
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))


@dataclass
class FieldTable:
    """A file at a glance.

    Attributes:
        path: The file.
        units: Molecular or reduced.
        trajectories: How many.
        frames: In all of them.
        particles: Fewest and most in a frame.
        species: Symbols of elements, or particle types.
        timestep: Time between frames; None where unknown, uneven or not the same everywhere.
        consecutive: Whether the frames of each trajectory follow one another evenly in time.
        fields: One row per field that is there.
        warnings: What is missing, constant, repeated or out of order.
    """

    path: Path
    units: UnitSystem
    trajectories: int
    frames: int
    particles: tuple[int, int]
    species: list[str]
    timestep: float | None
    consecutive: bool
    fields: dict[str, FieldStatistics]
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        few, many = self.particles
        time = "consecutive" if self.consecutive else "not consecutive"
        if self.timestep is not None:
            time += f", {self.timestep:g} {self.units.time} apart".replace("  ", " ")
        lines = [
            f"{self.path}: {self.frames} frames in {self.trajectories} trajectories, {time}",
            f"{few if few == many else f'{few} to {many}'} particles: {' '.join(self.species)}",
        ]
        header = ["field", "unit", "frames", "min", "max", "mean", "std", ""]
        table = [header]
        for row in self.fields.values():
            # Energies, lengths and forces are told as they are kept, stress as everyone tells it.
            unit, factor = row.unit, 1.0
            if row.name == "stress":
                unit, factor = self.units.reported_stress
            table.append(
                [
                    row.name,
                    unit or "-",
                    f"{row.present}/{row.frames}",
                    f"{factor * row.minimum:.6g}",
                    f"{factor * row.maximum:.6g}",
                    f"{factor * row.mean:.6g}",
                    f"{factor * row.std:.4g}",
                    "constant" if row.constant else "",
                ]
            )
        widths = [max(len(line[i]) for line in table) for i in range(len(header))]
        for line in table:
            left = "  ".join(
                cell.ljust(width) for cell, width in zip(line[:2], widths, strict=False)
            )
            right = "  ".join(
                cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)
            )
            lines.append(f"{left}  {right}".rstrip())
        return "\n".join(lines + [f"warning: {sentence}" for sentence in self.warnings])


def describe(path: Path | str) -> FieldTable:
    """The table of an H5MD file, reading it once from end to end.

    Raises:
        FormatError: If the file is not H5MD.
    """
    with H5MDFile(path) as file:
        trajectories = file.trajectories
        frames = sum(len(trajectory) for trajectory in trajectories)
        rows = {
            name: FieldStatistics(name, _unit(name, file.units), frames)
            for name in FIELDS
            if any(name in trajectory.fields for trajectory in trajectories)
        }
        species: set[int] = set()
        repeated = 0
        for trajectory in trajectories:
            for name, row in rows.items():
                if name in trajectory.fields:
                    repeated += _scan(trajectory, name, row)
            if "numbers" in trajectory.fields and len(trajectory):
                species |= set(trajectory.frame(0).numbers.tolist())
        charge = rows.get("total_charge")
        if charge is not None and charge.constant and charge.maximum == 0:
            del rows["total_charge"]  # the writer states it always
        sizes = [trajectory.n_particles for trajectory in trajectories]
        timesteps = {trajectory.timestep for trajectory in trajectories}
        table = FieldTable(
            path=Path(path),
            units=file.units,
            trajectories=len(trajectories),
            frames=frames,
            particles=(min(sizes), max(sizes)),
            species=[_species_name(number, file.units) for number in sorted(species)],
            timestep=timesteps.pop() if len(timesteps) == 1 else None,
            consecutive=all(trajectory.consecutive for trajectory in trajectories),
            fields=rows,
        )
        table.warnings = _warnings(table, trajectories, repeated)
    return table


def _scan(trajectory: Trajectory, name: str, row: FieldStatistics) -> int:
    """Adds a field of one trajectory to its row; for positions, counts frames equal to the last."""
    repeated = 0
    last: np.ndarray | None = None
    for values in _blocks(trajectory, name, row):
        row.add(values)
        if name == "positions":
            before = values[:-1] if last is None else np.concatenate([last[None], values[:-1]])
            after = values[1:] if last is None else values
            if before.shape == after.shape:
                repeated += int((before == after).all(axis=(1, 2)).sum())
            last = values[-1]
    return repeated


def _blocks(trajectory: Trajectory, name: str, row: FieldStatistics) -> Iterator[np.ndarray]:
    """The values of a field, block by block, counting the frames that have it."""
    step = max(1, min(BLOCK_FRAMES, BLOCK_BYTES // max(1, trajectory.n_particles * 24)))
    for start in range(0, len(trajectory), step):
        stop = min(start + step, len(trajectory))
        try:
            values = np.asarray(trajectory.read(name, slice(start, stop)), dtype=np.float64)
        except ValueError:
            # Sampled more seldom than the positions, or particles come and go.
            for k in range(start, stop):
                value = _of_frame(trajectory.frame(k), name)
                if value is not None:
                    row.present += 1
                    yield np.asarray(value, dtype=np.float64)[None]
            continue
        if _stored_once(name, values):
            row.present += len(trajectory)
            yield values.ravel()
            return
        known = ~np.isnan(values.reshape(len(values), -1)).any(axis=1)
        row.present += int(known.sum())
        if known.any():
            yield values[known]


def _stored_once(name: str, values: np.ndarray) -> bool:
    axes = {"positions": 3, "velocities": 3, "forces": 3, "stress": 3, "masses": 2, "charges": 2}
    known = property_name(name)
    usual = axes.get(name, 1) if known is None else 1 + len(PROPERTIES[known].sample_shape(1))
    return values.ndim < usual


def _of_frame(frame: Frame, name: str) -> object:
    known = property_name(name)
    return getattr(frame, name) if known is None else frame.properties.get(known)


def _unit(name: str, units: UnitSystem) -> str:
    known = property_name(name)
    if known is not None:
        return PROPERTIES[known].unit if units is MOLECULAR else ""
    if name in ("source_frame", "unpaired"):
        return ""
    return {
        "positions": units.length,
        "velocities": units.velocity,
        "forces": units.force,
        "energy": units.energy,
        "stress": units.stress,
        "masses": units.mass,
    }.get(name, "e" if units is MOLECULAR else "")


def _species_name(number: int, units: UnitSystem) -> str:
    known = units is MOLECULAR and 0 < number < len(chemical_symbols)
    return chemical_symbols[number] if known else str(number)


_SOMETIMES = ("masses", "charges", "total_charge", "unpaired", "source_frame")
"""What frames may well do without."""


def _warnings(table: FieldTable, trajectories: list[Trajectory], repeated: int) -> list[str]:
    found = []
    rows = table.fields
    for row in rows.values():
        if row.missing and row.name not in _SOMETIMES:
            found.append(f"{row.name} are missing in {row.missing} of {row.frames} frames")
        label = row.name in ("velocities", "forces", "energy", "stress") or property_name(row.name)
        if label and row.constant and row.count > 1:
            found.append(f"{row.name} are {row.minimum:g} throughout, so nothing can be learned")
    energy, forces = rows.get("energy"), rows.get("forces")
    if energy and forces and forces.constant and forces.maximum == 0 and not energy.constant:
        found.append("forces are zero while energies vary: they were not computed")
    if repeated:
        found.append(f"{repeated} frames have the positions of the frame before")
    breaks = sum(len(trajectory.breaks) for trajectory in trajectories)
    if breaks:
        found.append(f"the step goes back {breaks} times: restarts, or frames written twice")
    if all(trajectory.timestep is None for trajectory in trajectories):
        found.append(
            "the time between frames is unknown or uneven: usable for forces, not for dynamics, "
            "unless the import is told --timestep"
        )
    for trajectory in trajectories:
        for name, reason in trajectory.unreadable.items():
            found.append(f"{name} of {trajectory.name} cannot be read: {reason}")
    return found

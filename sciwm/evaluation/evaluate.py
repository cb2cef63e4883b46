"""Errors of a potential on labelled frames: energies, forces and stress, beside null models."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from ase.data import chemical_symbols

from sciwm.core.bounds import require_counts
from sciwm.core.frame import Array, Frame
from sciwm.core.neighbours import NeighbourTable
from sciwm.core.progress import Bar
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, UnitSystem
from sciwm.data.collection import Collection, Entry
from sciwm.evaluation.metrics import Comparison, compare, reported_in
from sciwm.evaluation.result import EvaluationResult, Row, WorstFrame
from sciwm.models.domain import UnseenSpeciesError
from sciwm.models.dynamics.potential import Potential
from sciwm.models.model import Model
from sciwm.simulation.learned import outside, predict
from sciwm.simulation.simulator import Evaluation

LABELS = ("energy", "forces", "stress")

WORST = 5
"""Frames listed for each quantity."""

NULL_MODELS = {
    "energy": "reference energies plus the mean energy per atom of these frames",
    "force": "zero",
    "stress": "zero",
}


def evaluate(model: Potential, data: Collection, batch_size: int = 16) -> EvaluationResult:
    """Errors over every frame of the collection; frames without a label count as such.

    Stress is compared in its six independent components, where a system repeats in all directions.

    Args:
        batch_size: Frames predicted together.

    Raises:
        ValueError: If the data is in other units than the model, or no frame has a label.
        UnseenSpeciesError: If a frame holds a particle type the model was not trained on.
        FloatingPointError: If a prediction is not finite.
    """
    require_counts(batch_size=batch_size)
    require_units(model, data)
    tally = _Tally(data, model.units)
    progress = Bar(total=len(data.frames), desc="evaluating", unit="frame", delay=1)
    for start in range(0, len(data.frames), batch_size):
        entries = data.frames[start : start + batch_size]
        frames = [data.frame(entry) for entry in entries]
        for entry, frame in zip(entries, frames, strict=True):
            _require_species(model, data, entry, frame)
        state = State.collate([_unlabelled(model, frame) for frame in frames])
        stress = any(_stressed(frame) for frame in frames)
        offsets = model.total_offset(state)
        found = predict(model, state, stress=stress)
        tally.outside |= {
            entries[s]: reason
            for s, reason in outside(model, state, NeighbourTable.from_pairs(state), found).items()
        }
        parts = _separated(found, offsets.numpy(force=True), frames)
        for entry, frame, part in zip(entries, frames, parts, strict=True):
            tally.add(entry, frame, *part)
        progress.update(len(entries))
    progress.close()
    return tally.result()


def require_units(model: Model, data: Collection) -> None:
    """Raises ValueError if the data is in another unit system than the model."""
    if data.units != model.units:
        raise ValueError(
            f"the model is in {model.units.name} units and {data.paths[0]} in {data.units.name} "
            "units; import the data again with `sciwm import --units`, or use another model"
        )


class _Tally:
    """The comparisons of one pass over the data."""

    def __init__(self, data: Collection, units: UnitSystem):
        self._data, self._units = data, units
        self._forces: dict[str, Comparison] = defaultdict(Comparison)
        self._no_forces: dict[str, Comparison] = defaultdict(Comparison)
        self._stress, self._no_stress = Comparison(), Comparison()
        # Few enough to keep: the null model's mean is known only at the end.
        self._energies: list[tuple[float, float, int]] = []
        self._energy_entries: list[tuple[Entry, str | None]] = []
        self._worst_forces: list[tuple[float, Entry]] = []
        self._labelled = dict.fromkeys(LABELS, 0)
        self._frames = 0
        self.outside: dict[Entry, str] = {}
        """Frames beyond what training covered, each with the reason."""

    def add(
        self, entry: Entry, frame: Frame, energy: float, offset: float, forces: Array, stress: Array
    ) -> None:
        """One frame, with the model's predictions for it."""
        self._frames += 1
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise FloatingPointError(
                f"the model's prediction for {self._place(entry)} is not finite; the frame has "
                "overlapping particles, or the model's training has diverged"
            )
        if frame.energy is not None:
            self._labelled["energy"] += 1
            self._energies.append((energy - offset, frame.energy - offset, len(frame)))
            self._energy_entries.append((entry, frame.label))
        if frame.forces is not None:
            self._labelled["forces"] += 1
            self._add_forces(entry, frame, forces, frame.forces)
        if frame.stress is not None and _stressed(frame):
            self._labelled["stress"] += 1
            six = np.triu_indices(3)
            self._stress.add(stress[six], frame.stress[six])
            self._no_stress.add(np.zeros(6), frame.stress[six])

    def result(self) -> EvaluationResult:
        if not any(self._labelled.values()):
            raise ValueError(
                f"none of the {self._frames} frames has an energy, forces or a stress to compare "
                "with; import the data with its labels"
            )
        rows = self._energy_rows()
        for name, seen in sorted(self._forces.items()):
            rows.append(self._row(name, "force", seen, self._no_forces[name]))
        if self._stress.count:
            rows.append(self._row("stress", "stress", self._stress, self._no_stress))
        used = {row.name.split(",")[0].split(" per ")[0] for row in rows}
        return EvaluationResult(
            rows=rows,
            worst=self._worst(),
            frames=self._frames,
            labelled=self._labelled,
            null_models={name: what for name, what in NULL_MODELS.items() if name in used},
            outside={self._place(entry): reason for entry, reason in self.outside.items()},
        )

    def _add_forces(self, entry: Entry, frame: Frame, found: Array, true: Array) -> None:
        none = np.zeros_like(true)

        def add(name: str, rows: np.ndarray | slice = slice(None)) -> None:
            self._forces[name].add(found[rows], true[rows])
            self._no_forces[name].add(none[rows], true[rows])

        add("force")
        for species in np.unique(frame.numbers).tolist():
            add(f"force, species {species_name(species, self._units)}", frame.numbers == species)
        if frame.label is not None:
            add(f"force, label {frame.label}")
        error = float(np.sqrt(np.mean((found - true) ** 2)))
        self._worst_forces = _largest([*self._worst_forces, (error, entry)])

    def _energy_rows(self) -> list[Row]:
        if not self._energies:
            return []
        found, true, sizes = np.array(self._energies, dtype=np.float64).T
        mean = (true / sizes).mean()
        labels = sorted({label for _, label in self._energy_entries if label is not None})
        subsets = {"": np.full(len(found), True)} | {
            f", label {label}": np.array([own == label for _, own in self._energy_entries])
            for label in labels
        }
        rows = []
        for name, own in subsets.items():
            for quantity, share in (("energy", np.ones_like(sizes)), ("energy per atom", sizes)):
                unit, factor = reported_in(quantity, self._units)
                p, r = factor * (found / share)[own], factor * (true / share)[own]
                null = factor * (mean * sizes / share)[own]
                rows.append(Row(quantity + name, unit, compare(p, r), compare(null, r), p, r))
        return rows

    def _row(self, name: str, quantity: str, seen: Comparison, null: Comparison) -> Row:
        unit, factor = reported_in(quantity, self._units)
        predicted, reference = seen.sample
        return Row(
            name,
            unit,
            seen.errors.scaled(factor),
            null.errors.scaled(factor),
            factor * predicted,
            factor * reference,
        )

    def _worst(self) -> list[WorstFrame]:
        pairs = zip(self._energies, self._energy_entries, strict=True)
        energies = [(abs(p - r) / n, entry) for (p, r, n), (entry, _) in pairs]
        worst = []
        for quantity, errors in (
            ("force", self._worst_forces),
            ("energy per atom", _largest(energies)),
        ):
            unit, factor = reported_in(quantity, self._units)
            for error, entry in errors:
                file = str(self._data.paths[entry.file])
                name = self._data.trajectory(entry).name
                source = self._data.frame(entry).source_frame
                worst.append(
                    WorstFrame(quantity, factor * error, unit, file, name, entry.frame, source)
                )
        return worst

    def _place(self, entry: Entry) -> str:
        return place(self._data, entry)


def place(data: Collection, entry: Entry) -> str:
    """File, trajectory and frame, for messages."""
    return f"{data.paths[entry.file]} {data.trajectory(entry).name!r} frame {entry.frame}"


def species_name(number: int, units: UnitSystem) -> str:
    """The element's symbol, or the particle type."""
    return chemical_symbols[number] if units is MOLECULAR else str(number)


def _unlabelled(model: Potential, frame: Frame) -> State:
    bare = frame.with_(energy=None, forces=None, stress=None)
    parameter = next(model.parameters())
    return State.from_frame(bare, parameter.dtype).to(parameter.device)


def _stressed(frame: Frame) -> bool:
    return frame.stress is not None and bool(frame.pbc.all())


def _separated(
    found: Evaluation, offsets: Array, frames: list[Frame]
) -> Iterator[tuple[float, float, Array, Array]]:
    """Energy, constant part of it, forces and stress of each system."""
    energy, forces = found.energy.numpy(force=True), found.forces.double().numpy(force=True)
    stress = found.stress if found.stress is not None else torch.zeros(len(frames), 3, 3)
    ends = np.cumsum([len(frame) for frame in frames])
    pieces = np.split(forces, ends[:-1])
    for s, piece in enumerate(pieces):
        tension = stress[s].double().numpy(force=True)
        yield float(energy[s]), float(offsets[s]), piece, tension


def _largest(errors: list[tuple[float, Entry]]) -> list[tuple[float, Entry]]:
    return sorted(errors, key=lambda pair: -pair[0])[:WORST]


def _require_species(model: Potential, data: Collection, entry: Entry, frame: Frame) -> None:
    try:
        device = model.domain.seen.device
        model.domain.require_species(torch.from_numpy(frame.numbers).to(device))
    except UnseenSpeciesError as error:
        raise UnseenSpeciesError(f"{place(data, entry)}: {error}") from None

"""Errors of imagined motion: where particles are after k frames, beside straight motion."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sciwm.core.bounds import require_counts
from sciwm.core.frame import Array
from sciwm.core.progress import Bar
from sciwm.core.state import State
from sciwm.data.collection import Collection, Entry
from sciwm.data.datasets import WindowDataset
from sciwm.evaluation.evaluate import place, require_units
from sciwm.evaluation.metrics import reported_in
from sciwm.evaluation.table import aligned, number
from sciwm.models.domain import UnseenSpeciesError
from sciwm.models.dynamics.potential import Potential
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import VelocityVerlet
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.rollout.stability import Finiteness

_SHOWN = 8
"""Rows of the printed table, at most."""


@dataclass(frozen=True, eq=False)
class MotionResult:
    """Position errors against time, over windows of motion.

    An error is the squared error of a window, averaged over its particles and three components: what
    n-body benchmarks report (Satorras et al. 2021, arXiv:2102.09844, section 5.1). Its distribution
    has a heavy tail, so the median says what to expect and the mean what close encounters cost.

    Attributes:
        times: (K,) time since the start of a window.
        model: (W, K) errors; infinite from where a path was lost.
        null: (W, K) those of constant velocity.
        unit: Of the errors.
        time_unit: Of the times.
        lost: Windows in which a position became infinite or NaN.
        velocities_known: Whether windows start from stored velocities; otherwise they are taken from
            the first displacement, and the first frame is no prediction.
    """

    times: Array
    model: Array
    null: Array
    unit: str
    time_unit: str
    lost: int
    velocities_known: bool

    def metrics(self) -> dict[str, dict[str, object]]:
        """Mean, median and 95th percentile at the last frame, with unit and null."""
        unit = self.unit
        ours, theirs = _summary(self.model[:, -1]), _summary(self.null[:, -1])
        return {
            f"position mse {name}": {
                "value": value if np.isfinite(value) else None,
                "unit": unit,
                "null": theirs[name],
            }
            for name, value in ours.items()
        }

    def write(self, path: Path) -> None:
        """As JSON."""
        content = {
            "windows": len(self.model),
            "frames": len(self.times),
            "time": float(self.times[-1]),
            "time unit": self.time_unit,
            "lost": self.lost,
            "null models": {"position": "constant velocity"},
            "metrics": self.metrics(),
        }
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def __str__(self) -> str:
        time = f"time ({self.time_unit})" if self.time_unit else "time"
        names = ["mean", "median", "95 %"]
        rows = [["frame", time, *names, *(f"null {name}" for name in names)]]
        first = 0 if self.velocities_known else 1
        frames = np.linspace(first, len(self.times) - 1, _SHOWN).round().astype(int)
        for k in np.unique(frames):
            summaries = (_summary(self.model[:, k]), _summary(self.null[:, k]))
            figures = [number(value) for one in summaries for value in one.values()]
            rows.append([str(k + 1), f"{self.times[k]:g}", *figures])
        unit = f" in {self.unit}" if self.unit else ""
        lines = [f"mean squared position error{unit} of {len(self.model)} windows", aligned(rows)]
        lines.append("null model: constant velocity")
        if not self.velocities_known:
            lines.append(
                "velocities are not stored, so they were taken from the first displacement"
            )
        if self.lost:
            lines.append(f"{self.lost} windows were lost: a position was no longer finite")
        return "\n".join(lines)


@dataclass
class _Paths:
    """Errors of the windows evaluated so far."""

    model: list[Array] = field(default_factory=list)
    null: list[Array] = field(default_factory=list)


def evaluate_motion(
    model: Potential,
    data: Collection,
    frames: int = 10,
    substeps: int = 10,
    start: int | None = None,
    batch_size: int = 256,
) -> MotionResult:
    """Position errors after 1 to `frames` stored frames, by velocity Verlet on the model's forces.

    Args:
        frames: How far each window reaches.
        substeps: Integrator steps between two stored frames.
        start: Frame at which windows start; by default they follow one another without overlap.
        batch_size: Windows moved together.

    Raises:
        ValueError: If the data is no time series, too short, or in other units than the model.
        UnseenSpeciesError: If it holds a particle type the model was not trained on.
    """
    require_counts(frames=frames, substeps=substeps, batch_size=batch_size)
    require_counts(0, start=start)
    require_units(model, data)
    entries = [
        entry
        for entry in data.windows(frames + 1, 1)
        if (entry.frame % frames == 0 if start is None else entry.frame == start)
    ]
    if not entries:
        where = "" if start is None else f" from frame {start}"
        raise ValueError(
            f"no trajectory has {frames + 1} unbroken frames{where}; look further back with fewer "
            "frames, or give longer trajectories"
        )
    dataset = WindowDataset(data, entries, frames + 1, 1)
    groups = defaultdict(list)
    for index, entry in enumerate(entries):
        trajectory = data.trajectory(entry)
        groups[trajectory.timestep, "velocities" in trajectory.fields].append(index)
    if len({known for _, known in groups}) > 1 or len({dt for dt, _ in groups}) > 1:
        raise ValueError(
            "the trajectories differ in the time between frames, or only some have velocities, so "
            f"their errors cannot be averaged: {sorted(groups)}; evaluate them one by one"
        )
    ((interval, known),) = groups
    assert interval is not None
    if not known and frames < 2:
        raise ValueError("without velocities the first frame is no prediction; use frames >= 2")
    model = model.eval()
    paths = _Paths()
    progress = Bar(total=len(entries), desc="imagining", unit="window", delay=1)
    for first in range(0, len(entries), batch_size):
        chosen = entries[first : first + batch_size]
        windows = [dataset[first + k] for k in range(len(chosen))]
        _require_species(model, data, chosen, windows)
        batch = State.collate(windows).to(next(model.parameters()).device)
        _add(paths, model, batch, interval, substeps, known)
        progress.update(len(chosen))
    progress.close()
    errors = np.concatenate(paths.model)
    unit, factor = reported_in("squared position", model.units)
    return MotionResult(
        times=interval * np.arange(1.0, frames + 1.0),
        model=factor * errors,
        null=factor * np.concatenate(paths.null),
        unit=unit,
        time_unit=model.units.time,
        lost=int((~np.isfinite(errors[:, -1])).sum()),
        velocities_known=known,
    )


def _add(
    paths: _Paths, model: Potential, batch: State, interval: float, substeps: int, known: bool
) -> None:
    """Moves a batch of windows and notes their errors."""
    path = batch.path
    straight = batch.path_velocities[:, 0]
    velocities = straight
    if not known:
        straight = (path[:, 1] - path[:, 0]) / interval
        # Over the first interval the force bends the path: half of that belongs to the velocity.
        forces = LearnedSimulator(model).evaluate(batch).forces.to(path.dtype)
        pull = model.units.acceleration * forces / batch.masses[:, None]
        velocities = straight - 0.5 * interval * pull
    times = interval * torch.arange(path.shape[1], dtype=path.dtype, device=path.device)
    null = path[:, :1] + straight[:, None] * times[None, :, None]
    found = _moved(model, batch, velocities, interval / substeps, substeps)
    paths.model.append(_window_errors(found, path, batch))
    paths.null.append(_window_errors(null, path, batch))


def _moved(model: Potential, batch: State, velocities: Tensor, dt: float, substeps: int) -> Tensor:
    """(A, W, 3) predicted positions; NaN from where a system is lost."""
    state = State(
        **{key: batch[key] for key in ("numbers", "positions", "masses", "charges", "batch")},
        **{key: batch[key] for key in ("cell", "pbc", "total_charge", "dimension")},
        velocities=velocities,
        num_nodes=batch.num_nodes,
    )
    rollout = Rollout(
        VelocityVerlet(LearnedSimulator(model), dt), every=substeps, guard=Finiteness()
    )
    steps = substeps * (batch.path.shape[1] - 1)
    found = torch.full_like(batch.path, torch.nan)
    for s, frames in enumerate(rollout.run(state, steps).frames):
        path = np.stack([frame.positions for frame in frames], axis=1)
        found[batch.batch == s, : len(frames)] = torch.from_numpy(path).to(found)
    return found


def _window_errors(found: Tensor, true: Tensor, batch: State) -> Array:
    """(S, W - 1) mean squared errors; infinite where a path was lost."""
    squared = torch.nan_to_num((found - true).square(), nan=torch.inf).mean(dim=2)[:, 1:]
    total = squared.new_zeros(batch.n_systems, squared.shape[1]).index_add(0, batch.batch, squared)
    return (total / batch.counts[:, None]).numpy(force=True)


def _summary(errors: Array) -> dict[str, float]:
    return {
        "mean": float(errors.mean()),
        "median": float(np.median(errors)),
        # No interpolation, which between infinite errors has no answer.
        "p95": float(np.percentile(errors, 95, method="higher")),
    }


def _require_species(
    model: Potential, data: Collection, entries: list[Entry], windows: list[State]
) -> None:
    for entry, window in zip(entries, windows, strict=True):
        try:
            model.domain.require_species(window.numbers)
        except UnseenSpeciesError as error:
            raise UnseenSpeciesError(f"{place(data, entry)}: {error}") from None

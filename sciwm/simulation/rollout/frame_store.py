"""What a run leaves behind: the frames of every system."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sciwm.core.frame import Array, Frame
from sciwm.data.h5md.writer import H5MDWriter
from sciwm.simulation.rollout.checkpoint import Checkpoint
from sciwm.simulation.rollout.snapshot import Snapshot


class Frames(Protocol):
    """What becomes of the frames of a run."""

    def add(self, snapshot: Snapshot) -> None:
        """Takes the running systems as they are now."""

    def save(self, snapshot: Snapshot) -> None:
        """What a kill must not cost is on disk."""

    def save_if_due(self, snapshot: Snapshot) -> None:
        """The same, where long enough ago."""


class FrameStore:
    """Keeps the frames of a run: in a file beside its checkpoint, or without one in memory."""

    def __init__(
        self,
        names: Sequence[str],
        every: int,
        writer: H5MDWriter | None = None,
        checkpoint: Checkpoint | None = None,
    ):
        self.trajectories: list[list[Frame]] = [[] for _ in names]
        self._names = names
        self._every = every
        self._writer = writer
        self._checkpoint = checkpoint

    def add(self, snapshot: Snapshot) -> None:
        """Takes the running systems as they are now."""
        for s, frame in _frames(snapshot, self._names):
            if self._writer is None:
                self.trajectories[s].append(frame)
            else:
                self._writer.append(frame, group=self._names[s])

    def save_if_due(self, snapshot: Snapshot) -> None:
        if self._checkpoint is not None and self._checkpoint.due:
            self.save(snapshot)

    def save(self, snapshot: Snapshot) -> None:
        """Writes what the file still holds back, then the checkpoint."""
        if self._writer is None or self._checkpoint is None:
            return
        snapshot = snapshot.merged()
        for s, name in enumerate(self._names):
            # An interrupt may come between frames and the step that they belong to.
            expected = snapshot.steps[s] // self._every + 1
            if self._writer.n_frames(name) > expected:
                self._writer.truncate(name, expected)
        self._writer.flush()
        self._checkpoint.save(snapshot, [self._writer.n_frames(name) for name in self._names])


class Unstored:
    """Keeps no frames: for runs of which only what is watched counts."""

    def add(self, snapshot: Snapshot) -> None:
        """Nothing."""

    def save(self, snapshot: Snapshot) -> None:
        """Nothing."""

    def save_if_due(self, snapshot: Snapshot) -> None:
        """Nothing."""


def _frames(snapshot: Snapshot, names: Sequence[str]) -> list[tuple[int, Frame]]:
    """The running systems as they are now."""
    state = snapshot.state
    columns = {
        key: state[key].detach().cpu().double().numpy()
        for key in ("positions", "velocities", "masses", "charges", "cell", "total_charge")
    }
    numbers, pbc = state.numbers.cpu().numpy(), state.pbc.cpu().numpy()
    energy = forces = error = None
    if snapshot.evaluation is not None:
        if snapshot.evaluation.force_error is not None:
            error = snapshot.evaluation.force_error.detach().cpu().double().numpy()
        energy = snapshot.evaluation.energy.detach().cpu().double().numpy()
        forces = snapshot.evaluation.forces.detach().cpu().double().numpy()
    work = state.work.cpu().numpy() if "work" in state else None
    ends = np.cumsum(state.counts.cpu().numpy())
    found = []
    for k, (s, end) in enumerate(zip(snapshot.running, ends, strict=False)):
        rows = slice(int(ends[k - 1]) if k else 0, int(end))
        properties: dict[str, Array | float] = {}
        if error is not None:
            properties["force_error"] = error[rows]
        if work is not None:
            properties["work"] = float(work[k])
        per_atom = ("positions", "velocities", "masses", "charges")
        frame = Frame(
            numbers=numbers[rows],
            **{key: columns[key][rows] for key in per_atom},
            cell=columns["cell"][k],
            pbc=pbc[k],
            forces=None if forces is None else forces[rows],
            energy=None if energy is None else float(energy[k]),
            properties=properties,
            total_charge=float(columns["total_charge"][k]),
            unpaired=state.unpaired_of(k),
            dimension=int(state.dimension[k]),
            time=snapshot.step * snapshot.propagator.stride,
            step=snapshot.step,
            trajectory=names[s],
        )
        found.append((s, frame))
    return found

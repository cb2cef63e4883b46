"""What a run leaves behind: the frames of every system."""

from collections.abc import Sequence

import numpy as np

from sciwm.core.frame import Frame
from sciwm.data.h5md.writer import H5MDWriter
from sciwm.simulation.rollout.checkpoint import Checkpoint
from sciwm.simulation.rollout.progress import Progress


class Recorder:
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

    def add(self, progress: Progress) -> None:
        """Takes the running systems as they are now."""
        for s, frame in _frames(progress, self._names):
            if self._writer is None:
                self.trajectories[s].append(frame)
            else:
                self._writer.append(frame, group=self._names[s])

    def save_if_due(self, progress: Progress) -> None:
        if self._checkpoint is not None and self._checkpoint.due:
            self.save(progress)

    def save(self, progress: Progress) -> None:
        """Writes what the file still holds back, then the checkpoint."""
        if self._writer is None or self._checkpoint is None:
            return
        progress = progress.merged()
        for s, name in enumerate(self._names):
            # An interrupt may come between frames and the step that they belong to.
            expected = progress.steps[s] // self._every + 1
            if self._writer.n_frames(name) > expected:
                self._writer.truncate(name, expected)
        self._writer.flush()
        self._checkpoint.save(progress, [self._writer.n_frames(name) for name in self._names])


def _frames(progress: Progress, names: Sequence[str]) -> list[tuple[int, Frame]]:
    """The running systems as they are now."""
    state = progress.state
    columns = {
        key: state[key].detach().cpu().double().numpy()
        for key in ("positions", "velocities", "masses", "charges", "cell", "total_charge")
    }
    numbers, pbc = state.numbers.cpu().numpy(), state.pbc.cpu().numpy()
    energy = progress.evaluation.energy.detach().cpu().double().numpy()
    forces = progress.evaluation.forces.detach().cpu().double().numpy()
    ends = np.cumsum(state.counts.cpu().numpy())
    found = []
    for k, (s, end) in enumerate(zip(progress.running, ends, strict=False)):
        rows = slice(int(ends[k - 1]) if k else 0, int(end))
        per_atom = ("positions", "velocities", "masses", "charges")
        frame = Frame(
            numbers=numbers[rows],
            **{key: columns[key][rows] for key in per_atom},
            cell=columns["cell"][k],
            pbc=pbc[k],
            forces=forces[rows],
            energy=float(energy[k]),
            total_charge=float(columns["total_charge"][k]),
            time=progress.step * progress.integrator.dt,
            step=progress.step,
            trajectory=names[s],
        )
        found.append((s, frame))
    return found

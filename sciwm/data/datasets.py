"""What a training step is given: single frames with labels, or windows of motion."""

import math

import numpy as np
import torch
from torch.utils.data import Dataset

from sciwm.core.frame import Array, Frame
from sciwm.core.geometry import minimum_image
from sciwm.core.neighbours import attach_pairs
from sciwm.core.properties import PROPERTIES, property_field
from sciwm.core.state import State
from sciwm.data.collection import Collection, Entry

KEPT_BYTES = 256 << 20
"""States kept in memory after their first reading, at most; the rest is read again each time."""

LARGEST_KEPT = 8 << 20
"""Bytes of a trajectory that is read whole, at most, where windows are drawn from it."""


class FrameDataset(Dataset[State]):
    """Frames as states with neighbour pairs.

    Args:
        data: Where they are.
        entries: Which.
        cutoff: For the neighbour pairs.
        labels: Which of energy, forces and stress to keep.
        properties: Which of `core.properties.PROPERTIES` to keep; NaN where a frame lacks one.
    """

    def __init__(
        self,
        data: Collection,
        entries: list[Entry],
        cutoff: float,
        labels: tuple[str, ...],
        properties: tuple[str, ...] = (),
    ):
        self.data = data
        self.entries = entries
        self.cutoff = cutoff
        self.labels = labels
        self.properties = properties
        self._kept: dict[int, State] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> State:
        if index in self._kept:
            return self._kept[index]
        frame = self.data.frame(self.entries[index])
        state = self._state(frame)
        state.index = torch.tensor([index])
        size = sum(v.nbytes for v in state.to_dict().values() if isinstance(v, torch.Tensor))
        if size <= self._room:
            self._room -= size
            self._kept[index] = state
        return state

    def _state(self, frame: Frame) -> State:
        blank = {
            name: np.full(PROPERTIES[name].sample_shape(len(frame)), np.nan)
            for name in self.properties
        }
        state = State.from_frame(frame.with_(properties=blank | frame.properties), torch.float64)
        missing = [label for label in self.labels if label not in state]
        if missing:
            raise ValueError(f"a frame has no {', '.join(missing)}")
        attach_pairs(state, self.cutoff)
        # Only what a loss reads travels on: collating costs time per field.
        kept = {
            "numbers",
            "positions",
            "cell",
            "pbc",
            "charges",
            "total_charge",
            "dimension",
            "batch",
        }
        if self.properties:
            kept |= {"masses", *map(property_field, self.properties)}
        small = State(num_nodes=state.num_nodes)
        for key in kept | set(self.labels) | {"pairs", "shifts"}:
            value = state[key]
            # Energies stay in double until the offsets have been taken off.
            single = value.is_floating_point() and key != "energy"
            small[key] = value.to(torch.get_default_dtype()) if single else value
        return small


class WindowDataset(Dataset[State]):
    """Windows of motion: the first state of each, and the path it took.

    A state has the extra fields `path` (A, W, 3), continuous positions from the first frame on,
    `path_velocities` (A, W, 3), NaN where the source gives no velocities, and `interval` (S,), the
    time between frames. Everything is in float64, as integrators want it.

    Args:
        data: Where the trajectories are.
        entries: First frame of each window.
        length: Frames in a window.
        stride: Stored frames from one frame of the window to the next.
    """

    def __init__(self, data: Collection, entries: list[Entry], length: int, stride: int):
        self.data = data
        self.entries = entries
        self.length = length
        self.stride = stride
        self._kept: dict[tuple[int, int], tuple[Frame, Array, Array] | None] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> State:
        entry = self.entries[index]
        trajectory = self.data.trajectory(entry)
        frame, window = self._read(entry)
        state = State.from_frame(frame, torch.float64)
        for label in ("energy", "forces", "stress"):
            if label in state:
                del state[label]
        positions, velocities = window
        steps = np.diff(positions, axis=0)
        if frame.pbc.any():
            steps = minimum_image(steps, frame.cell, frame.pbc)
        path = frame.positions + np.concatenate([np.zeros_like(steps[:1]), steps.cumsum(axis=0)])
        state.path = torch.from_numpy(path.swapaxes(0, 1).copy())
        state.path_velocities = torch.from_numpy(velocities.swapaxes(0, 1).copy())
        assert trajectory.timestep is not None
        state.interval = torch.tensor([trajectory.timestep * self.stride], dtype=torch.float64)
        state.index = torch.tensor([index])
        return state

    def _read(self, entry: Entry) -> tuple[Frame, tuple[Array, Array]]:
        """First frame, and positions and velocities (W, N, 3) of a window."""
        series = self._whole(entry)
        span = self.length * self.stride
        if series is None:
            window = self.data.window(entry, self.length, self.stride)
            velocities = window.velocities
            if velocities is None:
                velocities = np.full_like(window.positions, math.nan)
            return self.data.frame(entry), (window.positions, velocities)
        first, positions, velocities = series
        rows = slice(entry.frame, entry.frame + span, self.stride)
        known = None if first.velocities is None else velocities[entry.frame]
        frame = first.with_(positions=positions[entry.frame], velocities=known)
        return frame, (positions[rows], velocities[rows])

    def _whole(self, entry: Entry) -> tuple[Frame, Array, Array] | None:
        """First frame, positions and velocities of a whole trajectory, if it is small and fits.

        Thousands of short trajectories are otherwise ruled by the cost of opening them.
        """
        key = (entry.file, entry.trajectory)
        if key not in self._kept:
            trajectory = self.data.trajectory(entry)
            size = 48 * trajectory.n_frames * trajectory.n_particles
            start = Entry(*key, 0)
            first = self.data.frame(start)
            if first.pbc.any() or len(trajectory.breaks) or size > min(self._room, LARGEST_KEPT):
                self._kept[key] = None
            else:
                self._room -= size
                whole = self.data.window(start, trajectory.n_frames, 1)
                velocities = whole.velocities
                if velocities is None:
                    velocities = np.full_like(whole.positions, math.nan)
                self._kept[key] = (first, whole.positions, velocities)
        return self._kept[key]

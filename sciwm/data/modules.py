"""Training and validation data for Lightning: frames with labels, or windows of motion."""

import abc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from sciwm.core.bounds import MOST_READERS, require_counts, require_positive
from sciwm.core.frame import Frame
from sciwm.core.progress import Bar
from sciwm.core.properties import property_field, require_known
from sciwm.core.state import State
from sciwm.data.collection import Collection, Entry, geometry_hash
from sciwm.data.datasets import FrameDataset, WindowDataset
from sciwm.data.frame_numbers import frames_named
from sciwm.data.sampling import OrderedBatches, ShuffledBatches
from sciwm.data.splits import LeakageError, Split, split_entries

COMPARED = 2000
"""Frames of each side that are compared, at most, when looking for copies across a split."""


class Data(LightningDataModule, abc.ABC):
    """What every kind of training data offers a task.

    Args:
        train: H5MD files to learn from.
        valid: H5MD files to validate on; or how much of `train` to hold back, a count if at least 1
            and a share if below.
        split: What training and held-back frames must not share: independent frames only ("frame"),
            the end of each trajectory ("time"), whole trajectories ("trajectory"), or whole
            molecules ("molecule").
        frames: Which of the training files' frames to use, held-back ones among them: numbers or slices
            separated by commas, such as 0:50 or ::10. They count on through all trajectories and files
            in their order, which is that of the source where all its frames are of the same atoms. In a
            job file they need quotes, for YAML takes 1:30 for a time. All where absent.
        batch_size: Systems in a training step.
        max_atoms: Particles in a training step, at most.
        workers: Processes that read ahead.
    """

    def __init__(
        self,
        train: str | list[str],
        valid: float | str | list[str],
        split: Split,
        frames: str | None,
        batch_size: int,
        max_atoms: int | None,
        workers: int,
    ):
        super().__init__()
        require_counts(batch_size=batch_size, max_atoms=max_atoms)
        require_counts(0, MOST_READERS, workers=workers)
        if isinstance(valid, (int, float)):
            require_positive(valid=valid)
        self.train = _listed(train)
        self.valid = valid
        self.split = split
        self.frames = frames
        self.batch_size = batch_size
        self.max_atoms = max_atoms
        self.workers = workers
        self.seed = 0
        self.bootstrap = False
        self.training_entries: list[Entry] = []
        self.collection = Collection(self.train)
        self._training: Dataset[State] | None = None
        self._validation: Dataset[State] | None = None
        self._sizes: list[int] = []

    @abc.abstractmethod
    def entries(self, collection: Collection) -> list[Entry]:
        """Every item the files offer."""

    @abc.abstractmethod
    def dataset(self, collection: Collection, entries: list[Entry]) -> Dataset[State]:
        """Those items as states."""

    @property
    def offsets(self) -> range:
        """Frames that belong to an item, counted from its first."""
        return range(1)

    def compared(self, held: list[Entry]) -> list[Entry]:
        """Which held-back items the model is validated on."""
        return held

    def divide(self, seed: int) -> None:
        """Decides which items are for training and which for validation.

        Raises:
            LeakageError: If the two would not be independent.
        """
        self.seed = seed
        # Members of an ensemble differ in what they draw, not in what they are validated on.
        self._divide(0 if self.bootstrap else seed)
        if self.bootstrap:
            chosen = np.random.default_rng(seed).integers(
                len(self.training_entries), size=len(self.training_entries)
            )
            self.training_entries = [self.training_entries[i] for i in np.sort(chosen)]
        self._training = self.dataset(self.collection, self.training_entries)
        self._sizes = [
            self.collection.trajectory(entry).n_particles for entry in self.training_entries
        ]

    def _divide(self, seed: int) -> None:
        offered = self._among_frames(self.entries(self.collection))
        if isinstance(self.valid, (int, float)):
            training, held = split_entries(
                self.collection, offered, self.valid, self.split, seed, self.offsets[-1]
            )
            held_in = self.collection
        else:
            held_in = Collection(_listed(self.valid))
            if held_in.units != self.collection.units:
                raise ValueError(
                    f"training data is in {self.collection.units.name} units and validation data in "
                    f"{held_in.units.name} units"
                )
            training, held = offered, self.entries(held_in)
        self.training_entries = training
        self._refuse_copies(training, held_in, held)
        self._validation = self.dataset(held_in, self.compared(held))

    def _among_frames(self, entries: list[Entry]) -> list[Entry]:
        if self.frames is None:
            return entries
        every = self.collection.frames
        chosen = {every[k] for k in frames_named(self.frames, len(every))}
        found = [
            entry
            for entry in entries
            if all(replace(entry, frame=entry.frame + k) in chosen for k in self.offsets)
        ]
        if not found:
            raise ValueError(
                f"nothing to learn from lies within the frames {self.frames} of {len(every)}; name more"
            )
        return found

    def _refuse_copies(
        self, training: Sequence[Entry], held_in: Collection, held: Sequence[Entry]
    ) -> None:
        rng = np.random.default_rng(0)

        def sample(collection: Collection, entries: Sequence[Entry]) -> dict[bytes, Entry]:
            chosen = rng.permutation(len(entries))[:COMPARED]
            return {geometry_hash(collection.frame(entries[i])): entries[i] for i in chosen}

        seen = sample(self.collection, training)
        copies = [(seen[key], entry) for key, entry in sample(held_in, held).items() if key in seen]
        if copies:
            first, second = copies[0]
            raise LeakageError(
                f"{len(copies)} validation frames are copies of training frames, such as frame "
                f"{second.frame} of {held_in.paths[second.file]} and frame {first.frame} of "
                f"{self.collection.paths[first.file]}; remove the duplicates"
            )

    def sample_frames(self, n: int) -> list[Any]:
        """Training frames spread over the data, for statistics."""
        chosen = np.unique(np.linspace(0, len(self.training_entries) - 1, n).astype(int))
        return [self.collection.frame(self.training_entries[i]) for i in chosen]

    def training_frames(self) -> Iterator[Frame]:
        """Every training frame, read one by one."""
        entries = Bar(self.training_entries, desc="looking at the data", unit="frame", delay=2.0)
        return (self.collection.frame(entry) for entry in entries)

    @property
    def training_set(self) -> Dataset[State]:
        assert self._training is not None, "divide() comes first"
        return self._training

    @property
    def validation_set(self) -> Dataset[State]:
        assert self._validation is not None, "divide() comes first"
        return self._validation

    @property
    def step_particles(self) -> float:
        """Mean number of particles in a training step."""
        usual = self.batch_size * float(np.mean(self._sizes))
        return usual if self.max_atoms is None else min(usual, self.max_atoms)

    def train_dataloader(self) -> DataLoader[State]:
        trainer = self.trainer
        batches = ShuffledBatches(
            self._sizes,
            self.batch_size,
            self.max_atoms,
            self.seed,
            start=lambda: trainer.global_step if trainer is not None else 0,
            rank=trainer.global_rank if trainer is not None else 0,
            world=trainer.world_size if trainer is not None else 1,
        )
        return self._loader(self.training_set, batches)

    def val_dataloader(self) -> DataLoader[State]:
        trainer = self.trainer
        batches = OrderedBatches(
            len(self.validation_set),  # type: ignore[arg-type]
            max(self.batch_size, 16),
            rank=trainer.global_rank if trainer is not None else 0,
            world=trainer.world_size if trainer is not None else 1,
        )
        return self._loader(self.validation_set, batches)

    def _loader(self, dataset: Dataset[State], batches: Any) -> DataLoader[State]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=State.collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            multiprocessing_context="spawn" if self.workers else None,
        )


class FrameData(Data):
    """Single frames with energies, forces and, where wanted, stress and properties.

    Args:
        train: H5MD files to learn from.
        valid: H5MD files to validate on, or how much of `train` to hold back.
        split: What training and held-back frames must not share.
        frames: Which of the training files' frames to use, such as 0:50 (see `Data`).
        stress: Whether stress is learned too.
        properties: What else is learned, such as dipole. Frames may lack some; energies and forces
            are then read only if every frame has them.
        bootstrap: Draw the training frames with replacement, differently for every seed: for the
            members of an ensemble, which then all hold back the same frames.
        batch_size: Systems in a training step.
        max_atoms: Particles in a training step, at most.
        workers: Processes that read ahead.
    """

    def __init__(
        self,
        train: str | list[str],
        valid: float | str | list[str] = 0.1,
        split: Split = "frame",
        stress: bool = False,
        properties: list[str] | None = None,
        bootstrap: bool = False,
        batch_size: int = 5,
        max_atoms: int | None = None,
        workers: int = 0,
        frames: str | None = None,
    ):
        super().__init__(train, valid, split, frames, batch_size, max_atoms, workers)
        require_known(properties or ())
        self.stress = stress
        self.properties = tuple(properties or ())
        self.bootstrap = bootstrap
        self.cutoff = 0.0

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Which of energy, forces and stress every training frame has to have."""
        usual: tuple[str, ...] = ("energy", "forces")
        if self.properties:
            usual = tuple(
                label
                for label in usual
                if all(label in one.fields for one in self.collection.trajectories)
            )
        return (*usual, "stress") if self.stress else usual

    def entries(self, collection: Collection) -> list[Entry]:
        for file in collection.files:
            for trajectory in file.trajectories:
                missing = set(self.labels) - trajectory.fields
                if missing:
                    raise ValueError(
                        f"{file.path}: {trajectory.name!r} has no {', '.join(sorted(missing))} to "
                        f"learn from; it holds {', '.join(sorted(trajectory.fields))}. Import the "
                        "file with those labels, or learn its motion with WindowData"
                    )
        held = {name for one in collection.trajectories for name in one.fields}
        for name in self.properties:
            if property_field(name) not in held:
                raise ValueError(
                    f"no frame of {', '.join(map(str, collection.paths))} has the property {name}; "
                    "import the data with it, or leave it out of `properties`"
                )
        return collection.frames

    def dataset(self, collection: Collection, entries: list[Entry]) -> Dataset[State]:
        return FrameDataset(collection, entries, self.cutoff, self.labels, self.properties)


class WindowData(Data):
    """Windows of motion, for learning from trajectories that may hold no forces.

    Args:
        train: H5MD files to learn from.
        valid: H5MD files to validate on, or how much of `train` to hold back.
        split: What training and held-back windows must not share.
        frames: Which of the training files' frames windows may hold, such as 0:5000 (see `Data`).
        length: Frames in a window; the first is given, the others are to be predicted.
        stride: Stored frames from one frame of the window to the next.
        batch_size: Windows in a training step.
        max_atoms: Particles in a training step, at most.
        workers: Processes that read ahead.
    """

    def __init__(
        self,
        train: str | list[str],
        valid: float | str | list[str] = 0.1,
        split: Split = "trajectory",
        length: int = 2,
        stride: int = 1,
        batch_size: int = 64,
        max_atoms: int | None = None,
        workers: int = 0,
        frames: str | None = None,
    ):
        super().__init__(train, valid, split, frames, batch_size, max_atoms, workers)
        if length < 2 or stride < 1:
            raise ValueError(f"need length >= 2 and stride >= 1, got {length} and {stride}")
        self.length = length
        self.stride = stride

    @property
    def offsets(self) -> range:
        return range(0, self.length * self.stride, self.stride)

    def compared(self, held: list[Entry]) -> list[Entry]:
        """Windows that follow one another: those that overlap say little new."""
        chosen: list[Entry] = []
        for entry in held:
            last = chosen[-1] if chosen else None
            same = last is not None and (last.file, last.trajectory) == (
                entry.file,
                entry.trajectory,
            )
            if last is None or not same or entry.frame - last.frame >= self.offsets[-1]:
                chosen.append(entry)
        return chosen

    def entries(self, collection: Collection) -> list[Entry]:
        return collection.windows(self.length, self.stride)

    def dataset(self, collection: Collection, entries: list[Entry]) -> Dataset[State]:
        return WindowDataset(collection, entries, self.length, self.stride)


def _listed(paths: str | list[str]) -> list[str]:
    names = [paths] if isinstance(paths, str) else list(paths)
    for name in names:
        if not Path(name).is_file():
            raise FileNotFoundError(
                f"no data file {name}; make one with `sciwm import SOURCE --to {name}`"
            )
    return names

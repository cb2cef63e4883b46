"""Replay: what a model knew before it was adapted to new data is practised beside it.

Fine-tuning alone forgets: whatever the new frames do not show drifts. So the parent labels frames of its own
imagination, and training goes on to reproduce them through the parent's own readout, while the new data has
another; the encoder serves both. Labels of the parent itself suffice for that.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from sciwm.core.frame import Frame
from sciwm.core.molecules import frame_from_smiles
from sciwm.core.progress import Bar
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.data.collection import Collection
from sciwm.data.datasets import FrameDataset
from sciwm.data.sampling import ShuffledBatches
from sciwm.models.archive import Archive
from sciwm.models.construction import build, describe
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.programs.compilation import accelerated
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import Langevin
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.thermostats import FRICTION
from sciwm.simulation.velocities import maxwell_boltzmann

SYSTEMS = 128
"""Molecules that the parent imagines, at most."""

COLDEST, HOTTEST = 300.0, 1000.0
"""K. Every molecule has a temperature of its own between them."""

SHAKE = 0.05
"""Å, standard deviation of displacements that the motion begins with: it is too short to spread by itself."""

TIME_STEP, STEPS, EVERY = 1.0, 20, 10
"""fs; of the imagined motion, and between frames that are kept."""


class Replay(nn.Module):
    """The parent of a model in training, with frames for it to remember.

    Args:
        parent: As it was trained.
        model: In training; the encoder is shared, so that what it learns must serve both.
        frames: H5MD file of labelled frames.
        batch_size: Frames in a step.
        seed: Of their order.
    """

    def __init__(
        self, parent: ForceField, model: ForceField, frames: Path, batch_size: int, seed: int
    ):
        super().__init__()
        twin = build(describe(parent))
        assert isinstance(twin, ForceField)
        twin.load_state_dict(parent.state_dict())
        twin.encoder = model.encoder
        self.model = twin
        self._data = Collection([str(frames)])
        if self._data.units is not parent.units:
            raise ValueError(
                f"{frames} is in {self._data.units.name} units, the model to start from in "
                f"{parent.unit_system}"
            )
        self._set = FrameDataset(self._data, self._data.frames, parent.cutoff, ("energy", "forces"))
        self._batch_size = batch_size
        self._seed = seed
        self._batches: Iterator[State] | None = None

    def batch(self, step: int) -> State:
        """The frames of a step, the same whenever it is asked for first."""
        if self._batches is None:
            sizes = [self._data.trajectory(entry).n_particles for entry in self._data.frames]
            order = ShuffledBatches(sizes, self._batch_size, None, self._seed, start=lambda: step)
            self._batches = iter(
                DataLoader(self._set, batch_sampler=order, collate_fn=State.collate)
            )
        return next(self._batches)


def _embedded(molecules: Sequence[str]) -> list[Frame]:
    """Conformers of those molecules that have any; the others would show nothing more."""
    found = []
    for smiles in Bar(molecules, desc="molecules to remember", unit="molecule", delay=2.0):
        with suppress(ValueError):
            found.append(frame_from_smiles(smiles))
    return found


def imagine_frames(parent: Archive, own: Sequence[Frame], output: Path, seed: int) -> None:
    """Writes frames of the parent's own dynamics, with its labels.

    They are of the molecules that the parent names as its training data's, else of the new data.

    Raises:
        ValueError: If it is no model of molecules.
    """
    model = parent.potential
    if model.units is not MOLECULAR:
        raise ValueError(
            "only models of molecules imagine frames to replay; name a file of frames to replay"
        )
    starts = _embedded(parent.data.get("molecules", [])[:SYSTEMS])
    starts = starts or [own[k] for k in range(0, len(own), -(-len(own) // SYSTEMS))]
    bare = [
        one.with_(energy=None, forces=None, stress=None, velocities=None, properties={})
        for one in starts
    ]
    rng = np.random.default_rng(seed)
    shaken = [
        one.with_(positions=one.positions + SHAKE * rng.standard_normal(one.positions.shape))
        for one in bare
    ]
    state = State.collate([State.from_frame(frame) for frame in shaken])
    temperatures = torch.linspace(COLDEST, HOTTEST, state.n_systems)
    state = maxwell_boltzmann(state, temperatures, MOLECULAR, seed)
    simulator = LearnedSimulator(accelerated(model))
    langevin = Langevin(simulator, TIME_STEP, temperatures, FRICTION["molecular"], seed)
    Rollout(langevin, output, EVERY).run(state, STEPS, resume=True)

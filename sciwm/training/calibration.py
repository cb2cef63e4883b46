"""After training: how wrong forces may be, measured on the frames that were held back."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sciwm.core.neighbours import NeighbourTable
from sciwm.core.progress import Bar
from sciwm.core.state import State
from sciwm.data.modules import Data
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.geometry import Geometry

FRAMES = 2000
"""Of training, and of those held back, that are looked at, at most."""

TOGETHER = 16
"""Frames evaluated at once."""


def calibrate_errors(model: ForceField, data: Data) -> None:
    """Has a trained model learn which errors of forces go with which surroundings of a particle.

    Nothing happens where no held-back frame has forces.
    """
    known = [features for features, _, _ in _looked_at(model, data.training_set)]
    held = [one for one in _looked_at(model, data.validation_set) if one[2].numel()]
    if not held:
        return
    features, numbers, errors = (torch.cat([one[k] for one in held]) for k in range(3))
    model.calibrate_errors(torch.cat(known), features, numbers, errors)


def _looked_at(
    model: ForceField, frames: Dataset[State]
) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
    """Of some frames at a time, features and kinds of their particles, and errors of forces on them.

    There are no errors where a frame has no forces.
    """
    count = len(frames)  # type: ignore[arg-type]
    chosen = np.unique(np.linspace(0, count - 1, min(count, FRAMES)).astype(int))
    starts = Bar(range(0, len(chosen), TOGETHER), desc="errors to expect", unit="batch", delay=2.0)
    weight = model.scale
    for start in starts:
        states = [frames[int(k)] for k in chosen[start : start + TOGETHER]]
        state = State.collate(states).to(weight.device)
        table = NeighbourTable.from_pairs(state)
        vectors = table.vectors(state.positions, state.cell, state.batch)
        with torch.no_grad():
            features = model.surroundings(Geometry.of(state, table, vectors, model.beyond))
        errors = features.new_zeros(0)
        if "forces" in state:
            found = model(state, table)[1] - state.forces
            errors = found.norm(dim=-1)
        yield features, state.numbers, errors

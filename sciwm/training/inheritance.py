"""What a model takes over from the one that it starts from: weights, scales, and energies of atoms."""

from collections.abc import Sequence

import numpy as np
import torch

from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.models.archive import Archive
from sciwm.models.construction import build, describe
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.outcome_model import OutcomeModel
from sciwm.models.statistics import Statistics, fit_reference_energies
from sciwm.simulation.learned import predict


def force_field_of(parent: Archive) -> ForceField:
    """The force field of a model to start from.

    Raises:
        ValueError: If it has none.
    """
    model = parent.model.force_field if isinstance(parent.model, OutcomeModel) else parent.model
    if not isinstance(model, ForceField):
        raise ValueError(
            f"only a ForceField can be started from, the model is a {type(model).__name__}; leave "
            "`start` out"
        )
    return model


def descendant(parent: ForceField) -> ForceField:
    """A new force field built as another, but for the energies of free atoms, which are its data's."""
    description = describe(parent)
    description["init_args"]["reference_energies"] = None
    model = build(description)
    assert isinstance(model, ForceField)
    return model


def inherit(
    model: ForceField, parent: ForceField, frames: Sequence[Frame], statistics: Statistics
) -> None:
    """Takes over weights, scales and domain; the zero of energies becomes that of the new data.

    Where the model names energies of free atoms, the bonds of the new data are worth what is left of its
    energies. Else the parent's are moved by what explains best how the two methods differ, a sum over atoms
    (of the smallest size, where the data leaves it open), and bonds are worth what they were.

    Args:
        frames: Of the new data.
        statistics: Of the new data.

    Raises:
        ValueError: If the two are built differently.
    """
    model.start_from(parent)
    model.domain.widen(statistics)
    inherited = []
    for frame in frames:
        state = State.from_frame(frame)
        inherited.append(float(predict(model, state).energy))
    if model.reference_table() is None:
        numbers = [frame.numbers for frame in frames]
        moved = np.array([frame.energy for frame in frames], dtype=float) - np.array(inherited)
        model.constants.add_(torch.as_tensor(fit_reference_energies(numbers, moved)))
        return
    constant = [float(parent.constants[frame.numbers].sum()) for frame in frames]
    model.rebase(statistics, np.array(inherited) - np.array(constant))

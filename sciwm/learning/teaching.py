"""The world of a round: trained on all labels so far, from the world before it or a given one."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from sciwm.core.frame import Frame
from sciwm.core.replacement import successor
from sciwm.data.h5md import H5MDWriter
from sciwm.data.modules import FrameData
from sciwm.learning.ledger import Answer
from sciwm.learning.plan import LearningPlan
from sciwm.learning.questions import Kind
from sciwm.models import archive
from sciwm.models.construction import build, describe
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.encoders.encoder import Encoder
from sciwm.training.fit import fit
from sciwm.training.force_task import ForceTask
from sciwm.training.inheritance import force_field_of
from sciwm.training.replay import imagine_frames

HELD_BACK = 4
"""Of so many labels of usual structures one is held back, the same ones in every round: a world that starts
from the one before must not be judged by what that one was trained on. Unusual ones, whose errors are many
times larger, would drown those that the goal is about."""

USUAL: frozenset[Kind] = frozenset({"structure", "shaken", "fresh"})


def divided(labels: Sequence[Answer]) -> tuple[list[Answer], list[Answer]]:
    """What is trained on, and what is held back to choose the best weights by."""
    usual = [one for one in labels if one.question.kind in USUAL]
    held = usual[HELD_BACK // 2 :: HELD_BACK]
    names = {one.question.name for one in held}
    return [one for one in labels if one.question.name not in names], held


def write_labels(path: Path, frames: Sequence[Frame]) -> None:
    """An H5MD file of frames, whole or not at all."""
    with successor(path) as partial, H5MDWriter(partial, creator_note="learned by asking") as file:
        for frame in frames:
            file.append(frame)


def train_world(
    folder: Path,
    structure: Frame,
    labels: Sequence[Answer],
    atoms: dict[str, float] | None,
    before: Path | None,
    parent: Path | None,
    round: int,
    plan: LearningPlan,
) -> Path:
    """The model file of a round; training that was interrupted goes on.

    With a parent every round starts from it and practises what it knew, since only its own readout
    understands its labels; without one, from the world of the round before.

    Args:
        folder: Of the round.
        labels: To learn from.
        atoms: Energies of free atoms in eV by symbol; where absent they are fitted, or the parent's moved.
        before: Model file of the round before.
        parent: Model file to start from in every round, and not to be forgotten.
    """
    parts = [[one.frame(structure) for one in part] for part in divided(labels)]
    learned = parts[0]
    files = folder / "train.h5md", folder / "held_back.h5md"
    for path, part in zip(files, parts, strict=True):
        if not path.is_file():
            write_labels(path, part)
    replay = None
    if parent is not None:
        replay = folder.parent / "replay.h5md"
        if round == 1:
            imagine_frames(archive.load(parent), learned, replay, plan.seed)
    start = parent or before
    torch.manual_seed(plan.seed)
    task = ForceTask(
        _model(plan, atoms, start),
        start=None if start is None else str(start),
        replay=None if replay is None else str(replay),
        compiled=plan.compiled,
    )
    data = FrameData(str(files[0]), str(files[1]), batch_size=min(5, len(learned)))
    steps = plan.steps(len(learned))
    run = fit(data, task, "world", plan.seed, steps, max(steps // 8, 50), folder=str(folder))
    return run / "model.pt"


def forget_round(folder: Path) -> None:
    """Removes what a round needed, once the next has a world of its own."""
    shutil.rmtree(folder, ignore_errors=True)


def new_force_field(plan: LearningPlan, atoms: dict[str, float] | None) -> ForceField:
    """An untrained world.

    Raises:
        ValueError: If its encoder takes no such arguments.
    """
    encoder = build({"class_path": f"{Encoder.__module__}.Encoder", "init_args": plan.encoder})
    assert isinstance(encoder, Encoder)
    return ForceField(encoder, reference_energies=atoms)


def _model(plan: LearningPlan, atoms: dict[str, float] | None, start: Path | None) -> ForceField:
    """A new force field, built like the one to start from, with the reference's free atoms."""
    if start is None:
        return new_force_field(plan, atoms)
    description = describe(force_field_of(archive.load(start)))
    description["init_args"]["reference_energies"] = atoms
    model = build(description)
    assert isinstance(model, ForceField)
    return model

"""A model adapted to new data takes over what it can, forgets nothing, and is never worse than its parent."""

import json

import numpy as np
import pytest
import torch
from conftest import springs, water

from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.data.modules import FrameData
from sciwm.models import archive
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.encoders.encoder import Encoder
from sciwm.simulation.learned import predict
from sciwm.training.fit import fit
from sciwm.training.force_task import ForceTask
from sciwm.training.inheritance import force_field_of
from sciwm.training.replay import Replay, imagine_frames

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A model that learned springs of water, shaken widely."""
    folder = tmp_path_factory.mktemp("parent")
    with H5MDWriter(folder / "wide.h5md") as writer:
        for seed in range(60):
            writer.append(springs(water(seed, 0.15)))
    torch.manual_seed(0)
    model = ForceField(
        Encoder(cutoff=3.0, channels=8, lmax=1, layers=1), False, {"H": 0.0, "O": 0.0}
    )
    task = ForceTask(model, learning_rate=0.02, warmup=10)
    data = FrameData(str(folder / "wide.h5md"), 10)
    fit(data, task, "parent", max_steps=250, trainer=QUIET, folder=str(folder))
    return folder / "parent"


def written(path, frames):
    with H5MDWriter(path) as writer:
        for k, frame in enumerate(frames):
            writer.append(frame, group=f"part{len(frame)}-{k // 100}")
    return str(path)


def test_energies_of_atoms_are_moved_to_the_other_method(parent, tmp_path):
    base = archive.load(parent / "model.pt").model
    frames = []
    for seed in range(12):
        whole = water(seed, 0.05)
        frame = whole if seed % 2 else Frame(whole.numbers[:2], whole.positions[:2])
        state = State.from_frame(frame)
        found = predict(base, state)
        away = {1: -13.6, 8: -2040.0}
        energy = float(found.energy) + sum(away[z] for z in frame.numbers.tolist())
        frames.append(frame.with_(energy=energy, forces=found.forces.double().numpy()))
    task = ForceTask(start=str(parent))
    data = FrameData(written(tmp_path / "other.h5md", frames), 2)
    data.cutoff = task.model.cutoff
    data.divide(0)
    task.adapt(data)
    for frame in frames:
        assert float(predict(task.model, State.from_frame(frame)).energy) == pytest.approx(
            frame.energy, abs=1e-3
        )
    moved = task.model.constants - base.constants
    assert moved[[1, 8]].tolist() == pytest.approx([-13.6, -2040.0], abs=1e-3)


def adapted(parent, folder, name, **changes):
    """Fine-tuned on a narrow set of stiffer springs."""
    frames = [springs(water(100 + seed, 0.02), stiffness=9.0) for seed in range(24)]
    data = FrameData(written(folder / f"{name}.h5md", frames), 4, batch_size=4)
    task = ForceTask(start=str(parent), learning_rate=0.01, matrix_rate=0.02, warmup=2, **changes)
    run = fit(data, task, name, max_steps=120, validate_every=60, trainer=QUIET, folder=str(folder))
    return task, json.loads((run / "metrics.json").read_text())


def error_on(model, frames):
    off = [
        predict(model, State.from_frame(frame)).forces.double().numpy() - frame.forces
        for frame in frames
    ]
    return float(np.sqrt(np.mean(np.square(off))))


def test_replay_keeps_what_fine_tuning_alone_forgets(parent, tmp_path):
    base = force_field_of(archive.load(parent / "model.pt"))
    known = [springs(water(500 + seed, 0.15)) for seed in range(20)]
    wide = str(parent.parent / "wide.h5md")
    naive, alone = adapted(parent, tmp_path, "naive")
    kept, beside = adapted(parent, tmp_path, "kept", replay=wide)
    forgotten = Replay(base, naive.model, parent.parent / "wide.h5md", 4, 0).model
    before, after = error_on(base, known), error_on(kept.replayed.model, known)
    assert after < 1.3 * before
    assert error_on(forgotten, known) > 2 * after
    # And the new data is learned all the same.
    null = beside["null"]["force"]
    assert beside["best"]["valid/force"] < 0.2 * null
    assert alone["best"]["valid/force"] < 0.2 * null


def test_frames_to_replay_are_the_parents_own(parent, tmp_path):
    source = archive.load(parent / "model.pt")
    own = [springs(water(seed, 0.02)) for seed in range(3)]
    path = tmp_path / "replay.h5md"
    imagine_frames(source, own, path, seed=1)
    model = archive.load(parent / "model.pt").model
    with H5MDFile(path) as file:
        frames = [one.frame(k) for one in file.trajectories for k in range(len(one))]
    assert len(frames) > 3
    for frame in frames[:6]:
        expected = predict(model, State.from_frame(frame.with_(energy=None, forces=None)))
        assert frame.energy == pytest.approx(float(expected.energy), abs=1e-4)
        assert frame.forces == pytest.approx(expected.forces.numpy(), abs=1e-3)
    before = path.read_bytes()
    imagine_frames(source, own, path, seed=1)  # a run that is continued finds them
    assert path.read_bytes() == before


def test_a_step_has_its_frames_to_replay_also_after_an_interruption(parent):
    base = force_field_of(archive.load(parent / "model.pt"))
    wide = parent.parent / "wide.h5md"
    through = Replay(base, base, wide, 4, seed=3)
    shown = [through.batch(step).positions for step in range(3)]
    resumed = Replay(base, base, wide, 4, seed=3)
    assert torch.equal(resumed.batch(2).positions, shown[2])
    assert not torch.equal(shown[1], shown[2])


def test_nothing_worse_than_the_parent_is_kept(parent, tmp_path):
    frames = [springs(water(100 + seed, 0.1)) for seed in range(16)]
    data = FrameData(written(tmp_path / "same.h5md", frames), 8)
    task = ForceTask(start=str(parent), learning_rate=1.0, matrix_rate=1.0, warmup=0)
    with pytest.warns(UserWarning, match="nothing was learned that is better"):
        run = fit(data, task, "wild", max_steps=4, trainer=QUIET, folder=str(tmp_path))
    base = archive.load(parent / "model.pt").model
    kept = archive.load(run / "model.pt").model
    assert error_on(kept, frames) == pytest.approx(error_on(base, frames), rel=1e-4)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["best"]["valid/force"] < metrics["last"]["valid/force"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replay": "auto"}, "needs a model to start from"),
        ({}, "give a model, or one to start from"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ForceTask(**options)

"""A model tells how wrong its forces may be: where errors are larger, and within which bounds they lie."""

import numpy as np
import pytest
import torch
from conftest import OLD_MODEL, loaded_without_digest, springs, water
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr

from sciwm.cli import main
from sciwm.cli.simulate import SOME_STOPPED
from sciwm.core.properties import property_field
from sciwm.core.state import State
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.data.modules import FrameData
from sciwm.models import archive
from sciwm.models.archive import Archive
from sciwm.models.construction import in_double_precision
from sciwm.models.dynamics.force_error import FARTHER, ForceError
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.encoders.encoder import Encoder
from sciwm.simulation.learned import LearnedSimulator, predict
from sciwm.training.fit import fit
from sciwm.training.force_task import ForceTask

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


def particles(n, seed):
    """Features of two kinds of particles, and errors that grow with the root of how far out they are."""
    rng = np.random.default_rng(seed)
    stretch = np.diag([3.0, 1.0, 0.2, 0.1])
    reach = np.exp(0.4 * rng.normal(size=(n, 1)))
    features = torch.as_tensor(reach * rng.normal(size=(n, 4)) @ stretch + 5.0)
    numbers = torch.as_tensor(rng.choice([1, 8], size=n))
    distance = ((features.numpy() - 5.0) / np.diag(stretch) / reach.std()).__pow__(2).mean(1) ** 0.5
    kind = np.where(numbers.numpy() == 8, 0.3, 0.1)
    errors = torch.as_tensor(kind * distance**0.5 * np.exp(0.3 * rng.normal(size=n)))
    return features, numbers, errors


def calibrated(features, numbers, errors):
    found = ForceError(4).double()
    found.cover(particles(4000, 1)[0])
    found.calibrate(features, numbers, errors)
    return found


def test_errors_are_ranked_and_bounded_as_they_are():
    found = calibrated(*particles(3000, 2))
    features, numbers, errors = particles(3000, 3)
    expected = found(features, numbers)
    assert float(found.power) == pytest.approx(0.5, abs=0.1)
    assert spearmanr(expected, errors).statistic > 0.8
    for kind in (1, 8):
        own = numbers == kind
        ratio = errors[own] / expected[own]
        assert float(ratio.square().mean()) == pytest.approx(1.0, abs=0.15)
        assert float((ratio < found.bound).double().mean()) == pytest.approx(0.9, abs=0.03)


def test_the_check_catches_features_that_say_nothing():
    features, numbers, errors = particles(3000, 2)
    order = torch.as_tensor(np.random.default_rng(0).permutation(3000))
    shuffled = calibrated(features[order], numbers, errors)
    assert float(shuffled.power) < 0.1


def test_few_held_back_particles_leave_it_at_what_is_usual():
    found = calibrated(*(one[:4] for one in particles(3000, 2)))
    assert 0.5 < float(found.power) < 1.1
    assert bool(found(*particles(10, 3)[:2]).isfinite().all())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The run of a model that learned water, shaken a little, most of it."""
    folder = tmp_path_factory.mktemp("error")
    with H5MDWriter(folder / "narrow.h5md") as writer:
        for seed in range(60):
            writer.append(springs(water(seed, 0.03 if seed % 3 else 0.12)))
    torch.manual_seed(0)
    model = ForceField(
        Encoder(cutoff=3.0, channels=8, lmax=1, layers=2), False, {"H": 0.0, "O": 0.0}
    )
    task = ForceTask(model, learning_rate=0.02, warmup=10)
    data = FrameData(str(folder / "narrow.h5md"), 20)
    return fit(data, task, "world", max_steps=200, trainer=QUIET, folder=str(folder))


def test_training_ends_with_errors_to_expect(world):
    model = archive.load(world / "model.pt").model
    simulator = LearnedSimulator(model)
    expected, true = [], []
    for seed in range(60):
        spread = 0.02 + 0.0015 * seed
        frame = springs(water(500 + seed, spread))
        found = simulator.evaluate(State.from_frame(frame))
        expected.append(float(found.force_error.square().mean().sqrt()))
        true.append(np.sqrt(np.mean((found.forces.numpy() - frame.forces) ** 2 * 3)))
    assert spearmanr(expected, true).statistic > 0.6
    assert 0.1 < np.median(np.array(true) / np.array(expected)) < 1.5


def test_a_structure_far_from_all_training_is_outside(world):
    simulator = LearnedSimulator(archive.load(world / "model.pt").model)
    frames = [water(0, 0.0), water(0, 0.0).with_(positions=1.3 * water(0, 0.0).positions)]
    state = State.collate([State.from_frame(frame) for frame in frames])
    found = simulator.evaluate(state)
    near, far = found.force_error.view(2, 3).amax(1).tolist()
    assert far > 2 * near
    largest = simulator.model.force_error.largest
    largest.fill_(1.1 * far / FARTHER)
    assert simulator.outside(state, found) == {}
    largest.fill_(0.9 * far / FARTHER)
    reasons = simulator.outside(state, found)
    assert list(reasons) == [1]
    assert f"may be wrong by {far:.3g} eV/Å" in reasons[1]


def test_it_depends_on_neither_frame_nor_company(world, double):
    model = in_double_precision(archive.load(world / "model.pt").model)
    frames = [water(seed, 0.1) for seed in range(3)]
    together = predict(model, State.collate([State.from_frame(one) for one in frames])).force_error
    turn = Rotation.random(random_state=0).as_matrix() * -1.0
    for k, frame in enumerate(frames):
        other = frame.with_(positions=frame.positions @ turn + 7.0)
        alone = predict(model, State.from_frame(other)).force_error
        assert torch.allclose(alone, together[3 * k : 3 * k + 3], rtol=1e-9, atol=0)


def test_it_is_kept_in_the_file_and_absent_where_it_was_never_measured(world, tmp_path):
    model = archive.load(world / "model.pt").model
    archive.save(Archive(model), tmp_path / "again.pt")
    again = archive.load(tmp_path / "again.pt").model
    state = State.from_frame(water(0))
    assert torch.equal(predict(model, state).force_error, predict(again, state).force_error)
    old = loaded_without_digest(OLD_MODEL).model
    assert predict(old, state).force_error is None
    assert not any("force_error" in name for name in old.state_dict())


def test_simulate_writes_and_tells_it(world, tmp_path, capsys):
    start = tmp_path / "start.h5md"
    with H5MDWriter(start) as writer:
        writer.append(water(0, 0.0))
    out = tmp_path / "out.h5md"
    command = ["simulate", str(world), str(start), "2fs", "--out", str(out), "--every", "1"]
    assert main([*command, "--temperature", "50K"]) == 0
    assert "expected error of forces" in capsys.readouterr().out
    model = archive.load(world / "model.pt").model
    with H5MDFile(out) as file:
        frames = [file.trajectories[0].frame(k) for k in range(5)]
    for frame in frames:
        expected = predict(model, State.from_frame(frame)).force_error
        assert frame.properties["force_error"] == pytest.approx(expected.numpy(), rel=1e-3)


def test_the_others_keep_it_where_one_stops_at_the_start(world, tmp_path):
    near, far = water(0, 0.05), water(1, 0.0)
    far = far.with_(positions=far.positions * np.array([0.3, 1.0, 1.0]))
    with H5MDWriter(tmp_path / "start.h5md") as writer:
        writer.append(far, group="far")
        writer.append(near, group="near")
    out = tmp_path / "out.h5md"
    command = ["simulate", str(world), str(tmp_path / "start.h5md"), "2fs", "--every", "1"]
    assert main([*command, "--out", str(out)]) == SOME_STOPPED
    with H5MDFile(out) as file:
        errors = file.trajectories[-1].read(property_field("force_error"))
    assert errors.shape == (5, 3)
    assert np.isfinite(errors).all()

"""Splits keep apart what they promise, batches come in a reproducible order, windows follow the motion."""

from itertools import islice

import numpy as np
import pytest
import torch
from conftest import water

from sciwm.core.frame import Frame
from sciwm.data.collection import Collection, geometry_hash
from sciwm.data.datasets import FrameDataset, WindowDataset
from sciwm.data.h5md import H5MDWriter
from sciwm.data.modules import FrameData, WindowData
from sciwm.data.sampling import OrderedBatches, ShuffledBatches
from sciwm.data.splits import LeakageError, split_entries


def test_a_frame_split_is_disjoint_complete_and_reproducible(labelled):
    data = Collection([labelled])
    train, valid = split_entries(data, data.frames, 10, "frame", seed=1)
    assert len(valid) == 10
    assert sorted(train + valid) == data.frames
    assert split_entries(data, data.frames, 10, "frame", seed=1) == (train, valid)
    assert split_entries(data, data.frames, 10, "frame", seed=2) != (train, valid)


def test_a_random_split_of_a_time_series_is_refused(moving):
    data = Collection([moving])
    with pytest.raises(LeakageError, match="time series"):
        split_entries(data, data.frames, 0.2, "frame", seed=0)


def test_a_time_split_holds_back_the_end_with_a_gap(moving):
    data = Collection([moving])
    train, valid = split_entries(data, data.windows(4, 1), 0.25, "time", seed=0, gap=3)
    for trajectory in {entry.trajectory for entry in valid}:
        last = max(e.frame for e in train if e.trajectory == trajectory)
        first = min(e.frame for e in valid if e.trajectory == trajectory)
        assert last + 3 < first


def test_a_trajectory_split_shares_no_trajectory(moving):
    data = Collection([moving])
    train, valid = split_entries(data, data.frames, 0.3, "trajectory", seed=0)
    assert not {e.trajectory for e in train} & {e.trajectory for e in valid}
    assert len(train) + len(valid) == len(data.frames)


def test_a_molecule_split_shares_no_scaffold(tmp_path):
    path = tmp_path / "molecules.h5md"
    with H5MDWriter(path) as writer:
        for k, smiles in enumerate(["c1ccccc1C", "c1ccccc1CC", "C1CCCCC1C", "CCO"]):
            writer.append(water(k).with_(smiles=smiles), group=f"m{k}")
    data = Collection([path])
    for seed in range(4):
        train, valid = split_entries(data, data.frames, 1, "molecule", seed)
        assert ({e.trajectory for e in train} & {0, 1}) in ({0, 1}, set())
        assert valid


@pytest.mark.parametrize("amount", [0, 40, 1000])
def test_holding_back_nothing_or_all_is_refused(labelled, amount):
    data = Collection([labelled])
    with pytest.raises(ValueError, match="hold back"):
        split_entries(data, data.frames, amount, "frame", seed=0)


def test_validation_frames_copied_from_training_are_refused(labelled, tmp_path):
    data = Collection([labelled])
    copy = tmp_path / "copy.h5md"
    with H5MDWriter(copy) as writer:
        writer.append(data.frame(data.frames[3]))
        writer.append(data.frame(data.frames[4]))
    module = FrameData(str(labelled), str(copy))
    module.cutoff = 3.0
    with pytest.raises(LeakageError, match="copies"):
        module.divide(seed=0)


def test_the_hash_sees_a_moved_atom_and_ignores_rounding():
    frame = water()
    moved = frame.positions.copy()
    moved[0, 0] += 1e-4
    assert geometry_hash(frame) != geometry_hash(frame.with_(positions=moved))
    assert geometry_hash(frame) == geometry_hash(frame.with_(energy=3.0))


def test_missing_labels_are_refused_by_name(moving):
    module = FrameData(str(moving))
    with pytest.raises(ValueError, match="energy, forces"):
        module.divide(seed=0)


def test_independent_frames_are_no_motion(labelled):
    with pytest.raises(ValueError, match="not a time series"):
        WindowData(str(labelled)).divide(seed=0)


def test_units_are_not_mixed(labelled, moving):
    with pytest.raises(ValueError, match="unit systems"):
        _ = Collection([labelled, moving]).units


def test_batches_resume_where_they_were():
    whole = list(islice(ShuffledBatches([3] * 10, 4, None, seed=5), 12))
    rest = list(islice(ShuffledBatches([3] * 10, 4, None, seed=5, start=lambda: 7), 5))
    assert rest == whole[7:]


def test_every_pass_shows_every_item_once():
    batches = ShuffledBatches([3] * 10, 4, None, seed=5)
    seen = [index for batch in islice(batches, 5) for index in batch]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


def test_packed_batches_hold_no_more_particles_than_allowed():
    sizes = [3, 9, 5, 1, 12, 7]
    batches = ShuffledBatches(sizes, 6, max_atoms=14, seed=0)
    assert all(sum(sizes[i] for i in batch) <= 14 for batch in islice(batches, 50))


def test_processes_share_a_batch_without_overlap():
    whole = list(islice(ShuffledBatches([1] * 9, 4, None, seed=1), 6))
    shares = [
        list(islice(ShuffledBatches([1] * 9, 4, None, 1, rank=r, world=2), 6)) for r in (0, 1)
    ]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(b) for b in whole]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_drops_and_repeats_nothing(world):
    seen = [i for r in range(world) for batch in OrderedBatches(11, 4, r, world) for i in batch]
    assert sorted(seen) == list(range(11))


def test_a_system_too_large_for_a_batch_is_named():
    with pytest.raises(ValueError, match="20 particles"):
        ShuffledBatches([3, 20], 4, max_atoms=10, seed=0)


def test_frames_arrive_with_their_labels(labelled):
    data = Collection([labelled])
    dataset = FrameDataset(data, data.frames, 3.0, ("energy", "forces"))
    frame, state = data.frame(data.frames[7]), dataset[7]
    assert float(state.energy) == pytest.approx(frame.energy, abs=1e-12)
    np.testing.assert_allclose(state.forces, frame.forces, rtol=1e-6)
    assert state.pairs.shape == (2, 3)


def test_windows_cross_the_box_without_a_jump(tmp_path):
    path = tmp_path / "crossing.h5md"
    with H5MDWriter(path) as writer:
        for k in range(10):
            x = np.array([[4.5 + 0.2 * k, 1.0, 1.0], [1.0, 1.0, 1.0]])
            frame = Frame(
                numbers=np.array([18, 18]),
                positions=x % 5.0,
                cell=np.eye(3) * 5,
                pbc=np.ones(3, bool),
                time=2.0 * k,
                step=k,
            )
            writer.append(frame)
    data = Collection([path])
    state = WindowDataset(data, data.windows(6, 1), 6, 1)[0]
    steps = state.path[:, 1:] - state.path[:, :-1]
    torch.testing.assert_close(
        steps[0, :, 0], torch.full((5,), 0.2, dtype=torch.float64), rtol=0, atol=1e-6
    )
    assert float(state.interval) == pytest.approx(2.0)
    assert bool(state.path_velocities.isnan().all())


def test_short_and_long_trajectories_give_the_same_windows(moving, monkeypatch):
    data = Collection([moving])
    entries = data.windows(3, 2)
    kept = WindowDataset(data, entries, 3, 2)
    streamed = WindowDataset(data, entries, 3, 2)
    streamed._room = 0
    for index in (0, 11, len(entries) - 1):
        for key in ("positions", "path", "path_velocities", "charges", "interval"):
            assert torch.equal(kept[index][key], streamed[index][key])

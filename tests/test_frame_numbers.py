"""Training on a part of the data uses those frames and no others."""

import json

import numpy as np
import pytest
import yaml
from conftest import springs, water

from sciwm.cli import main
from sciwm.data.h5md import H5MDWriter
from sciwm.data.modules import FrameData, WindowData


@pytest.fixture
def two(tmp_path, labelled):
    """A file of 40 frames, and one of two trajectories with five and three."""
    path = tmp_path / "second.h5md"
    with H5MDWriter(path) as writer:
        for k in range(8):
            writer.append(springs(water(100 + k, 0.1)), group="long" if k < 5 else "short")
    return [str(labelled), str(path)]


def places(data):
    held = data.validation_set.entries
    return sorted((e.file, e.trajectory, e.frame) for e in [*data.training_entries, *held])


def numbered(counts):
    """(file, trajectory, frame) of every frame, by its number in the whole."""
    return [(f, t, k) for f, t, count in counts for k in range(count)]


@pytest.mark.parametrize("words", ["0:20", "::7", "3,38,41,44,46", "-10:", "39:47:2", "5,5,6:9"])
def test_frames_count_on_through_trajectories_and_files(words, two):
    data = FrameData(two, 2, frames=words)
    data.divide(0)
    every = numbered([(0, 0, 40), (1, 0, 5), (1, 1, 3)])
    chosen = set()
    for word in words.split(","):
        part = slice(*(int(x) if x else None for x in word.split(":")))
        chosen |= set(every[part] if ":" in word else [every[int(word)]])
    assert places(data) == sorted(chosen)


def test_without_them_all_frames_are_used(two):
    data = FrameData(two, 2)
    data.divide(0)
    assert len(places(data)) == 48


def test_validation_files_are_whole(two):
    data = FrameData(two[0], two[1], frames="::2")
    data.divide(0)
    assert len(data.training_entries) == 20
    assert len(data.validation_set) == 8


def test_windows_lie_within_the_frames(moving):
    data = WindowData(str(moving), 0.5, length=3, stride=2, frames="0:8,60:68")
    data.divide(0)
    # Frames 0 to 7 of the first run and of the third; a window takes five.
    within = {(0, t, k) for t in (0, 2) for k in range(4)}
    assert set(places(data)) < within
    # All of one run; of the other, which is held back, those that do not overlap.
    assert len(data.training_entries) == 4
    assert [entry.frame for entry in data.validation_set.entries] == [0]
    every = WindowData(str(moving), 0.5, length=3, stride=2, frames="::2")
    every.divide(0)
    assert {frame % 2 for _, _, frame in places(every)} == {0}
    with pytest.raises(ValueError, match="nothing to learn from lies within the frames ::3"):
        WindowData(str(moving), 0.5, length=2, frames="::3").divide(0)


@pytest.mark.parametrize("words", ["", "a:b", "48", "50:60"])
def test_frames_that_are_not_there_are_told(words, two):
    with pytest.raises(ValueError, match=r"names no frames|among 48 frames"):
        FrameData(two, 2, frames=words).divide(0)


@pytest.mark.parametrize("where", ["--data.frames=1:21", "--data.frames 1:21", "job"])
def test_a_job_learns_from_a_part(where, labelled, tmp_path):
    init = {"train": str(labelled), "valid": 5}
    if where == "job":
        init["frames"] = "PART"
    encoder = {"cutoff": 3.0, "channels": 4, "lmax": 1}
    content = {
        "data": {"class_path": "sciwm.data.FrameData", "init_args": init},
        "task": {
            "class_path": "sciwm.training.ForceTask",
            "init_args": {
                "model": {
                    "class_path": "sciwm.models.ForceField",
                    "init_args": {
                        "encoder": encoder,
                        "reference_energies": {"H": 0.0, "O": 0.0},
                    },
                }
            },
        },
        "max_steps": 1,
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False},
    }
    job = tmp_path / "job.yaml"
    words = [] if where == "job" else where.split()
    if where == "job":
        # Without quotes YAML reads 81, which is refused rather than taken for a frame.
        job.write_text(yaml.safe_dump(content).replace("PART", "1:21"))
        with pytest.raises(SystemExit, match="2"):
            main(["train", str(job), "--folder", str(tmp_path)])
    job.write_text(yaml.safe_dump(content).replace("PART", "'1:21'"))
    assert main(["train", str(job), "--folder", str(tmp_path), *words]) == 0
    told = json.loads((tmp_path / "job" / "provenance.json").read_text())
    assert told["training_items"] == 15
    # The file itself is the same, so that the model is still checked on it.
    assert told["data"]["frames"] == 40
    again = yaml.safe_load((tmp_path / "job" / "config.yaml").read_text())
    assert again["data"]["init_args"]["frames"] == "1:21"
    assert np.isfinite(json.loads((tmp_path / "job" / "metrics.json").read_text())["steps"])

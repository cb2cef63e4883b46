"""The table of a file counts what is there, and names what is missing, constant or repeated."""

import numpy as np
import pytest

from sciwm.core.frame import Frame
from sciwm.core.units import REDUCED
from sciwm.data.h5md.writer import H5MDWriter
from sciwm.data.table import FieldStatistics, describe

RNG = np.random.default_rng(0)


def frame(k, **changes):
    default = Frame(
        numbers=np.array([8, 1, 1]),
        positions=RNG.normal(size=(3, 3)),
        velocities=RNG.normal(size=(3, 3)),
        forces=RNG.normal(size=(3, 3)),
        energy=float(RNG.normal()),
        step=k,
        time=0.5 * k,
        trajectory="run",
    )
    return default.with_(**changes)


def table(path, frames, **options):
    with H5MDWriter(path, **options) as writer:
        for one in frames:
            writer.append(one, one.trajectory or "samples")
    return describe(path)


def warned(found, words):
    return any(words in sentence for sentence in found.warnings)


def test_statistics_are_those_of_numpy(tmp_path):
    frames = [frame(k) for k in range(600)]  # more than one block
    found = table(tmp_path / "a.h5md", frames)
    for name in ("positions", "velocities", "forces", "energy"):
        values = np.array([getattr(one, name) for one in frames])
        row = found.fields[name]
        assert (row.present, row.frames, row.missing) == (600, 600, 0)
        for statistic, expected in (
            (row.minimum, values.min()), (row.maximum, values.max()),
            (row.mean, values.mean()), (row.std, values.std()),
        ):  # fmt: skip
            assert statistic == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert found.warnings == []
    assert found.consecutive
    assert found.timestep == pytest.approx(0.5)
    assert found.species == ["H", "O"]


def test_moments_merge_without_loss_far_from_zero():
    values = 1e6 + RNG.normal(size=1000)
    row = FieldStatistics("energy", "eV", 1000)
    for part in np.split(values, [1, 10, 500]):
        row.add(part)
    assert row.std == pytest.approx(values.std(), rel=1e-9)


def test_the_text_is_aligned_and_states_units(tmp_path):
    text = str(table(tmp_path / "a.h5md", [frame(k) for k in range(4)]))
    lines = text.splitlines()
    assert "4 frames in 1 trajectories, consecutive, 0.5 fs apart" in lines[0]
    header = next(line for line in lines if line.startswith("field"))
    forces = next(line for line in lines if line.startswith("forces"))
    assert "eV/Å" in forces
    assert header.index("frames") + len("frames") == forces.index("4/4") + len("4/4")


def test_forces_that_were_not_computed_are_named(tmp_path):
    frames = [frame(k, forces=np.zeros((3, 3))) for k in range(5)]
    found = table(tmp_path / "a.h5md", frames)
    assert found.fields["forces"].constant
    assert warned(found, "forces are zero while energies vary")
    assert not warned(table(tmp_path / "b.h5md", [frame(k) for k in range(5)]), "forces are")


def test_repeated_frames_and_restarts_are_counted(tmp_path):
    frames = [frame(k) for k in range(5)]
    frames[3] = frame(3, positions=frames[2].positions)
    frames += [frame(k) for k in (4, 5, 6)]
    found = table(tmp_path / "a.h5md", frames)
    assert warned(found, "1 frames have the positions of the frame before")
    assert warned(found, "the step goes back 1 times")


def test_a_repetition_across_blocks_is_noticed(tmp_path):
    frames = [frame(k) for k in range(300)]
    frames[256] = frame(256, positions=frames[255].positions)
    assert warned(table(tmp_path / "a.h5md", frames), "1 frames have the positions")


def test_labels_missing_from_some_trajectories_are_counted(tmp_path):
    other = [frame(k, forces=None, trajectory="other") for k in range(3)]
    found = table(tmp_path / "a.h5md", [frame(k) for k in range(5)] + other)
    assert found.fields["forces"].present == 5
    assert warned(found, "forces are missing in 3 of 8 frames")
    assert found.trajectories == 2


def test_independent_samples_are_no_time_series(tmp_path):
    frames = [frame(k, step=None, time=None, trajectory="") for k in range(5)]
    found = table(tmp_path / "a.h5md", frames)
    assert not found.consecutive
    assert warned(found, "not for dynamics")


def test_particle_systems_have_types_and_no_units(tmp_path):
    frames = [frame(k, masses=np.ones(3)) for k in range(3)]
    found = table(tmp_path / "a.h5md", frames, units=REDUCED)
    assert found.species == ["1", "8"]
    assert found.fields["forces"].unit == ""
    assert found.fields["masses"].present == 3


def test_stress_is_told_in_the_unit_of_evaluations(tmp_path):
    path = tmp_path / "stressed.h5md"
    with H5MDWriter(path) as writer:
        for size in (0.01, 0.02):
            frame = Frame(
                numbers=np.array([14]),
                positions=np.zeros((1, 3)),
                cell=5.0 * np.eye(3),
                pbc=np.ones(3, dtype=bool),
                stress=size * np.eye(3),
            )
            writer.append(frame)
    [row] = [line.split() for line in str(describe(path)).splitlines() if line.startswith("stress")]
    # One eV/Å³ is 160.2 GPa (CODATA 2018).
    assert row[:2] == ["stress", "GPa"]
    assert float(row[4]) == pytest.approx(0.02 * 160.21766, rel=1e-5)

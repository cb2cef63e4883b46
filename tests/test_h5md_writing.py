"""Files that sciwm writes come back unchanged, here and in other programs."""

import warnings

import h5py
import numpy as np
import pyh5md
import pytest

from sciwm.core.frame import Frame
from sciwm.core.units import REDUCED
from sciwm.data.h5md import FormatError, H5MDFile, H5MDWriter, Replicas

N = 7
CELL = np.array([[9.0, 0, 0], [1, 10, 0], [2, 3, 11]])


def frame(k, n=N, **changes):
    """A frame with every field, different for each k."""
    rng = np.random.default_rng(k)
    full = Frame(
        numbers=np.arange(n) % 5 + 1,
        positions=rng.normal(size=(n, 3)) * 5,
        cell=CELL * (1 + 0.01 * k),
        pbc=np.ones(3, dtype=bool),
        velocities=rng.normal(size=(n, 3)) * 0.01,
        forces=rng.normal(size=(n, 3)),
        energy=-4321.0123456789 + k,
        stress=rng.normal(size=(3, 3)),
        masses=np.linspace(1, 30, n),
        charges=np.linspace(-1, 1, n),
        total_charge=-1.0,
        images=rng.integers(-3, 4, size=(n, 3)),
        time=0.5 * k,
        step=2 * k,
        label="solid, 300 Å",
        smiles="CCO",
    )
    return full.with_(**changes)


def molecule(k):
    return frame(k, cell=np.zeros((3, 3)), pbc=np.zeros(3, bool), images=None, stress=None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trajectory.h5md"


def write(path, frames, **options):
    with H5MDWriter(path, **options) as writer:
        for one in frames:
            writer.append(one)
    (trajectory,) = H5MDFile(path).trajectories
    return trajectory


def differences(a, b):
    """Names of the attributes in which two frames differ by more than the rounding of units."""
    odd = []
    for name in Frame.__dataclass_fields__:
        x, y = getattr(a, name), getattr(b, name)
        if name == "trajectory":
            continue
        if x is None or y is None or isinstance(x, str):
            same = x is y is None or x == y
        elif isinstance(x, dict):
            same = x.keys() == y.keys() and all(np.allclose(x[k], y[k]) for k in x)
        else:
            same = np.shape(x) == np.shape(y) and np.allclose(x, y, rtol=4e-16, atol=1e-300)
        if not same:
            odd.append(name)
    return odd


def test_every_field_of_every_frame_comes_back(path):
    trajectory = write(path, [frame(k) for k in range(5)])
    assert trajectory.n_frames == 5
    for k in range(5):
        assert differences(trajectory.frame(k), frame(k)) == []
    assert differences(trajectory.frame(1), frame(2)) != []
    assert trajectory.timestep == pytest.approx(0.5)
    assert trajectory.consecutive


def test_positions_come_back_bit_by_bit(path):
    trajectory = write(path, [frame(k) for k in range(3)])
    for k in range(3):
        np.testing.assert_array_equal(trajectory.frame(k).positions, frame(k).positions)


def test_single_precision_rounds_positions_but_not_energies(path):
    trajectory = write(path, [frame(0)], dtype="float32")
    np.testing.assert_array_equal(
        trajectory.frame(0).positions, frame(0).positions.astype(np.float32)
    )
    assert trajectory.frame(0).energy == pytest.approx(frame(0).energy, rel=1e-15)


def test_a_molecule_has_no_box(path):
    trajectory = write(path, [molecule(0)])
    assert differences(trajectory.frame(0), molecule(0)) == []
    with h5py.File(path) as file:
        assert "edges" not in file["particles/trajectory/box"]


def test_a_slab_repeats_along_two_axes_only(path):
    pbc = np.array([True, True, False])
    back = write(path, [frame(0, pbc=pbc)]).frame(0)
    assert back.pbc.tolist() == pbc.tolist()
    np.testing.assert_array_equal(back.cell, CELL * pbc[:, None])


def test_two_dimensions_come_back(path):
    flat = np.array([1.0, 1.0, 0.0])
    one = Frame(
        np.zeros(4, int),
        np.ones((4, 3)) * flat,
        velocities=np.ones((4, 3)) * flat,
        dimension=2,
        time=0.0,
        step=0,
    )
    back = write(path, [one, one.with_(time=1.0, step=1)], units=REDUCED).frame(1)
    assert differences(back, one.with_(time=1.0, step=1)) == []


def test_reduced_units_are_declared_and_no_unit_is_attached(path):
    one = frame(0)
    trajectory = write(path, [one], units=REDUCED)
    with H5MDFile(path) as file:
        assert file.units is REDUCED
    for name in ("velocities", "forces", "energy", "stress", "time"):
        np.testing.assert_array_equal(getattr(trajectory.frame(0), name), getattr(one, name))
    units = []
    with h5py.File(path) as file:
        file.visititems(lambda name, node: units.extend(k for k in node.attrs if k == "unit"))
    assert units == []


def test_frames_without_step_and_time_are_not_a_time_series(path):
    trajectory = write(path, [frame(k, time=None, step=None) for k in range(4)])
    assert trajectory.times is None
    assert not trajectory.consecutive
    assert trajectory.frame(2).time is None


def test_settings_come_back(path):
    write(path, [frame(0)], parameters={"seed": 3, "thermostat": {"name": "langevin"}})
    with H5MDFile(path) as file:
        assert file.parameters == {"seed": 3, "thermostat": {"name": "langevin"}}
        assert file.creator == "sciwm"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"velocities": None}, "lacks velocities"),
        ({"masses": np.ones(N)}, "other masses"),
        ({"numbers": np.ones(N, dtype=int)}, "other numbers"),
        ({"pbc": np.zeros(3, bool)}, "other pbc"),
        ({"smiles": "CCC"}, "other smiles"),
        ({"positions": np.full((N, 3), np.nan)}, "positions.*not finite"),
        ({"energy": np.inf}, "energy.*not finite"),
        ({"label": "x" * 65}, "longer than 64"),
    ],
)
def test_a_frame_unlike_the_first_is_refused(path, changes, message):
    with H5MDWriter(path) as writer:
        writer.append(frame(0))
        with pytest.raises(ValueError, match=message):
            writer.append(frame(1, **changes))
        writer.append(frame(1))
        assert writer.n_frames() == 2


def test_a_first_frame_that_is_refused_leaves_no_group(path):
    with H5MDWriter(path) as writer:
        for bad in (frame(0, positions=np.full((N, 3), np.nan)), frame(0, n=0)):
            with pytest.raises(ValueError, match=r"not finite|no particles"):
                writer.append(bad, "bad")
        writer.append(frame(0))
    (trajectory,) = H5MDFile(path).trajectories
    assert trajectory.name == "trajectory"


def test_a_field_that_comes_late_is_refused_rather_than_lost(path):
    with H5MDWriter(path) as writer:
        writer.append(frame(0, forces=None))
        with pytest.raises(ValueError, match="adds forces"):
            writer.append(frame(1))


def test_an_array_changed_after_append_does_not_change_the_file(path):
    one = frame(0)
    positions = one.positions.copy()
    with H5MDWriter(path) as writer:
        writer.append(one.with_(positions=positions))
        positions[:] = 0
    (trajectory,) = H5MDFile(path).trajectories
    np.testing.assert_array_equal(trajectory.frame(0).positions, one.positions)


def test_groups_hold_different_systems(path):
    with H5MDWriter(path) as writer:
        for k in range(3):
            writer.append(frame(k), "big")
            writer.append(frame(k, n=2), "small")
    with H5MDFile(path) as file:
        found = {t.name: t for t in file.trajectories}
        for k in range(3):
            assert differences(found["big"].frame(k), frame(k)) == []
            assert differences(found["small"].frame(k), frame(k, n=2)) == []


@pytest.mark.parametrize("every", [1, 3, 1000])
def test_frames_survive_any_rhythm_of_flushing_and_resuming(path, every):
    """3 atoms fill a chunk after 911 frames, so that most of these flushes are within one."""
    n_frames = 950
    writer = H5MDWriter(path)
    for k in range(n_frames):
        writer.append(frame(k % 7, n=3, time=float(k), step=k))
        if k % every == 0 and k % 100 < 5:
            writer.flush()
        if k in (300, 910):
            writer.close()
            writer = H5MDWriter(path, resume=True)
            assert writer.n_frames() == k + 1
    writer.close()
    (trajectory,) = H5MDFile(path).trajectories
    expected = np.stack([frame(k % 7, n=3).positions for k in range(n_frames)])
    np.testing.assert_array_equal(trajectory.read("positions"), expected)
    np.testing.assert_array_equal(trajectory.steps, np.arange(n_frames))


def test_flushing_every_frame_costs_little_space(path):
    write(path, [frame(k, n=3, time=float(k), step=k) for k in range(300)])
    other = path.with_name("flushed.h5md")
    with H5MDWriter(other) as writer:
        for k in range(300):
            writer.append(frame(k, n=3, time=float(k), step=k))
            writer.flush()
    # Three chunks of 64 KiB that are not full stay uncompressed.
    assert other.stat().st_size < path.stat().st_size + 4 * 65536 + 50000


def test_truncating_and_going_on_gives_the_same_file_as_never_failing(path):
    with H5MDWriter(path) as writer:
        for k in range(6):
            writer.append(frame(k))
        writer.truncate("trajectory", 3)
        assert writer.n_frames() == 3
        for k in range(3, 8):
            writer.append(frame(k))
        with pytest.raises(ValueError, match="cannot cut"):
            writer.truncate("trajectory", 9)
    (trajectory,) = H5MDFile(path).trajectories
    assert [differences(trajectory.frame(k), frame(k)) for k in range(8)] == [[]] * 8
    assert trajectory.n_frames == 8


def test_an_existing_file_is_not_overwritten(path):
    write(path, [frame(0)])
    with pytest.raises(FileExistsError, match="resume=True"):
        H5MDWriter(path)


def test_a_file_in_other_units_is_not_continued(path):
    write(path, [frame(0)], units=REDUCED)
    with pytest.raises(FormatError, match="reduced"):
        H5MDWriter(path, resume=True)


def test_resuming_a_file_that_is_not_there_starts_it(path):
    assert write(path, [frame(0)], resume=True).n_frames == 1


@pytest.mark.parametrize("name", ["", "a/b", "."])
def test_names_that_hdf5_would_take_for_paths_are_refused(path, name):
    with H5MDWriter(path) as writer, pytest.raises(ValueError, match="cannot name"):
        writer.append(frame(0), name)


def replicas(**changes):
    rng = np.random.default_rng(0)
    shape = (6, 40, 5, 3)
    fields = {
        "positions": rng.normal(size=shape),
        "velocities": rng.normal(size=shape),
        "energy": rng.normal(size=shape[:2]),
        "numbers": np.zeros(5, dtype=int),
        "charges": rng.choice([-1.0, 1.0], size=(40, 5)),
        "masses": np.ones(5),
        "times": np.arange(6) * 0.1,
    }
    return Replicas(**{**fields, **changes})


def test_each_replica_is_a_trajectory_of_its_own(path):
    given = replicas()
    with H5MDWriter(path, units=REDUCED) as writer:
        writer.write_replicas("charged", given)
    with H5MDFile(path) as file:
        assert [t.name for t in file.trajectories] == [f"charged/{s}" for s in range(40)]
        for s in (0, 17, 39):
            one = file.trajectories[s]
            assert (one.n_frames, one.n_particles) == (6, 5)
            window = one.window(1, 4)
            np.testing.assert_array_equal(window.positions, given.positions[1:5, s])
            np.testing.assert_array_equal(window.velocities, given.velocities[1:5, s])
            np.testing.assert_array_equal(window.energy, given.energy[1:5, s])
            np.testing.assert_array_equal(one.frame(2).charges, given.charges[s])
            np.testing.assert_array_equal(one.frame(2).masses, np.ones(5))
            assert one.timestep == pytest.approx(0.1)
            assert one.consecutive


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"charges": np.ones(4)}, "charges"),
        ({"velocities": np.ones((6, 40, 5, 2))}, "velocities"),
        ({"positions": np.full((6, 40, 5, 3), np.nan)}, "replica 0"),
        ({"pbc": np.ones(3, bool)}, "no cell"),
    ],
)
def test_replicas_of_the_wrong_shape_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replicas(**changes)


def test_replicas_that_are_not_contiguous_are_refused(path):
    with H5MDWriter(path, units=REDUCED) as writer:
        writer.write_replicas("charged", replicas())
    with h5py.File(path, "r+") as file:
        file["particles/charged/replica"][0] = 7
    with pytest.raises(FormatError, match="contiguous blocks"):
        _ = H5MDFile(path).trajectories


def opened_by_mdanalysis(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own deprecations and missing topology
        import MDAnalysis

        return MDAnalysis.Universe(str(path))


@pytest.mark.parametrize("make", [frame, molecule])
def test_mdanalysis_opens_our_files_with_its_defaults(path, make):
    from MDAnalysis.lib.mdamath import triclinic_box

    write(path, [make(k) for k in range(4)])
    universe = opened_by_mdanalysis(path)
    assert universe.trajectory.n_frames == 4
    for k, step in enumerate(universe.trajectory):
        one = make(k)
        np.testing.assert_allclose(step.positions, one.positions, rtol=1e-6)
        np.testing.assert_allclose(step.velocities, one.velocities * 1000, rtol=1e-6)  # Å/ps
        np.testing.assert_allclose(step.forces, one.forces * 96.48533212, rtol=1e-6)  # kJ/mol/Å
        assert step.time == pytest.approx(one.time / 1000)  # ps
        assert step.data["trajectory/potential_energy"] == pytest.approx(one.energy * 96.48533212)
        if one.pbc.any():
            np.testing.assert_allclose(step.dimensions, triclinic_box(*one.cell), rtol=1e-5)
        else:
            assert step.dimensions is None


def test_pyh5md_opens_our_files(path):
    write(path, [frame(k) for k in range(4)])
    with pyh5md.File(path, "r") as file:
        group = file.particles_group("trajectory")
        position = pyh5md.element(group, "position")
        np.testing.assert_array_equal(position.value[2], frame(2).positions)
        np.testing.assert_array_equal(position.step[:], [0, 2, 4, 6])
        np.testing.assert_allclose(position.time[:], np.arange(4) * 0.0005)
        species = pyh5md.element(group, "species")
        assert species.element_type == "FixedElement"
        assert species[:].tolist() == frame(0).numbers.tolist()
        assert pyh5md.element(group["box"], "edges").value.shape == (4, 3, 3)


def test_files_of_pyh5md_are_read(path):
    values = np.random.default_rng(0).normal(size=(3, 5, 3))
    with pyh5md.File(path, "w", author="A. U. Thor") as file:
        group = file.particles_group("all")
        group.create_box(
            dimension=3, boundary=["periodic"] * 3, store="fixed", data=np.array([4.0, 5.0, 6.0])
        )
        element = pyh5md.element(
            group, "position", store="linear", data=values[0], step=5, time=0.5, step_offset=10
        )
        for value in values:
            element.append(value)
    (trajectory,) = H5MDFile(path).trajectories
    np.testing.assert_array_equal(trajectory.read("positions"), values)
    np.testing.assert_array_equal(trajectory.steps, [10, 15, 20])
    np.testing.assert_array_equal(trajectory.frame(0).cell, np.diag([4.0, 5.0, 6.0]))


def test_files_of_mdanalysis_are_read(path):
    source = path.with_name("source.h5md")
    write(source, [frame(k) for k in range(4)])
    universe = opened_by_mdanalysis(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe.atoms.write(str(path), frames="all")
    (trajectory,) = H5MDFile(path).trajectories
    for k in range(4):
        one = trajectory.frame(k)
        np.testing.assert_allclose(one.positions, frame(k).positions, rtol=1e-6)
        np.testing.assert_allclose(one.velocities, frame(k).velocities, rtol=1e-6)
        np.testing.assert_allclose(one.forces, frame(k).forces, rtol=1e-5)
        assert one.time == pytest.approx(frame(k).time)


def test_windows_are_the_frames_they_span(path):
    trajectory = write(path, [frame(k) for k in range(30)])
    for start, length, stride in ((0, 30, 1), (3, 4, 2), (1, 3, 14), (29, 1, 1)):
        window = trajectory.window(start, length, stride)
        frames = [trajectory.frame(start + i * stride) for i in range(length)]
        for field in ("positions", "velocities", "forces", "energy"):
            wanted = np.stack([getattr(one, field) for one in frames])
            np.testing.assert_array_equal(getattr(window, field), wanted)
        np.testing.assert_array_equal(window.cell, np.stack([one.cell for one in frames]))
    for start, length, stride in ((0, 31, 1), (-1, 2, 1), (28, 2, 2), (0, 1, 0)):
        with pytest.raises(IndexError):
            trajectory.window(start, length, stride)


def test_frames_are_read_in_any_order(path):
    trajectory = write(path, [frame(k) for k in range(30)])
    everything = trajectory.read("positions")
    for rows in (np.array([5, 2, 2, 29]), np.array([1]), np.arange(0, 30, 7), np.array([], int)):
        np.testing.assert_array_equal(trajectory.read("positions", rows), everything[rows])
    np.testing.assert_array_equal(trajectory.read("positions", slice(4, 20, 3)), everything[4:20:3])
    assert trajectory.read("label", slice(0, 2)).tolist() == ["solid, 300 Å"] * 2
    assert trajectory.read("stress").shape == (30, 3, 3)
    with pytest.raises(ValueError, match="has no dipole"):
        trajectory.read("dipole")
    with pytest.raises(IndexError):
        trajectory.frame(30)
    assert trajectory.frame(-1).step == 58


def test_a_file_of_many_groups_with_few_frames_stays_small(tmp_path):
    """Each group of them had chunks for thousands of frames, two hundred kilobytes of nothing."""
    path, rng = tmp_path / "many.h5md", np.random.default_rng(0)
    numbers, frames = np.ones(20, dtype=np.int64), 4
    with H5MDWriter(path) as writer:
        for k in range(200):
            for _ in range(frames):
                positions, forces = rng.normal(size=(2, 20, 3))
                frame = Frame(numbers, positions, forces=forces, energy=0.0)
                writer.append(frame, group=f"group{k}")
            writer.flush()
    content = 200 * frames * 2 * 20 * 3 * 4
    assert path.stat().st_size < 200 * 40_000 + content
    with H5MDWriter(path, resume=True) as writer:
        writer.append(frame, group="group7")
        assert writer.n_frames("group7") == frames + 1

"""Every legal way to lay out an H5MD 1.1 file is read, each written here with plain h5py."""

import math
import pickle

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase import units as ase_units

from sciwm.core.units import KCAL_PER_MOL, KJ_PER_MOL
from sciwm.data.h5md import FormatError, H5MDFile

T, N = 6, 5
RNG = np.random.default_rng(7)
POSITIONS = RNG.normal(size=(T, N, 3)) * 3
VELOCITIES = RNG.normal(size=(T, N, 3))
STEPS = np.arange(T) * 10
TIMES = STEPS * 0.002  # ps


def begin(path, where="/", creator="somebody", box=True, boundary=("none",) * 3, dimension=3):
    """An open file with the mandatory groups."""
    file = h5py.File(path, "w")
    root = file.require_group(where)
    root.create_group("h5md").attrs["version"] = [1, 1]
    root.create_group("h5md/author").attrs["name"] = "A. U. Thor"
    root.create_group("h5md/creator").attrs["name"] = creator
    group = root.create_group("particles/all")
    if box:
        node = group.create_group("box")
        node.attrs["dimension"] = dimension
        node.attrs["boundary"] = boundary if isinstance(boundary, str) else list(boundary)
    return file, group


def sampled(parent, name, value, step=STEPS, time=TIMES, unit=None, time_unit="ps"):
    """A time-dependent element with explicit step and time."""
    element = parent.create_group(name)
    element["value"] = value
    element["step"] = step
    if time is not None:
        element["time"] = time
        if time_unit:
            element["time"].attrs["unit"] = time_unit
    if unit:
        element["value"].attrs["unit"] = unit
    return element


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trajectory.h5"


def only(path):
    (trajectory,) = H5MDFile(path).trajectories
    return trajectory


def test_explicit_steps_and_times(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS / 10, unit="nm")
    sampled(group, "velocity", VELOCITIES, unit="nm ps-1")
    group["species"] = np.arange(N) + 1
    group["mass"] = np.full(N, 12.0)
    file.close()
    trajectory = only(path)
    assert (trajectory.n_frames, trajectory.n_particles, trajectory.dimension) == (T, N, 3)
    assert trajectory.fields == {"positions", "velocities", "numbers", "masses"}
    frame = trajectory.frame(2)
    np.testing.assert_allclose(frame.positions, POSITIONS[2], rtol=1e-14)
    np.testing.assert_allclose(frame.velocities, VELOCITIES[2] * 10 / 1000, rtol=1e-14)
    assert frame.time == pytest.approx(40.0)
    assert frame.step == 20
    assert trajectory.timestep == pytest.approx(20.0)
    assert trajectory.consecutive
    assert not frame.pbc.any()
    assert not frame.cell.any()


@pytest.mark.parametrize("offset", [None, 500])
def test_scalar_step_and_time_with_and_without_offset(path, offset):
    file, group = begin(path)
    element = group.create_group("position")
    element["value"] = POSITIONS
    element["value"].attrs["unit"] = "Angstrom"
    element["step"] = 10
    element["time"] = 0.02
    element["time"].attrs["unit"] = "ps"
    if offset is not None:
        element["step"].attrs["offset"] = offset
        element["time"].attrs["offset"] = offset * 0.002
    file.close()
    trajectory = only(path)
    np.testing.assert_array_equal(trajectory.steps, STEPS + (offset or 0))
    np.testing.assert_allclose(trajectory.times, 1000 * (TIMES + 0.002 * (offset or 0)))


def test_missing_time(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS, time=None, unit="Angstrom")
    file.close()
    trajectory = only(path)
    assert trajectory.times is None
    assert trajectory.timestep is None
    assert trajectory.consecutive
    assert trajectory.frame(0).time is None


def test_positions_that_do_not_depend_on_time(path):
    file, group = begin(path)
    group["position"] = POSITIONS[0]
    group["position"].attrs["unit"] = "Angstrom"
    file.close()
    trajectory = only(path)
    assert trajectory.n_frames == 1
    assert trajectory.steps is None
    assert not trajectory.consecutive
    np.testing.assert_array_equal(trajectory.frame(0).positions, POSITIONS[0])
    np.testing.assert_array_equal(trajectory.window(0, 1).positions, POSITIONS[:1])


def test_two_dimensions(path):
    file, group = begin(path, boundary=("periodic", "periodic"), dimension=2)
    sampled(group, "position", POSITIONS[..., :2])
    sampled(group, "velocity", VELOCITIES[..., :2])
    group["box/edges"] = [7.0, 8.0]
    file.close()
    trajectory = only(path)
    frame = trajectory.frame(1)
    assert trajectory.dimension == frame.dimension == 2
    np.testing.assert_array_equal(frame.positions[:, :2], POSITIONS[1, :, :2])
    assert not frame.positions[:, 2].any()
    np.testing.assert_array_equal(frame.cell, np.diag([7.0, 8.0, 0.0]))
    assert frame.pbc.tolist() == [True, True, False]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("matrix", [True, False])
def test_boxes_of_either_shape_fixed_or_not(path, fixed, matrix):
    file, group = begin(path, boundary=("periodic",) * 3)
    sampled(group, "position", POSITIONS, unit="Angstrom")
    lengths = np.array([9.0, 10.0, 11.0])
    cell = np.array([[9.0, 0, 0], [1, 10, 0], [2, 3, 11]]) if matrix else np.diag(lengths)
    edges = cell if matrix else lengths
    if fixed:
        group["box/edges"] = edges / 10
        group["box/edges"].attrs["unit"] = "nm"
    else:
        growing = np.stack([edges * (1 + 0.1 * t) for t in range(T)])
        sampled(group["box"], "edges", growing / 10, unit="nm")
    file.close()
    trajectory = only(path)
    factor = 1 if fixed else 1.3
    np.testing.assert_allclose(trajectory.frame(3).cell, cell * factor)
    assert trajectory.window(0, 4).cell.shape == ((3, 3) if fixed else (4, 3, 3))


def test_a_box_written_every_step_that_never_changes_counts_as_fixed(path):
    file, group = begin(path, boundary=("periodic",) * 3)
    sampled(group, "position", POSITIONS)
    sampled(group["box"], "edges", np.full((T, 3), 9.0))
    file.close()
    assert only(path).window(0, T).cell.shape == (3, 3)


def test_box_sampled_at_other_steps_than_the_positions(path):
    file, group = begin(path, boundary=("periodic",) * 3)
    sampled(group, "position", POSITIONS)
    sampled(group["box"], "edges", np.array([[5.0] * 3, [6.0] * 3]), step=[0, 25], time=None)
    file.close()
    cells = [only(path).frame(k).cell[0, 0] for k in range(T)]
    assert cells == [5, 5, 5, 6, 6, 6]  # steps 0, 10, 20, 30 ...: the box changes at 25


def test_a_first_box_after_the_first_frame_is_refused(path):
    file, group = begin(path, boundary=("periodic",) * 3)
    sampled(group, "position", POSITIONS)
    sampled(group["box"], "edges", np.array([[5.0] * 3, [6.0] * 3]), step=[5, 25], time=None)
    file.close()
    with pytest.raises(FormatError, match="before the first box"):
        only(path)


@pytest.mark.parametrize(
    ("boundary", "expected"),
    [
        ("periodic", [True] * 3),
        ("none", [False] * 3),
        (np.array([b"periodic", b"none", b"periodic"]), [True, False, True]),
        (["none", "none", "periodic"], [False, False, True]),
        (np.array([b"periodic"]), [True] * 3),
    ],
)
def test_boundaries_as_one_word_or_several_in_bytes_or_text(path, boundary, expected):
    file, group = begin(path, boundary=boundary)
    sampled(group, "position", POSITIONS)
    group["box/edges"] = [4.0, 5.0, 6.0]
    file.close()
    frame = only(path).frame(0)
    assert frame.pbc.tolist() == expected
    np.testing.assert_array_equal(
        frame.cell, np.diag([4.0, 5.0, 6.0]) * np.array(expected)[:, None]
    )


def test_image_flags_unwrap_positions(path):
    file, group = begin(path, boundary=("periodic",) * 3)
    images = RNG.integers(-2, 3, size=(T, N, 3))
    sampled(group, "position", POSITIONS)
    sampled(group, "image", images)
    group["box/edges"] = [4.0, 5.0, 6.0]
    file.close()
    frame = only(path).frame(4)
    np.testing.assert_allclose(frame.unwrapped(), POSITIONS[4] + images[4] * [4.0, 5.0, 6.0])


def test_particles_stored_in_another_order_at_every_frame(path):
    file, group = begin(path)
    orders = np.stack([RNG.permutation(N) for _ in range(T)])
    shuffled = np.take_along_axis(POSITIONS, orders[..., None], axis=1)
    sampled(group, "position", shuffled)
    sampled(group, "id", orders + 100)
    sampled(group, "species", orders + 1)
    group["mass"] = (orders[0] + 1) * 2.0
    file.close()
    trajectory = only(path)
    for k in range(T):
        frame = trajectory.frame(k)
        np.testing.assert_array_equal(frame.positions, POSITIONS[k])
        np.testing.assert_array_equal(frame.numbers, np.arange(N) + 1)
        np.testing.assert_array_equal(frame.masses, (np.arange(N) + 1) * 2.0)
    np.testing.assert_array_equal(trajectory.window(1, 3).positions, POSITIONS[1:4])
    np.testing.assert_array_equal(trajectory.read("positions"), POSITIONS)
    np.testing.assert_array_equal(trajectory.read("masses"), (np.arange(N) + 1) * 2.0)


def test_fixed_ids_sort_particles_too(path):
    file, group = begin(path)
    order = RNG.permutation(N)
    sampled(group, "position", POSITIONS[:, order])
    group["id"] = order
    group["species"] = order + 1
    file.close()
    trajectory = only(path)
    np.testing.assert_array_equal(trajectory.window(0, T).positions, POSITIONS)
    np.testing.assert_array_equal(trajectory.frame(0).numbers, np.arange(N) + 1)


def test_particles_that_come_and_go_are_marked_by_the_fill_value_of_id(path):
    file, group = begin(path)
    counts = [5, 4, 4, 3, 5, 5]
    ids = np.full((T, N), -1)
    for k, count in enumerate(counts):
        ids[k, :count] = RNG.permutation(N)[:count]
    stored = np.where(
        (ids < 0)[..., None],
        np.nan,
        np.take_along_axis(POSITIONS, np.maximum(ids, 0)[..., None], axis=1),
    )
    sampled(group, "position", stored)
    element = group.create_group("id")
    element.create_dataset("value", data=ids, fillvalue=-1)
    element["step"] = STEPS
    sampled(group, "species", ids + 1)
    file.close()
    trajectory = only(path)
    assert trajectory.n_particles == N
    for k, count in enumerate(counts):
        frame = trajectory.frame(k)
        present = np.sort(ids[k, :count])
        np.testing.assert_array_equal(frame.positions, POSITIONS[k][present])
        np.testing.assert_array_equal(frame.numbers, present + 1)
    with pytest.raises(ValueError, match="come or go"):
        trajectory.window(0, 3)
    assert trajectory.window(4, 2).positions.shape == (2, 5, 3)


def test_an_id_of_zero_is_a_particle_where_no_fill_value_is_set(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS)
    group["id"] = np.arange(N)
    file.close()
    assert len(only(path).frame(0)) == N


def test_several_particles_groups(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS, unit="Angstrom")
    other = file.create_group("particles/solvent")
    file.copy("particles/all/box", other)
    sampled(other, "position", POSITIONS[:, :2], unit="Angstrom")
    sampled(file, "observables/solvent/potential_energy", np.arange(T) * 1.0, unit="eV")
    file.close()
    trajectories = {t.name: t for t in H5MDFile(path).trajectories}
    assert trajectories["all"].n_particles == 5
    assert trajectories["solvent"].n_particles == 2
    assert "energy" not in trajectories["all"].fields
    assert trajectories["solvent"].frame(3).energy == 3.0


@pytest.mark.parametrize("where", ["/run", "/study/run"])
def test_a_structure_below_the_root_of_the_file(path, where):
    file, group = begin(path, where=where)
    sampled(group, "position", POSITIONS, unit="Angstrom")
    sampled(file, f"{where}/observables/potential_energy", np.arange(T) * 1.0, unit="kJ mol-1")
    file.close()
    trajectory = only(path)
    assert trajectory.name == f"{where.strip('/')}/all"
    assert trajectory.frame(2).energy == pytest.approx(2 * KJ_PER_MOL)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("Angstrom/fs", 1.0),
        ("nm+1 ps-1", 0.01),
        ("Angstrom ps-1", 1e-3),
        (np.bytes_("m s-1"), 1e-5),
        ("10 nm ns-1", 1e-4),
    ],
)
def test_units_as_they_come(path, unit, factor):
    file, group = begin(path)
    sampled(group, "position", POSITIONS, unit="Angstrom")
    sampled(group, "velocity", VELOCITIES).get("value").attrs["unit"] = unit
    file.close()
    np.testing.assert_allclose(only(path).read("velocities"), VELOCITIES * factor, rtol=1e-12)


def test_an_unknown_unit_is_an_error_that_names_the_dataset(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS, unit="Angstrom")
    sampled(group, "velocity", VELOCITIES, unit="furlong fortnight-1")
    file.close()
    with pytest.raises(FormatError, match=r"particles/all/velocity.*furlong"):
        only(path)


def test_a_field_without_unit_in_a_file_with_units_is_left_out_and_said(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS, unit="Angstrom")
    sampled(group, "velocity", VELOCITIES)
    file.close()
    trajectory = only(path)
    assert trajectory.fields == {"positions"}
    assert "no unit" in trajectory.unreadable["velocities"]
    with pytest.raises(ValueError, match="no unit"):
        trajectory.read("velocities")


def test_a_file_without_units_is_in_reduced_units(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS, time_unit=None)
    sampled(group, "velocity", VELOCITIES, time_unit=None)
    file.close()
    with H5MDFile(path) as opened:
        assert opened.units.name == "reduced"
        (trajectory,) = opened.trajectories
        np.testing.assert_array_equal(trajectory.read("velocities"), VELOCITIES)
        np.testing.assert_array_equal(trajectory.times, TIMES)


def test_the_unit_of_time_may_stand_at_another_element(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS, unit="nm", time_unit=None)
    sampled(group, "id", np.tile(np.arange(N), (T, 1)), time_unit="ps")
    file.close()
    np.testing.assert_allclose(only(path).times, TIMES * 1000)


@pytest.mark.parametrize("style", ["group", "attribute"])
def test_author_and_creator_as_groups_or_attributes(path, style):
    file, group = begin(path)
    sampled(group, "position", POSITIONS)
    if style == "attribute":
        for role in ("author", "creator"):
            name = file[f"h5md/{role}"].attrs["name"]
            del file[f"h5md/{role}"]
            file["h5md"].attrs[role] = np.bytes_(name)
    file.close()
    with H5MDFile(path) as opened:
        assert (opened.author, opened.creator) == ("A. U. Thor", "somebody")


def test_a_restart_that_repeats_steps_is_a_break(path):
    steps = np.array([0, 10, 20, 30, 20, 30])
    file, group = begin(path)
    sampled(group, "position", POSITIONS, step=steps, time=steps * 0.002)
    file.close()
    trajectory = only(path)
    assert trajectory.breaks.tolist() == [4]
    assert trajectory.timestep == pytest.approx(0.02)
    assert trajectory.consecutive
    np.testing.assert_array_equal(trajectory.window(1, 3).positions, POSITIONS[1:4])
    with pytest.raises(ValueError, match="cross the break at frame 4"):
        trajectory.window(2, 3)
    assert trajectory.frame(3).trajectory != trajectory.frame(4).trajectory


def test_uneven_steps_are_not_a_time_series(path):
    steps = np.array([0, 10, 20, 50, 60, 70])
    file, group = begin(path)
    sampled(group, "position", POSITIONS, step=steps, time=steps * 0.002)
    file.close()
    trajectory = only(path)
    assert not trajectory.consecutive
    assert trajectory.timestep is None


def test_velocities_sampled_more_seldom_are_matched_by_step(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS)
    sampled(group, "velocity", VELOCITIES[:2], step=[0, 30], time=None)
    file.close()
    trajectory = only(path)
    assert trajectory.frame(1).velocities is None
    np.testing.assert_array_equal(trajectory.frame(3).velocities, VELOCITIES[1])
    np.testing.assert_array_equal(
        trajectory.read("velocities", np.array([3, 0])), VELOCITIES[[1, 0]]
    )
    assert trajectory.window(0, 3).velocities is None
    with pytest.raises(ValueError, match="4 of the 6 frames"):
        trajectory.read("velocities")


def test_species_written_at_the_first_step_last(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS)
    sampled(group, "species", [[3, 1, 4, 1, 5]], step=[0], time=None)
    sampled(group, "charge", [np.full(N, 1.0), np.full(N, 2.0)], step=[0, 25], time=None)
    file.close()
    trajectory = only(path)
    assert trajectory.frame(5).numbers.tolist() == [3, 1, 4, 1, 5]
    assert [trajectory.frame(k).charges[0] for k in range(T)] == [1, 1, 1, 2, 2, 2]


def test_masses_that_cannot_be_told_apart_are_left_out_and_said(path):
    """Particles change places, and nothing says which was where when the masses were written."""
    file, group = begin(path)
    sampled(group, "position", POSITIONS)
    sampled(group, "id", np.stack([RNG.permutation(N) for _ in range(T)]))
    sampled(group, "mass", [np.arange(N) + 1.0], step=[5], time=None)
    file.close()
    trajectory = only(path)
    assert trajectory.frame(0).masses is None
    assert "together with the ids" in trajectory.unreadable["masses"]


def test_a_window_in_which_one_particle_replaces_another_is_refused(path):
    ids = np.tile(np.arange(N), (T, 1))
    ids[3:, 2] = 99
    file, group = begin(path)
    sampled(group, "position", POSITIONS)
    sampled(group, "id", ids)
    file.close()
    trajectory = only(path)
    assert trajectory.window(0, 3).positions.shape == (3, N, 3)
    with pytest.raises(ValueError, match="come or go"):
        trajectory.window(1, 3)


def test_several_structures_in_one_file(path):
    file, group = begin(path, where="/one")
    sampled(group, "position", POSITIONS, unit="Angstrom")
    file.copy("one", "two")
    del file["two/particles/all/position/value"]
    file["two/particles/all/position/value"] = 2 * POSITIONS
    file.close()
    with H5MDFile(path) as opened:
        assert [t.name for t in opened.trajectories] == ["one/all", "two/all"]
        with pytest.raises(FormatError, match="some of these structures have units"):
            _ = opened.units


def test_species_as_an_enumeration_keep_their_numbers(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS)
    kinds = np.array([2, 2, 5, 2, 5])
    group.create_dataset("species", data=kinds, dtype=h5py.enum_dtype({"A": 2, "B": 5}, "i4"))
    file.close()
    assert only(path).frame(0).numbers.tolist() == kinds.tolist()


def test_missing_species_are_not_a_field(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS)
    file.close()
    assert "numbers" not in only(path).fields
    assert only(path).frame(0).numbers.tolist() == [0] * N


def test_energies_of_the_thermodynamics_module_are_per_particle(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS, unit="Angstrom")
    sampled(file, "observables/all/potential_energy", np.arange(T) * 1.0, unit="kcal mol-1")
    file.create_group("h5md/modules/thermodynamics").attrs["version"] = [1, 0]
    file["observables/all/particle_number"] = N
    file.close()
    np.testing.assert_allclose(only(path).read("energy"), np.arange(T) * N * KCAL_PER_MOL)


def test_observables_that_do_not_depend_on_time(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS, unit="Angstrom")
    file["observables/potential_energy"] = -2.0
    file["observables/potential_energy"].attrs["unit"] = "eV"
    file.close()
    trajectory = only(path)
    assert trajectory.frame(5).energy == -2.0
    np.testing.assert_array_equal(trajectory.window(0, 3).energy, [-2.0] * 3)


def test_nan_labels_are_missing_labels(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS, unit="Angstrom")
    forces = VELOCITIES.copy()
    forces[2] = np.nan
    sampled(group, "force", forces, unit="eV/Angstrom")
    file.close()
    trajectory = only(path)
    assert trajectory.frame(2).forces is None
    np.testing.assert_array_equal(trajectory.frame(3).forces, forces[3])


def test_znh5md_velocities_are_in_the_units_of_ase(path):
    atoms = Atoms("H5", positions=POSITIONS[0])
    atoms.set_velocities(VELOCITIES[0])
    file, group = begin(path, creator="znh5md")
    sampled(group, "position", POSITIONS[:1], step=[1], time=[1.0], unit="Angstrom")
    internal = atoms.get_velocities()[None]
    sampled(group, "velocity", internal, step=[1], time=[1.0], unit="Angstrom/fs")
    species = np.array([[1.0, 1.0, 1.0, np.nan, np.nan]])
    sampled(group, "species", species, step=[1], time=[1.0])
    file.close()
    frame = only(path).frame(0)
    assert len(frame) == 3  # padded with NaN
    np.testing.assert_allclose(frame.velocities, VELOCITIES[0, :3] * ase_units.fs, rtol=1e-7)


def test_the_same_unit_by_another_program_is_taken_at_its_word(path):
    file, group = begin(path, creator="somebody")
    sampled(group, "position", POSITIONS, unit="Angstrom")
    sampled(group, "velocity", VELOCITIES, unit="Angstrom/fs")
    file.close()
    np.testing.assert_array_equal(only(path).frame(0).velocities, VELOCITIES[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_position_that_is_not_finite_is_refused_when_read(path, bad):
    values = POSITIONS.copy()
    values[3, 1, 2] = bad
    file, group = begin(path)
    sampled(group, "position", values)
    file.close()
    trajectory = only(path)
    trajectory.window(0, 3)
    for read in (lambda: trajectory.frame(3), lambda: trajectory.window(1, 4)):
        with pytest.raises(FormatError, match=r"position/value.*particle 1 in frame 3"):
            read()


def corruptions():
    def no_box(file):
        del file["particles/all/box"]

    def no_edges(file):
        file["particles/all/box"].attrs["boundary"] = ["periodic"] * 3

    def odd_boundary(file):
        file["particles/all/box"].attrs["boundary"] = ["reflecting"] * 3

    def no_positions(file):
        del file["particles/all/position"]

    def no_step(file):
        del file["particles/all/position/step"]

    def other_version(file):
        file["h5md"].attrs["version"] = [2, 0]

    def not_h5md(file):
        del file["h5md"]

    def fewer_masses(file):
        file["particles/all/mass"] = [1.0, 2.0]

    def flat(file):
        del file["particles/all/position/value"]
        file["particles/all/position/value"] = np.zeros((T, N))

    return [
        (no_box, "no group `box`"),
        (no_edges, "`edges` is missing"),
        (odd_boundary, "reflecting"),
        (no_positions, "no particles group has positions"),
        (no_step, "needs the datasets `value` and `step`"),
        (other_version, "version"),
        (not_h5md, "not H5MD"),
        (fewer_masses, "2 particles"),
        (flat, "samples of shape"),
    ]


@pytest.mark.parametrize(
    ("corrupt", "message"), corruptions(), ids=lambda c: getattr(c, "__name__", "")
)
def test_files_that_break_the_rules_are_refused_with_the_reason(path, corrupt, message):
    file, group = begin(path)
    sampled(group, "position", POSITIONS)
    file.close()
    only(path)
    with h5py.File(path, "r+") as broken:
        corrupt(broken)
    with pytest.raises(FormatError, match=message) as caught:
        only(path)
    assert str(path) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_position_in_nm_read_as_angstrom_would_be_caught(path):
    file, group = begin(path)
    sampled(group, "position", POSITIONS, unit="nm")
    file.close()
    assert not np.allclose(only(path).frame(0).positions, POSITIONS[0])
    assert math.isclose(only(path).frame(0).positions[0, 0], POSITIONS[0, 0, 0] * 10)

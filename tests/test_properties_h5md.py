"""Dipoles and their like in files: written, read back, masked where unknown, imported where asked."""

import h5py
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from conftest import springs, water

from sciwm.core.frame import Frame
from sciwm.core.properties import PROPERTIES, PropertyDefinition
from sciwm.core.state import State
from sciwm.core.units import REDUCED, UnitError
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.data.importers.convert import convert
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.modules import FrameData
from sciwm.data.table import describe
from sciwm.simulation import simulator


def observed(seed: int, **changes) -> Frame:
    """Water with one of each kind of property."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, 3))
    properties = {
        "dipole": rng.normal(size=3),
        "charges": rng.normal(size=3),
        "polarisability": root + root.T,
        "gap": float(rng.normal()),
    }
    return springs(water(seed, 0.1)).with_(properties=properties | changes)


def without(frame: Frame, name: str) -> Frame:
    return frame.with_(properties={k: v for k, v in frame.properties.items() if k != name})


def same(a: Frame, b: Frame) -> bool:
    return a.properties.keys() == b.properties.keys() and all(
        np.array_equal(a.properties[name], b.properties[name]) for name in a.properties
    )


def stored(path, frames, **options):
    with H5MDWriter(path, **options) as writer:
        for frame in frames:
            writer.append(frame)
    return H5MDFile(path).trajectories[0]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "observed.h5md"


def test_the_protocol_of_simulators_names_the_same_table():
    assert simulator.PROPERTIES is PROPERTIES
    assert simulator.PropertyDefinition is PropertyDefinition


def test_properties_come_back_bit_by_bit(path):
    frames = [observed(k) for k in range(5)]
    trajectory = stored(path, frames)
    assert all(same(trajectory.frame(k), frames[k]) for k in range(5))
    assert not same(trajectory.frame(0), frames[1])
    window = trajectory.window(1, 3)
    for name in PROPERTIES.keys() & window.properties.keys():
        expected = np.stack([frame.properties[name] for frame in frames[1:4]])
        np.testing.assert_array_equal(window.properties[name], expected)
    assert set(window.properties) == set(frames[0].properties)


def test_other_readers_find_them_among_the_observables_with_unit_step_and_time(path):
    stored(path, [observed(k).with_(step=k, time=2.0 * k) for k in range(3)])
    with h5py.File(path) as file:
        element = file["observables/trajectory/dipole"]
        assert element["value"].shape == (3, 3)
        assert element["value"].attrs["unit"] == "e Angstrom"
        assert element["step"][()].tolist() == [0, 1, 2]
        assert element["time"][()] == pytest.approx([0.0, 0.002, 0.004])
        assert file["observables/trajectory/charges/value"].shape == (3, 3)


def test_a_file_in_other_units_is_converted(path):
    stored(path, [observed(0)])
    with h5py.File(path, "a") as file:
        file["observables/trajectory/dipole/value"].attrs["unit"] = "e nm"
        file["observables/trajectory/polarisability/value"].attrs["unit"] = "nm3"
    frame = H5MDFile(path).trajectories[0].frame(0)
    expected = observed(0).properties
    np.testing.assert_allclose(frame.properties["dipole"], 10 * expected["dipole"])
    np.testing.assert_allclose(
        frame.properties["polarisability"], 1000 * expected["polarisability"]
    )


@pytest.mark.parametrize("unit", ["eV", "debyes", None])
def test_what_is_no_dipole_is_set_aside_and_leaves_the_rest_readable(path, unit):
    stored(path, [observed(0)])
    with h5py.File(path, "a") as file:
        attributes = file["observables/trajectory/dipole/value"].attrs
        del attributes["unit"]
        if unit is not None:
            attributes["unit"] = unit
    trajectory = H5MDFile(path).trajectories[0]
    assert "properties/dipole" in trajectory.unreadable
    assert set(trajectory.frame(0).properties) == {"charges", "polarisability", "gap"}


def test_a_foreign_observable_of_another_shape_is_set_aside(path):
    stored(path, [springs(water(0))])
    with h5py.File(path, "a") as file:
        file["observables/trajectory/charges"] = np.zeros(7)
        file["observables/trajectory/charges"].attrs["unit"] = "e"
    trajectory = H5MDFile(path).trajectories[0]
    assert "(7,)" in trajectory.unreadable["properties/charges"]
    assert trajectory.frame(0).properties == {}


def test_frames_may_lack_one_and_windows_then_leave_it_out(path):
    frames = [observed(0, gap=np.nan), observed(1), without(observed(2), "gap"), observed(3)]
    trajectory = stored(path, frames)
    assert ["gap" in trajectory.frame(k).properties for k in range(4)] == [False, True, False, True]
    assert "gap" not in trajectory.window(0, 4).properties
    assert "dipole" in trajectory.window(0, 4).properties


def test_a_continued_file_still_takes_what_its_first_frame_lacked(path):
    stored(path, [observed(0, gap=np.nan), observed(1)])
    trajectory = stored(path, [observed(2)], resume=True)
    assert same(trajectory.frame(2), observed(2))


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (observed(1, solvation_energy=1.0), "adds solvation_energy"),
        (observed(1, dipole=np.zeros(4)), r"shape \(3,\), got \(4,\)"),
        (observed(1, gap=np.inf), "gap .* infinite"),
        (observed(1, colour=1.0), "colour"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(path, frame, reason):
    with H5MDWriter(path) as writer:
        writer.append(observed(0))
        with pytest.raises(ValueError, match=reason):
            writer.append(frame)


def test_a_state_carries_them_through_batches_and_back():
    frames = [observed(0), observed(1)]
    batch = State.collate([State.from_frame(frame, torch.float64) for frame in frames])
    assert batch["properties/dipole"].shape == (2, 3)
    assert batch["properties/charges"].shape == (6,)
    for s, frame in enumerate(frames):
        back = batch.frame(s)
        for name, value in frame.properties.items():
            np.testing.assert_allclose(back.properties[name], value, rtol=1e-14)
    with pytest.raises(ValueError, match="unknown properties 'colour'"):
        State.from_frame(observed(0, colour=1.0))


def test_the_table_shows_them_and_warns_of_constant_and_missing_ones(path):
    stored(path, [observed(0, gap=1.0), observed(1, gap=1.0), without(observed(2), "dipole")])
    with H5MDWriter(path, resume=True) as writer:
        writer.append(observed(3, gap=1.0))
    table = describe(path)
    assert table.fields["properties/dipole"].present == 3
    assert table.fields["properties/dipole"].unit == "e Å"
    text = " ".join(table.warnings)
    assert "properties/dipole are missing in 1 of 4 frames" in text
    assert "properties/charges" not in text


def test_reduced_units_have_no_units(path):
    frame = Frame(
        numbers=np.zeros(2, dtype=np.int64),
        positions=np.eye(2, 3),
        masses=np.ones(2),
        properties={"dipole": np.arange(3.0)},
    )
    trajectory = stored(path, [frame], units=REDUCED)
    np.testing.assert_array_equal(trajectory.frame(0).properties["dipole"], np.arange(3.0))
    assert describe(path).fields["properties/dipole"].unit == ""


def test_units_of_another_kind_are_refused():
    assert PROPERTIES["polarisability"].size("nm^3") == pytest.approx(1000)
    assert PROPERTIES["dipole"].size("e bohr") == pytest.approx(0.529177, rel=1e-6)
    with pytest.raises(UnitError):
        PROPERTIES["polarisability"].size("eV")
    with pytest.raises(UnitError):
        PROPERTIES["gap"].size("e Angstrom")


class TestImporting:
    @pytest.fixture
    def source(self, tmp_path):
        images = []
        for k in range(4):
            frame = observed(k)
            atoms = Atoms(frame.numbers, frame.positions)
            atoms.info |= {"energy": -float(k), "REF_dipole": frame.properties["dipole"]}
            if k != 2:
                atoms.info["homo_lumo"] = frame.properties["gap"]
            atoms.arrays["mulliken"] = frame.properties["charges"]
            images.append(atoms)
        write(tmp_path / "source.xyz", images, format="extxyz")
        return tmp_path / "source.xyz"

    def test_named_keys_become_properties(self, source, path):
        wanted = {"dipole": "REF_dipole", "gap": "homo_lumo", "charges": "mulliken"}
        report = convert(source, path, ImportOptions(properties=wanted), progress=False)
        (trajectory,) = H5MDFile(path).trajectories  # the gap that is missing does not split it
        for k in range(4):
            found = trajectory.frame(k).properties
            assert ("gap" in found) == (k != 2)
            for name in found:
                np.testing.assert_allclose(found[name], observed(k).properties[name], atol=1e-7)
        assert report.table.fields["properties/gap"].present == 3

    def test_what_is_not_asked_for_is_left(self, source, path):
        convert(source, path, ImportOptions(), progress=False)
        assert H5MDFile(path).trajectories[0].frame(0).properties == {}

    def test_units_of_the_source_hold_for_them(self, source, path):
        options = ImportOptions(
            properties={"dipole": "REF_dipole", "gap": "homo_lumo"}, units="energy=meV,charge=0.5 e"
        )
        convert(source, path, options, progress=False)
        found = H5MDFile(path).trajectories[0].frame(0).properties
        np.testing.assert_allclose(found["dipole"], observed(0).properties["dipole"] / 2, atol=1e-7)
        assert found["gap"] == pytest.approx(observed(0).properties["gap"] / 1000, abs=1e-9)

    @pytest.mark.parametrize(
        ("wanted", "reason"),
        [
            ({"dipole": "REF_dip"}, "no frame holds 'REF_dip'"),
            ({"dipole": "homo_lumo"}, r"'homo_lumo' has shape \(1,\), but dipole needs \(3,\)"),
            ({"charges": "positions"}, "no frame holds 'positions'"),
        ],
    )
    def test_a_key_that_is_absent_or_of_another_shape_is_refused(
        self, source, path, wanted, reason
    ):
        with pytest.raises(SourceError, match=reason):
            convert(source, path, ImportOptions(properties=wanted), progress=False)
        assert not path.exists()

    def test_an_unknown_property_is_refused(self):
        with pytest.raises(ValueError, match="unknown properties 'colour'"):
            ImportOptions(properties={"colour": "x"})


class TestTrainingData:
    def test_frames_without_a_label_are_given_as_nan(self, path):
        stored(path, [observed(k) if k % 3 else observed(k, gap=np.nan) for k in range(12)])
        data = FrameData(str(path), 3, properties=["gap", "dipole"])
        data.cutoff = 3.0
        data.divide(0)
        unknown = [bool(data.training_set[k]["properties/gap"].isnan()) for k in range(9)]
        assert 0 < sum(unknown) < 9
        assert "properties/charges" not in data.training_set[0]

    def test_energies_and_forces_are_needed_only_without_properties(self, path):
        stored(path, [observed(k).with_(forces=None) for k in range(4)])
        assert FrameData(str(path), 1, properties=["gap"]).labels == ("energy",)
        with pytest.raises(ValueError, match="has no forces"):
            FrameData(str(path), 1).divide(0)

    def test_a_property_that_no_frame_has_is_refused(self, path):
        stored(path, [observed(k) for k in range(4)])
        with pytest.raises(ValueError, match="has the property solvation_energy"):
            FrameData(str(path), 1, properties=["solvation_energy"]).divide(0)

    def test_bootstraps_differ_by_seed_and_share_what_is_held_back(self, path):
        stored(path, [observed(k) for k in range(20)])

        def drawn(seed, bootstrap=True):
            data = FrameData(str(path), 5, bootstrap=bootstrap)
            data.divide(seed)
            return data.training_entries, data.validation_set.entries

        (one, held), (two, other), (again, _) = drawn(1), drawn(2), drawn(1)
        assert one == again
        assert one != two
        assert len(one) == 15 > len(set(one))
        assert held == other
        assert not set(one) & set(held)
        plain, _ = drawn(1, bootstrap=False)
        assert len(set(plain)) == 15

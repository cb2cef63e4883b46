"""NumPy archives: MD17 and its relatives, Timewarp, DeePMD folders."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from sciwm.core.units import KCAL_PER_MOL
from sciwm.data.importers.deepmd import DeepMD
from sciwm.data.importers.detection import detect
from sciwm.data.importers.md17 import MD17
from sciwm.data.importers.npz import ROWS, NpzArray
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.timewarp import Timewarp

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
RNG = np.random.default_rng(0)
R = RNG.normal(size=(6, 3, 3))
F = RNG.normal(size=(6, 3, 3))
E = RNG.normal(size=(6, 1))
Z = np.array([8, 1, 1], dtype=np.uint8)


def read(path, **options):
    return list(detect(path).frames(path, ImportOptions(**options)))


def test_rows_of_an_archive_are_those_numpy_loads(tmp_path):
    values = RNG.normal(size=(2 * ROWS + 7, 2, 3)).astype(np.float32)
    np.savez_compressed(tmp_path / "a.npz", values=values, turned=np.asfortranarray(values))
    for name in ("values", "turned"):
        rows = np.array(list(NpzArray(tmp_path / "a.npz", name).rows()))
        np.testing.assert_array_equal(rows, values)


def test_pickled_objects_are_not_opened(tmp_path):
    np.savez(tmp_path / "a.npz", R=np.array([{"a": 1}], dtype=object), z=Z)
    with pytest.raises(SourceError, match="pickled Python objects"):
        read(tmp_path / "a.npz")


def test_md17_is_in_kilocalories(tmp_path):
    np.savez(tmp_path / "md17.npz", R=R, E=E, F=F, z=Z)
    frames = read(tmp_path / "md17.npz")
    assert len(frames) == 6
    np.testing.assert_array_equal(frames[2].positions, R[2])
    np.testing.assert_allclose(frames[2].forces, F[2] * KCAL_PER_MOL)
    assert frames[2].energy == pytest.approx(E[2, 0] * KCAL_PER_MOL)
    assert frames[2].numbers.tolist() == [8, 1, 1]


def test_revised_md17_has_other_names_and_the_same_units(tmp_path):
    np.savez(tmp_path / "r.npz", coords=R, energies=E[:, 0], forces=F, nuclear_charges=Z)
    np.testing.assert_allclose(read(tmp_path / "r.npz")[5].forces, F[5] * KCAL_PER_MOL)


def test_an_archive_that_states_its_units_is_believed(tmp_path):
    np.savez(tmp_path / "s.npz", R=R, E=E, F=F, z=Z, e_unit="eV", r_unit="Ang")
    np.testing.assert_allclose(read(tmp_path / "s.npz")[0].forces, F[0])


def test_padded_molecules_lose_their_padding(tmp_path):
    numbers = np.tile(Z, (6, 1))
    numbers[3, 2] = 0
    np.savez(tmp_path / "p.npz", R=R, E=E, F=F, z=numbers)
    frames = read(tmp_path / "p.npz")
    assert [len(frame) for frame in frames] == [3, 3, 3, 2, 3, 3]
    np.testing.assert_array_equal(frames[3].forces, F[3, :2])  # eV


def test_arrays_of_different_length_are_refused(tmp_path):
    np.savez(tmp_path / "b.npz", R=R, E=E[:5], F=F, z=Z)
    with pytest.raises(SourceError, match=r"E: has shape \(5, 1\) beside"):
        read(tmp_path / "b.npz")


def test_a_damaged_archive_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", R=R, E=E, F=F, z=Z)
    content = bytearray((tmp_path / "d.npz").read_bytes())
    content[200:260] = bytes(60)
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(SourceError, match="cannot be read"):
        read(tmp_path / "d.npz")


def test_the_md17_sample_and_the_padded_qm7x_sample_hold_what_numpy_loads():
    paths = [
        DATA / "md17_ethanol_consecutive/ethanol_first1500.npz",
        DATA / "qm7x_small/qm7x_2250.npz",
    ]
    for path, unit in zip(paths, (KCAL_PER_MOL, 1.0), strict=True):
        if not path.exists():
            pytest.skip(f"needs the reference data {path.name}")
        archive = np.load(path, allow_pickle=False)
        frames = read(path)
        assert len(frames) == len(archive["E"])
        energies = np.array([frame.energy for frame in frames])
        np.testing.assert_allclose(energies, archive["E"][:, 0] * unit)
        force = sum((frame.forces**2).sum() for frame in frames)
        assert force == pytest.approx((archive["F"] ** 2).sum() * unit**2)


def test_a_timewarp_run_takes_its_elements_from_the_pdb():
    path = DATA / "timewarp_traj/implicit-2olx-traj-arrays.npz"
    if not path.exists():
        pytest.skip(f"needs the reference data {path.name}")
    md = pytest.importorskip("MDAnalysis")
    topology = path.with_name("implicit-2olx-traj-state0.pdb")
    with pytest.raises(SourceError, match="--topology"):
        read(path)
    frames = read(path, topology=topology)
    assert Timewarp().matches(path)
    assert not MD17().matches(path)
    assert (frames[0].step, frames[1].step) == (20000, 20001)
    assert frames[1].time - frames[0].time == pytest.approx(0.5)
    masses = np.bincount(frames[0].numbers)
    assert masses[1] > masses[6] > masses[8] > 0
    first = md.Universe(str(topology)).atoms.positions
    # The archive starts 10 ps after the PDB file, so atoms agree to within thermal motion.
    assert np.linalg.norm(frames[0].positions - first, axis=1).max() < 20


def system(folder, **changes):
    """A DeePMD system of two sets with three frames each."""
    folder.mkdir()
    (folder / "type.raw").write_text("0 1 1\n")
    (folder / "type_map.raw").write_text("O\nH\n")
    for s in range(2):
        rows = slice(3 * s, 3 * s + 3)
        arrays = {
            "coord": R[rows].reshape(3, 9),
            "force": F[rows].reshape(3, 9),
            "energy": E[rows, 0],
            "box": np.tile(np.diag([4.0, 5.0, 6.0]).ravel(), (3, 1)),
            "virial": np.tile(np.arange(9.0), (3, 1)),
        } | changes
        (folder / f"set.00{s}").mkdir()
        for name, values in arrays.items():
            if values is not None:
                np.save(folder / f"set.00{s}" / f"{name}.npy", values)
    return folder


def test_a_deepmd_system_is_read_set_by_set(tmp_path):
    frames = read(system(tmp_path / "water"))
    assert len(frames) == 6
    np.testing.assert_array_equal(frames[4].positions, R[4])
    np.testing.assert_array_equal(frames[4].forces, F[4])
    assert frames[4].energy == E[4, 0]
    assert frames[4].numbers.tolist() == [8, 1, 1]
    np.testing.assert_array_equal(frames[4].cell, np.diag([4.0, 5.0, 6.0]))
    np.testing.assert_allclose(frames[4].stress, -np.arange(9.0).reshape(3, 3) / 120)


def test_a_folder_of_systems_is_read_in_order(tmp_path):
    system(tmp_path / "b")
    system(tmp_path / "a", energy=E[:3, 0] + 100)
    energies = [frame.energy for frame in read(tmp_path)]
    assert energies[0] > 90
    assert energies[-1] < 90


def test_deepmd_without_a_box_needs_to_say_so(tmp_path):
    folder = system(tmp_path / "gas", box=None)
    with pytest.raises(SourceError, match=r"box.npy: is missing.*nopbc"):
        read(folder)
    (folder / "nopbc").touch()
    frame = read(folder)[0]
    assert not frame.pbc.any()
    assert frame.stress is None


def test_deepmd_types_without_names_need_elements(tmp_path):
    folder = system(tmp_path / "water")
    (folder / "type_map.raw").unlink()
    with pytest.raises(SourceError, match="--elements O,H"):
        read(folder)
    assert read(folder, elements="O,H")[0].numbers.tolist() == [8, 1, 1]


def test_deepmd_elements_of_the_user_count_more_than_those_of_the_system(tmp_path):
    folder = system(tmp_path / "water")
    assert read(folder, elements="S,F")[0].numbers.tolist() == [16, 9, 9]
    with pytest.raises(SourceError, match="'OHH' does not list"):
        read(folder, elements="OHH")


def test_sets_of_different_length_are_refused(tmp_path):
    with pytest.raises(SourceError, match=r"has 2 frames, but coord.npy has 3"):
        read(system(tmp_path / "water", energy=E[:2, 0]))


def test_the_water_sample_has_the_density_of_water():
    path = DATA / "deepmd_water"
    if not path.exists():
        pytest.skip("needs the reference data deepmd_water")
    assert DeepMD().matches(path)
    frames = read(path)
    assert len(frames) == 400
    from ase.data import atomic_masses

    mass = atomic_masses[frames[0].numbers].sum() * 1.66053907  # g per 1e-24
    assert mass / np.linalg.det(frames[0].cell) == pytest.approx(1.0, abs=0.02)


def test_an_archive_that_declares_more_frames_than_it_holds_says_so(tmp_path):
    path = tmp_path / "md.npz"
    places = np.zeros((3, 2, 3))
    np.savez(path, R=places, E=np.zeros((3, 1)), F=places, z=np.array([1, 1]))
    whole = path.read_bytes()
    # The header of an array is text, padded with blanks.
    stated, claimed = b"'shape': (3, 2, 3), }            ", b"'shape': (1000000000000, 2, 3), }"
    assert whole.count(stated) == 2
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(stated, claimed))
    with pytest.raises(SourceError, match="R: declares 1000000000000 rows, but holds 3"):
        list(NpzArray(path, "R").rows())


def test_qm7x_names_are_in_electronvolt_padded_or_for_one_molecule(tmp_path):
    padded = np.tile(Z, (6, 1))
    padded[3, 2] = 0
    labels = {"ePBE0+MBD": E, "eAT": E - 5.0, "totFOR": F, "hLUMO": E}
    for name, numbers in (("same.npz", Z), ("padded.npz", padded)):
        np.savez(tmp_path / name, atXYZ=R, atNUM=numbers, **labels)
        frames = read(tmp_path / name)
        np.testing.assert_array_equal(frames[4].forces, F[4])
        assert [frame.energy for frame in frames] == E[:, 0].tolist()
    assert [len(frame) for frame in frames] == [3, 3, 3, 2, 3, 3]
    chosen = read(tmp_path / "padded.npz", energy_key="eAT")
    assert [frame.energy for frame in chosen] == (E[:, 0] - 5.0).tolist()
    one = {name: value[2] for name, value in labels.items()}
    np.savez(tmp_path / "one.npz", atXYZ=R[2], atNUM=Z, **one)
    (frame,) = read(tmp_path / "one.npz")
    assert frame.energy == E[2, 0]
    np.testing.assert_array_equal(frame.forces, F[2])


def test_arrays_that_nobody_takes_are_listed(tmp_path):
    np.savez(tmp_path / "a.npz", R=R, E=E, F=F, z=Z, D=R, theory="PBE")
    options = ImportOptions()
    list(MD17().frames(tmp_path / "a.npz", options))
    assert options.remarks.warnings == ["not imported, though the source holds them: D, theory"]


def test_labels_of_an_archive_may_have_other_names(tmp_path):
    np.savez(tmp_path / "a.npz", R=R, E=E, ccsd=2 * E, grad=F, z=Z)
    frame = read(tmp_path / "a.npz", energy_key="ccsd", forces_key="grad", units="eV")[1]
    assert frame.energy == 2 * E[1, 0]
    np.testing.assert_array_equal(frame.forces, F[1])

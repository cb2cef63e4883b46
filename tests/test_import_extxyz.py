"""Extended XYZ read by sciwm means what ASE reads, and broken files are refused by frame and line."""

import gzip
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from sciwm.data.importers.extxyz import ExtendedXYZ
from sciwm.data.importers.source import ImportOptions, SourceError

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
PLAIN = ImportOptions()


def read(path, **options):
    return list(ExtendedXYZ().frames(path, ImportOptions(**options)))


def written(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def copper(tmp_path):
    """Three shaken, sheared copper cells with momenta, forces and stress, as ASE writes them."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(3):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.1, rng=rng)
        atoms.set_momenta(rng.normal(size=(8, 3)))
        atoms.calc = EMT()
        results = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(),
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["config_type"] = "shaken copper"
        atoms.info["charge"] = -1
        images.append(atoms)
    path = tmp_path / "copper.xyz"
    ase.io.write(path, images)
    return path


def assert_means_what_ase_reads(path, frames):
    images = ase.io.read(path, ":")
    assert len(frames) == len(images)
    for frame, atoms in zip(frames, images, strict=True):
        assert (frame.numbers == atoms.numbers).all()
        np.testing.assert_array_equal(frame.positions, atoms.positions)
        np.testing.assert_array_equal(frame.pbc, atoms.pbc)
        np.testing.assert_array_equal(frame.cell, np.asarray(atoms.cell) * atoms.pbc[:, None])
        results = {} if atoms.calc is None else atoms.calc.results
        assert frame.energy == results.get("energy")
        if "forces" in results:
            np.testing.assert_array_equal(frame.forces, results["forces"])
        if "stress" in results and atoms.pbc.all():
            np.testing.assert_allclose(frame.stress, atoms.get_stress(voigt=False))
        if atoms.has("momenta"):
            np.testing.assert_allclose(
                frame.velocities, atoms.get_velocities() * units.fs, rtol=1e-7
            )


def test_a_crystal_with_momenta_means_what_ase_reads(copper):
    frames = read(copper)
    assert_means_what_ase_reads(copper, frames)
    assert {frame.label for frame in frames} == {"shaken copper"}
    assert {frame.total_charge for frame in frames} == {-1.0}


def test_the_comparison_with_ase_notices_a_changed_force(copper):
    frames = read(copper)
    frames[1].forces[0, 0] += 1e-6
    with pytest.raises(AssertionError):
        assert_means_what_ase_reads(copper, frames)


@pytest.mark.parametrize(
    "name",
    [
        "acac/train_300K.xyz",
        "acac/isolated_atoms.xyz",
        "3bpa/train_300K.xyz",
        "ethanol/train.xyz",
        "rmd17/ethanol_split_a.xyz",
        "mlearn/Si_test.extxyz.gz",
        "mlearn/Li_test.extxyz.gz",
        "flashmd_samples/flashmd_al32.xyz",
        "md_formats/xyz/extended.xyz",
        "md_formats/xyz/trajectory.xyz",
        "md_formats/xyz/water.9.xyz.gz",
    ],
)
def test_real_files_mean_what_ase_reads(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs the reference data {name}")
    assert ExtendedXYZ().matches(path)
    assert_means_what_ase_reads(path, read(path))


def test_compressed_files_read_the_same(copper, tmp_path):
    packed = tmp_path / "copper.xyz.gz"
    packed.write_bytes(gzip.compress(copper.read_bytes()))
    for plain, unpacked in zip(read(copper), read(packed), strict=True):
        np.testing.assert_array_equal(plain.positions, unpacked.positions)


def test_a_truncated_archive_is_refused(copper, tmp_path):
    packed = tmp_path / "copper.xyz.gz"
    packed.write_bytes(gzip.compress(copper.read_bytes())[:-200])
    with pytest.raises(SourceError, match="break off"):
        read(packed)


def test_a_lattice_that_does_not_repeat_is_no_box(tmp_path):
    atoms = molecule("H2O")
    atoms.cell = np.diag([50.0, 50.0, 50.0])
    ase.io.write(tmp_path / "water.xyz", atoms)
    (frame,) = read(tmp_path / "water.xyz")
    assert not frame.pbc.any()
    assert not frame.cell.any()


def test_virials_become_stresses_of_ases_sign(copper, tmp_path):
    stresses = [frame.stress for frame in read(copper)]
    images = ase.io.read(copper, ":")
    for atoms in images:
        virial = -atoms.get_volume() * atoms.get_stress(voigt=False)
        del atoms.calc.results["stress"]
        atoms.info["virial"] = virial
    ase.io.write(tmp_path / "virial.xyz", images)
    for stress, frame in zip(stresses, read(tmp_path / "virial.xyz"), strict=True):
        np.testing.assert_allclose(frame.stress, stress, atol=1e-8)


def test_units_hold_for_energies_forces_stresses_and_virials(copper):
    for ours, scaled in zip(read(copper), read(copper, units="meV"), strict=True):
        assert scaled.energy == pytest.approx(ours.energy / 1000)
        np.testing.assert_allclose(scaled.forces, ours.forces / 1000)
        np.testing.assert_allclose(scaled.stress, ours.stress / 1000)
        np.testing.assert_allclose(scaled.velocities, ours.velocities)


WATER = "3\n{}Properties=species:S:1:pos:R:3{}\n{}"
ATOMS = "O 0 0 0{0}\nH 1 0 0{0}\nH 0 1 0{0}\n"


def test_mace_names_are_labels_and_two_different_energies_need_a_choice(tmp_path):
    path = written(
        tmp_path / "w.xyz",
        WATER.format("energy=-1.0 REF_energy=-2.0 ", ":REF_forces:R:3", ATOMS.format(" 1 2 3")),
    )
    with pytest.raises(SourceError, match=r"energy and REF_energy.*--energy_key"):
        read(path)
    (frame,) = read(path, energy_key="REF_energy")
    assert frame.energy == -2.0
    np.testing.assert_array_equal(frame.forces, [[1, 2, 3]] * 3)
    with pytest.raises(SourceError, match=r"no 'dft'.*It holds energy, REF_energy"):
        read(path, energy_key="dft")


def test_json_values_quotes_and_bare_keys_are_understood(tmp_path):
    comment = 'IsStrange dihedrals="_JSON [209.44, 80.54]" note="a \\"b\\" = c" stress=[[1, 0, 0], '
    comment += "[0, 2, 0], [0, 0, 3]] "
    box = 'Lattice="9 0 0 0 9 0 0 0 9" pbc=[T, T, F] '
    path = written(tmp_path / "w.xyz", WATER.format(comment + box, "", ATOMS.format("")))
    (frame,) = read(path)
    assert frame.pbc.tolist() == [True, True, False]
    assert frame.stress is None  # only what repeats in all directions has one
    assert frame.cell.tolist() == [[9, 0, 0], [0, 9, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        (WATER.format("", "", "O 0 0 0\nH 1 0 0\n"), "frame 0 (line 1)", "ends after 2"),
        (WATER.format("", "", "O 0 0 0\nH 1 0\nH 0 1 0\n"), "frame 0 (line 4)", "3 fields"),
        (WATER.format("", "", "O 0 0 0\nH 1 0 x\nH 0 1 0\n"), "frame 0 (line 4)", "'x' is not"),
        (WATER.format("", "", "O 0 0 0\nH 1 0 0 9\nH 0 1 0\n"), "frame 0 (line 4)", "5 fields"),
        (WATER.format("", "", "O 0 0 0\n\nH 1 0 0\n"), "frame 0 (line 4)", "0 fields"),
        (WATER.format("", "", "O 0 0 0\nQ 1 0 0\nH 0 1 0\n"), "frame 0 (line 1)", "'Q' is not a"),
        (WATER.format("energy=low ", "", ATOMS.format("")), "frame 0 (line 1)", "not a number"),
        (WATER.format("", ":forces:R:2", ATOMS.format(" 1 2")), "frame 0", "one vector per atom"),
        (WATER.format("", ":forces:R", ATOMS.format(" 1")), "frame 0", "distinct name:kind:count"),
        (WATER.format('Lattice="1 0" ', "", ATOMS.format("")), "frame 0", "Lattice has 2"),
        (WATER.format('pbc="T T" ', "", ATOMS.format("")), "frame 0", "pbc="),
        (
            WATER.format("", "", ATOMS.format("")) + "H 0 0 0\n",
            "frame 1 (line 6)",
            "number of atoms",
        ),
        ("3\nProperties=species:S:1:pos:R:2\n" + ATOMS.format(""), "frame 0", "lacks pos:R:3"),
    ],
)
def test_a_broken_file_is_refused_with_place_and_reason(tmp_path, text, position, reason):
    path = written(tmp_path / "broken.xyz", text)
    with pytest.raises(SourceError) as refusal:
        read(path)
    assert position in str(refusal.value)
    assert reason in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_what_makes_those_files_broken_is_the_reason_they_are_refused(tmp_path):
    (frame,) = read(written(tmp_path / "sound.xyz", WATER.format("", "", ATOMS.format(""))))
    assert len(frame) == 3


def test_charges_of_atoms_are_read_in_reduced_units_only(tmp_path):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1]])
    atoms.set_initial_charges([0.5, -0.5])
    ase.io.write(tmp_path / "pair.xyz", atoms)
    assert read(tmp_path / "pair.xyz")[0].charges is None
    assert read(tmp_path / "pair.xyz", units="reduced")[0].charges.tolist() == [0.5, -0.5]


def plain(path, *comments):
    """Water in plain XYZ, with these comment lines."""
    rows = "O 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
    return written(path, "".join(f"3\n{comment}\n{rows}" for comment in comments))


@pytest.mark.parametrize(
    ("comment", "key"),
    [
        ("-76.4", "comment"),
        ("E= -76.4", "E"),
        (" energy: -76.4 gnorm: 0.01 xtb: 6.4", "energy"),
        ("Coordinates from a job E -76.4", "E"),
        ("i = 5, time = 2.5, E = -7.64e1", "E"),
        ("scf_total = -76.4", "scf_total"),
    ],
)
def test_energies_in_comment_lines_are_taken_once_they_are_named(tmp_path, comment, key):
    path = plain(tmp_path / "a.xyz", comment, comment)
    options = ImportOptions()
    assert [f.energy for f in ExtendedXYZ().frames(path, options)] == [None, None]
    assert len(options.remarks.warnings) == 1
    assert "which were left" in options.remarks.warnings[0]
    frames = read(path, energy_key=key, units="hartree")
    assert [frame.energy for frame in frames] == pytest.approx([-76.4 * 27.211386245988] * 2)
    with pytest.raises(SourceError, match="holds no 'nothing'"):
        read(path, energy_key="nothing")


def test_an_energy_by_its_own_name_needs_no_option(tmp_path):
    path = plain(tmp_path / "a.xyz", "energy = -1.2", "energy=-1.3 step=2")
    options = ImportOptions()
    assert [f.energy for f in ExtendedXYZ().frames(path, options)] == [-1.2, -1.3]
    assert not options.remarks.warnings


@pytest.mark.parametrize("comment", ["water, frame of a run", "", "H2O in T"])
def test_prose_in_comment_lines_is_no_energy(tmp_path, comment):
    options = ImportOptions()
    list(ExtendedXYZ().frames(plain(tmp_path / "a.xyz", comment), options))
    assert not options.remarks.warnings


def test_entries_and_columns_that_nobody_takes_are_listed_once(copper, tmp_path):
    options = ImportOptions()
    list(ExtendedXYZ().frames(copper, options))
    assert not options.remarks.warnings
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1]], info={"energy": -1.0, "gap": 2.0, "is_ts": True})
    atoms.arrays["spins"] = np.ones(2)
    ase.io.write(tmp_path / "a.xyz", [atoms, atoms])
    list(ExtendedXYZ().frames(tmp_path / "a.xyz", options))
    assert options.remarks.warnings == ["not imported, though the source holds them: gap, spins"]

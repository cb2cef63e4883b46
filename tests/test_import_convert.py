"""A source becomes one H5MD file, complete or not at all, and doubtful data are named."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from sciwm.cli.import_command import import_
from sciwm.core.frame import Frame
from sciwm.core.units import KCAL_PER_MOL, KJ_PER_MOL, MOLECULAR, REDUCED
from sciwm.data.h5md.reader import H5MDFile
from sciwm.data.importers.checks import closest_pair, fault
from sciwm.data.importers.convert import convert, fingerprint
from sciwm.data.importers.plausibility import atomic_energy, doubts
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import SourceUnits

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
FORMATS = DATA / "md_formats"

WATER = molecule("H2O")
ENERGY = -2081.0  # eV, PBE


def frames_of_water(count=6, seed=0):
    """Shaken water molecules with made-up but plausible labels."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        atoms = WATER.copy()
        atoms.rattle(0.05, rng=rng)
        atoms.info["energy"] = ENERGY + rng.normal()
        atoms.arrays["forces"] = rng.normal(size=(3, 3))
        images.append(atoms)
    return images


def written(path, images):
    # Labels as plain columns, so that frames may lack them.
    ase.io.write(path, images, format="extxyz")
    return path


def imported(source, to, **options):
    return convert(source, to, ImportOptions(**options), progress=False)


def read_back(path):
    with H5MDFile(path) as file:
        return [[t.frame(k) for k in range(len(t))] for t in file.trajectories]


def test_frames_come_back_as_they_were(tmp_path):
    images = frames_of_water()
    source = written(tmp_path / "w.xyz", images)
    report = imported(source, tmp_path / "w.h5md")
    ((*frames,),) = read_back(tmp_path / "w.h5md")
    assert report.frames == len(frames) == 6
    for frame, atoms in zip(frames, ase.io.read(source, ":"), strict=True):
        np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-12)
        np.testing.assert_allclose(frame.forces, atoms.get_forces(), rtol=1e-12)
        assert frame.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-14)
        assert frame.trajectory == ""  # nothing says that they follow one another


def test_molecules_of_different_composition_get_groups_of_their_own(tmp_path):
    images = frames_of_water(2)
    for name in ("NH3", "CH4"):
        atoms = molecule(name)
        atoms.info["energy"] = float(atomic_energy(atoms.numbers).sum())
        atoms.arrays["forces"] = np.zeros((len(atoms), 3))
        images += [atoms, *frames_of_water(1, seed=len(images))]
    report = imported(written(tmp_path / "m.xyz", images), tmp_path / "m.h5md")
    with h5py.File(tmp_path / "m.h5md") as file:
        assert sorted(file["particles"]) == ["trajectory", "trajectory_1", "trajectory_2"]
    assert [len(group) for group in read_back(tmp_path / "m.h5md")] == [4, 1, 1]
    assert report.table.particles == (3, 5)


def test_a_stated_time_step_makes_a_time_series(tmp_path):
    source = written(tmp_path / "w.xyz", frames_of_water())
    report = imported(source, tmp_path / "w.h5md", timestep=0.5)
    assert report.table.consecutive
    assert report.table.timestep == pytest.approx(0.5)
    assert not imported(source, tmp_path / "v.h5md").table.consecutive


def test_the_file_says_where_it_comes_from(tmp_path):
    source = written(tmp_path / "w.xyz", frames_of_water())
    imported(source, tmp_path / "w.h5md", units="eV")
    with h5py.File(tmp_path / "w.h5md") as file:
        notes = json.loads(file["parameters/sciwm/settings"][()])
    assert notes["source"] == "w.xyz"
    assert notes["format"] == "extended XYZ"
    assert notes["fingerprint"] == fingerprint(source)
    assert "energy eV" in notes["units"]
    before = fingerprint(source)
    source.write_text(source.read_text().replace("H ", "D ", 1))
    assert fingerprint(source) != before


def test_an_imported_file_can_be_imported_again(tmp_path):
    imported(written(tmp_path / "w.xyz", frames_of_water()), tmp_path / "a.h5md", timestep=2.0)
    imported(tmp_path / "a.h5md", tmp_path / "b.h5md")
    for one, two in zip(*map(read_back, (tmp_path / "a.h5md", tmp_path / "b.h5md")), strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_allclose(a.positions, b.positions, rtol=1e-14)
            np.testing.assert_allclose(a.forces, b.forces, rtol=1e-14)
            assert a.time == pytest.approx(b.time)


# --- never half a file ---------------------------------------------------------------------------


def test_a_failed_import_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "w.h5md"
    imported(written(tmp_path / "good.xyz", frames_of_water()), target)
    before = target.read_bytes()
    bad = tmp_path / "bad.xyz"
    bad.write_text((tmp_path / "good.xyz").read_text() + "3\nshort\nO 0 0 0\n")
    with pytest.raises(SourceError, match="ends after 1"):
        imported(bad, target)
    assert target.read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_import_leaves_nothing_at_the_target(tmp_path, kind):
    source = written(tmp_path / "w.xyz", frames_of_water(200))
    source.write_text(source.read_text() * 150)
    target = tmp_path / "w.h5md"
    target.write_text("an older file")
    code = (
        f"from sciwm.cli.import_command import import_; import_({str(source)!r}, {str(target)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    partial = tmp_path / "w.h5md.partial"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 100_000):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, kind)
    process.wait()
    process.stderr.close()
    assert process.returncode != 0
    assert target.read_text() == "an older file"
    assert partial.exists() == (kind == signal.SIGKILL)
    # What a killed import left behind does not stand in the way of the next.
    imported(written(tmp_path / "small.xyz", frames_of_water()), target)
    assert not partial.exists()


def test_two_imports_into_one_file_do_not_mix(tmp_path):
    import fcntl

    partial = tmp_path / "w.h5md.partial"
    with partial.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FileExistsError, match="another import is writing"):
            imported(written(tmp_path / "w.xyz", frames_of_water()), tmp_path / "w.h5md")
    imported(tmp_path / "w.xyz", tmp_path / "w.h5md")


def test_a_file_is_not_imported_onto_itself(tmp_path):
    imported(written(tmp_path / "w.xyz", frames_of_water()), tmp_path / "w.h5md")
    with pytest.raises(SourceError, match="both source and target"):
        imported(tmp_path / "w.h5md", tmp_path / "w.h5md")
    with pytest.raises(FileNotFoundError, match="no folder"):
        imported(tmp_path / "w.xyz", tmp_path / "nowhere" / "w.h5md")


# --- bad frames ----------------------------------------------------------------------------------


def spoiled(kind):
    """Six frames, the fourth of which is unusable."""
    images = frames_of_water()
    atoms = images[3]
    if kind == "not finite":
        atoms.arrays["forces"][1, 1] = np.nan
    elif kind == "overlapping atoms":
        atoms.positions[2] = atoms.positions[1] + 0.1
    elif kind == "lacks forces unlike the first frames":
        del atoms.arrays["forces"]
    elif kind == "flat box":
        atoms.cell = np.zeros((3, 3))
        atoms.cell[0, 0] = 9.0
        atoms.pbc = True
    return images


@pytest.mark.parametrize(
    "kind",
    ["not finite", "overlapping atoms", "lacks forces unlike the first frames", "flat box"],
)
def test_a_bad_frame_is_refused_by_number_or_left_out_and_counted(tmp_path, kind):
    source = written(tmp_path / "w.xyz", spoiled(kind))
    if kind == "flat box":
        text = source.read_text().replace('Lattice="9.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0"', "")
        lines = text.splitlines()
        lines[3 * 5 + 1] += ' Lattice="9.0 0 0 0 0 0 0 0 0" pbc="T T T"'
        source.write_text("\n".join(lines) + "\n")
    with pytest.raises(SourceError, match="frame 3") as refusal:
        imported(source, tmp_path / "w.h5md")
    assert "--skip-bad" in str(refusal.value)
    report = imported(source, tmp_path / "w.h5md", skip_bad=True)
    assert report.frames == 5
    assert report.skipped == {kind: 1}
    assert f"left out: 1 frames, {kind}" in str(report)
    assert sum(len(group) for group in read_back(tmp_path / "w.h5md")) == 5


def test_sound_frames_are_not_refused():
    assert fault(Frame(numbers=np.array([8]), positions=np.zeros((1, 3))), MOLECULAR) is None


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"forces": np.zeros((3, 3))}, "misshapen"),
        ({"numbers": np.array([0, 1])}, "unknown species"),
        ({"numbers": np.array([1, 119])}, "unknown species"),
        ({"energy": np.inf}, "not finite"),
        ({"velocities": np.full((2, 3), np.nan)}, "not finite"),
        ({"positions": np.zeros((2, 3))}, "overlapping atoms"),
        ({"numbers": np.zeros(0, int), "positions": np.zeros((0, 3))}, "empty"),
    ],
)
def test_each_fault_has_its_kind(changes, kind):
    sound = Frame(numbers=np.array([1, 1]), positions=np.array([[0, 0, 0], [0, 0, 0.74]]))
    assert fault(sound, MOLECULAR) is None
    found = fault(sound.with_(**changes), MOLECULAR)
    assert found is not None
    assert found.kind == kind


def test_particles_in_reduced_units_may_touch_and_have_type_zero():
    frame = Frame(numbers=np.array([0, 0]), positions=np.array([[0, 0, 0], [0, 0, 0.01]]))
    assert fault(frame, REDUCED) is None


@pytest.mark.parametrize("seed", range(5))
def test_overlaps_are_found_through_the_faces_of_any_box(seed):
    rng = np.random.default_rng(seed)
    cell = np.diag([6.0, 5.0, 7.0]) + rng.uniform(-1.5, 1.5, size=(3, 3))
    pbc = rng.permutation([True, True, seed % 2 == 0])
    positions = rng.uniform(-1, 2, size=(40, 3)) @ cell
    atoms = Atoms("H40", positions, cell=cell, pbc=pbc)
    # Put one atom beside an image of another, one cell away along what repeats.
    positions[7] = positions[3] + np.array([1, -1, 2]) * pbc @ cell + [0.05, 0.05, 0.0]
    atoms.positions = positions
    distances = atoms.get_all_distances(mic=True)[np.triu_indices(40, 1)]
    found = closest_pair(positions, cell * pbc[:, None], pbc)
    assert found is not None
    assert found[2] == pytest.approx(distances.min(), abs=1e-9)


def test_atoms_far_apart_do_not_overlap():
    positions = np.array([[0.1, 0, 0], [4.0, 0, 0]])
    assert closest_pair(positions, np.diag([9.0, 9, 9]), np.ones(3, bool)) is None
    assert closest_pair(positions, np.diag([4.0, 9, 9]), np.ones(3, bool)) is not None


# --- units ---------------------------------------------------------------------------------------


def test_atomic_energies_are_near_those_of_all_electron_calculations():
    # Hartree-Fock limits in hartree (Koga, Tatewaki and Thakkar 1993), H exact.
    table = {1: -0.5, 6: -37.6886, 8: -74.8094, 18: -526.8175, 26: -1262.4437, 54: -7232.1384}
    for number, energy in table.items():
        ours = atomic_energy(np.array([number]))[0] / 27.211386
        assert ours == pytest.approx(energy, rel=0.08)


@pytest.mark.parametrize(
    ("said", "true"),
    [
        ("eV", "meV"), ("eV", "kcal/mol"), ("eV", "kJ/mol"), ("eV", "hartree"),
        ("kcal/mol", "eV"), ("kcal/mol", "hartree"), ("meV", "eV"),
    ],
)  # fmt: skip
def test_total_energies_in_another_unit_are_named(said, true):
    frames = [Frame(WATER.numbers, WATER.positions, energy=ENERGY)]
    size = {
        "eV": 1.0,
        "meV": 1e-3,
        "kcal/mol": KCAL_PER_MOL,
        "kJ/mol": KJ_PER_MOL,
        "hartree": 27.2114,
    }
    read = [frame.with_(energy=frame.energy / size[true] * size[said]) for frame in frames]
    (doubt,) = doubts(read, SourceUnits(energy=said))
    assert doubt.certain
    assert f"look like {true}" in doubt.sentence
    assert f"--units {true}" in doubt.remedy


@pytest.mark.parametrize(
    "energy",
    [ENERGY, -14.2, -310.0, -2.0, 3.0],
    ids=["all-electron", "PAW", "GFN2", "formation", "+"],
)
def test_energies_on_any_usual_scale_raise_no_doubt(energy):
    frame = Frame(WATER.numbers, WATER.positions, energy=energy, forces=np.ones((3, 3)))
    assert doubts([frame], SourceUnits()) == []


@pytest.mark.parametrize(("size", "certain"), [(1.0, None), (25.0, False), (1500.0, True)])
def test_forces_too_large_for_matter_are_doubted(size, certain):
    frame = Frame(WATER.numbers, WATER.positions, forces=np.full((3, 3), size / np.sqrt(3)))
    found = doubts([frame], SourceUnits())
    assert [doubt.certain for doubt in found] == ([] if certain is None else [certain])


@pytest.mark.parametrize(
    ("scale", "named"),
    [(units.fs, None), (1.0, "0.098"), (1000 * units.fs, "Å/ps"), (units.fs / 1000, "")],
)
def test_velocities_of_impossible_temperature_are_doubted(scale, named):
    rng = np.random.default_rng(0)
    atoms = molecule("CH3CH2OH")
    thermal = rng.normal(size=(9, 3)) * np.sqrt(300 * units.kB / atoms.get_masses())[:, None]
    frame = Frame(atoms.numbers, atoms.positions, velocities=thermal * scale)
    found = doubts([frame], SourceUnits())
    assert bool(found) == (named is not None)
    if named:
        assert named in found[0].sentence
        assert found[0].certain


def test_a_source_in_the_wrong_unit_is_refused_until_it_is_told(tmp_path):
    images = frames_of_water()
    for atoms in images:
        atoms.info["energy"] *= 1000
        atoms.arrays["forces"] *= 1000
    source = written(tmp_path / "w.xyz", images)
    with pytest.raises(SourceError, match="they look like meV.*--units meV"):
        imported(source, tmp_path / "w.h5md")
    report = imported(source, tmp_path / "w.h5md", units="meV")
    assert report.warnings == []
    assert report.table.fields["energy"].mean == pytest.approx(ENERGY, abs=2)
    # Whoever insists is warned, not stopped.
    insisted = imported(source, tmp_path / "v.h5md", units="energy=eV,force=eV/Å")
    assert any("look like meV" in sentence for sentence in insisted.warnings)


# --- the sample files ----------------------------------------------------------------------------

SOUND = {
    "dcd/fixed-atoms.dcd": ({"elements": "H12"}, 10),
    "dcd/mrmd_h2so4-64bit-be.dcd": ({"elements": "H2SO4"}, 50),
    "dcd/water.dcd": ({"elements": "(OHH)99"}, 100),
    "gro/ubiquitin.gro": ({}, 1),
    "lammps/detect_best_pos_repr.lammpstrj": ({"units": "lj"}, 5),
    "lammps/nacl.lammpstrj": ({"units": "real", "elements": "Na256Cl256"}, 6),
    "lammps/polymer.lammpstrj": ({"units": "lj"}, 42),
    "lammps/properties.lammpstrj": ({"units": "lj"}, 4),
    "netcdf/no-cell.nc": ({"elements": "He1989"}, 10),
    "netcdf/water.nc": ({"elements": "(OHH)99"}, 100),
    "tinker/water.arc": ({}, 1),
    "trr/cell_shapes_d.trr": ({"elements": "H10"}, 3),
    "trr/water.trr": ({"elements": "(OHH)99"}, 100),
    "xtc/cell_shapes.xtc": ({"elements": "H10"}, 3),
    "xyz/extended.xyz": ({"skip_bad": True}, 2),  # the third frame stacks its atoms
    "xyz/trajectory.xyz": ({}, 2),
    "xyz/water.9.xyz.gz": ({}, 100),
}
REFUSED = {
    "dcd/triclinic-namd.dcd": ({"elements": "He9999"}, "frame 0: atoms .* Å apart"),
    "dcd/water.dcd": ({}, "--topology system.pdb"),
    "lammps-data/data.body": ({}, "no format that can be recognised"),
    "lammps/nacl.lammpstrj": ({}, "--units with one of metal"),
    "xyz/extended.xyz": ({}, "frame 2: atoms 0 and 4 are 0 Å apart"),
    "tng/water.tng": ({"elements": "(OHH)99"}, "pytng"),
    "lammps_bad/atom-duplicated-id.lammpstrj": ({"units": "lj"}, r"frame 0 \(line 11\): .* twice"),
    "lammps_bad/atom-not-enough-lines.lammpstrj": ({"units": "lj"}, "frame 0 .*fewer lines"),
    "lammps_bad/atom-too-many-fields.lammpstrj": ({"units": "lj"}, r"line 10\).*does not fit"),
    "lammps_bad/box-not-numbers.lammpstrj": ({"units": "lj"}, r"line 6\).*'DUMMY'"),
    "lammps_bad/box-wrong-size.lammpstrj": ({"units": "lj"}, r"line 6\).*expected 3 number"),
    "lammps_bad/items-after-atoms.lammpstrj": ({"units": "lj"}, "ends inside a frame"),
    "lammps_bad/timestep-no-item.lammpstrj": ({"units": "lj"}, r"line 1\).*'DUMMY'"),
    "xyz_bad/extended-bad-properties.xyz": ({}, r"line 3\).*'H' is not a value of column 'pos'"),
    "xyz_bad/extended.xyz": ({}, r"line 3\).*4 fields where the header has 5"),
}


def sample(name):
    path = FORMATS / name
    if not path.exists():
        pytest.skip(f"needs the reference data {name}")
    return path


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_sample_is_imported_whole(tmp_path, name):
    options, count = SOUND[name]
    report = imported(sample(name), tmp_path / "x.h5md", **options)
    assert report.frames == count == report.table.frames


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_or_incomplete_sample_is_refused_with_place_and_reason(tmp_path, name):
    options, reason = REFUSED[name]
    with pytest.raises(SourceError, match=reason) as refusal:
        imported(sample(name), tmp_path / "x.h5md", **options)
    assert Path(name).name in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_every_sample_is_in_one_of_the_two_lists():
    if not FORMATS.exists():
        pytest.skip("needs the reference data md_formats")
    files = {str(p.relative_to(FORMATS)) for p in FORMATS.rglob("*") if p.is_file()}
    assert {name for name in files if "/." not in name} == {*SOUND, *REFUSED}


@pytest.mark.parametrize("part", range(9))
def test_every_frame_of_the_broken_xyz_sample_is_broken_by_itself(tmp_path, part):
    lines = sample("xyz_bad/extended.xyz").read_text().splitlines()[3 * part : 3 * part + 3]
    path = tmp_path / "part.xyz"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SourceError):
        imported(path, tmp_path / "x.h5md")


@pytest.mark.parametrize("part", range(5))
def test_every_frame_with_bad_properties_is_broken_by_itself(tmp_path, part):
    text = sample("xyz_bad/extended-bad-properties.xyz").read_text().splitlines()
    path = tmp_path / "part.xyz"
    path.write_text("\n".join(text[3 * part : 3 * part + 3]) + "\n")
    with pytest.raises(SourceError):
        imported(path, tmp_path / "x.h5md")


def test_the_aspirin_sample_in_millielectronvolt_is_named():
    path = DATA / "rmd17" / "aspirin_meV.xyz"
    if not path.exists():
        pytest.skip("needs the reference data rmd17")
    from sciwm.data.importers.detection import detect

    frames = [f for f, _ in zip(detect(path).frames(path, ImportOptions()), range(8), strict=False)]
    assert "they look like meV" in doubts(frames, SourceUnits())[0].sentence


# --- the command ---------------------------------------------------------------------------------


def test_the_command_prints_the_table_or_one_line_of_refusal(tmp_path, capsys):
    source = written(tmp_path / "w.xyz", frames_of_water())
    assert import_(str(source), str(tmp_path / "w.h5md")) == 0
    out = capsys.readouterr().out
    assert "6 frames" in out
    assert "forces" in out
    assert import_(str(tmp_path / "no.xyz"), str(tmp_path / "x.h5md")) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"sciwm import: {tmp_path / 'no.xyz'}: does not exist. Check the path\n"


def test_importing_needs_no_torch(tmp_path):
    source = written(tmp_path / "w.xyz", frames_of_water())
    code = (
        "import sys; from sciwm.cli.import_command import import_; "
        f"import_({str(source)!r}, {str(tmp_path / 'w.h5md')!r}); sys.exit('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
        == 0
    )

"""Binary trajectories hold what MDAnalysis reads from the same file, topologies name their atoms."""

import struct
import warnings
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from sciwm.core.units import KJ_PER_MOL
from sciwm.data.h5md import H5MDFile
from sciwm.data.importers.convert import convert
from sciwm.data.importers.dcd import AKMA_TIME, DCD
from sciwm.data.importers.detection import detect
from sciwm.data.importers.elements import numbers_from_names, topology_numbers
from sciwm.data.importers.remarks import Remarks
from sciwm.data.importers.source import ImportOptions, SourceError

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
FORMATS = DATA / "md_formats"
WATER = "(OHH)99"


def read(path, **options):
    return list(detect(path).frames(path, ImportOptions(**options)))


def needed(path):
    if not path.exists():
        pytest.skip(f"needs the reference data {path.name}")
    return path


@pytest.fixture
def mdanalysis():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("MDAnalysis")


def assert_means_what_mdanalysis_reads(md, path, frames):
    """Compares positions, boxes and times; those of Å, degrees and ps."""
    reader = md.coordinates.core.reader(str(path), n_atoms=len(frames[0]))
    assert len(frames) == reader.n_frames
    for frame, raw in zip(frames, reader, strict=True):
        np.testing.assert_allclose(frame.positions, raw.positions, atol=2e-4)
        if raw.dimensions is None:
            assert not frame.pbc.any()
        else:
            lengths = np.linalg.norm(frame.cell, axis=1)
            np.testing.assert_allclose(lengths, raw.dimensions[:3], rtol=1e-5)
            volume = md.lib.mdamath.box_volume(raw.dimensions)
            assert abs(np.linalg.det(frame.cell)) == pytest.approx(volume, rel=1e-4)
        if raw.has_velocities:
            np.testing.assert_allclose(frame.velocities, raw.velocities / 1000, atol=1e-6)
        if raw.has_forces:
            np.testing.assert_allclose(frame.forces, raw.forces * KJ_PER_MOL, atol=1e-5)
        assert frame.time == pytest.approx(raw.time * 1000, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        ("dcd/water.dcd", WATER),
        ("dcd/fixed-atoms.dcd", "H12"),
        ("dcd/triclinic-namd.dcd", "He9999"),
        ("trr/water.trr", WATER),
        ("netcdf/no-cell.nc", "He1989"),
    ],
)
def test_real_trajectories_mean_what_mdanalysis_reads(mdanalysis, tmp_path, name, elements):
    path = needed(FORMATS / name)
    frames = read(path, elements=elements)
    # A copy, since MDAnalysis writes files of offsets beside what it reads.
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    assert_means_what_mdanalysis_reads(mdanalysis, copy, frames)


@pytest.mark.parametrize("suffix", ["dcd", "xtc", "trr", "ncdf"])
def test_what_mdanalysis_writes_is_read(mdanalysis, tmp_path, suffix):
    rng = np.random.default_rng(0)
    universe = mdanalysis.Universe.empty(6, trajectory=True, velocities=True, forces=True)
    path = tmp_path / f"run.{suffix}"
    fields = {"velocities": True, "forces": True} if suffix == "ncdf" else {}
    with mdanalysis.Writer(str(path), n_atoms=6, dt=0.5, **fields) as writer:
        for k in range(4):
            universe.atoms.positions = rng.normal(scale=5, size=(6, 3))
            universe.atoms.velocities = rng.normal(size=(6, 3))
            universe.atoms.forces = rng.normal(size=(6, 3))
            universe.dimensions = [20, 21, 22, 80, 85, 70]
            universe.trajectory.ts.frame = k
            universe.trajectory.ts.time = 0.5 * k
            writer.write(universe)
    frames = read(path, elements="C6")
    assert (frames[0].velocities is not None) == (suffix in ("trr", "ncdf"))
    assert_means_what_mdanalysis_reads(mdanalysis, path, frames)
    frames[2].positions[0] += 0.01
    with pytest.raises(AssertionError):
        assert_means_what_mdanalysis_reads(mdanalysis, path, frames)


def test_reading_leaves_no_files_beside_the_source(mdanalysis, tmp_path):
    for name in ("trr/water.trr", "dcd/water.dcd", "netcdf/water.nc"):
        copy = tmp_path / Path(name).name
        copy.write_bytes(needed(FORMATS / name).read_bytes())
        read(copy, elements=WATER)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["water.dcd", "water.nc", "water.trr"]


def test_netcdf_in_femtoseconds_agrees_with_the_same_run_in_trr(mdanalysis):
    one = read(needed(FORMATS / "netcdf/water.nc"), elements=WATER)
    other = read(needed(FORMATS / "trr/water.trr"), elements=WATER)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-3)


def test_alanine_dipeptide_has_its_atoms_and_one_picosecond_frames(mdanalysis):
    path = needed(DATA / "alanine_dipeptide/trajectory-0.dcd")
    topology = path.with_name("ala2.pdb")
    assert np.bincount(topology_numbers(topology))[[1, 6, 7, 8]].tolist() == [12, 6, 2, 2]
    frames = DCD().frames(path, ImportOptions(topology=topology))
    first, second = next(frames), next(frames)
    assert second.time - first.time == pytest.approx(1000, rel=1e-5)
    bond = np.linalg.norm(first.positions[first.numbers == 6][0] - first.positions[0])
    assert 1.0 < bond < 1.2  # C-H, by an independent count: atom 1 is H, atom 2 the methyl C


def test_a_64_bit_big_endian_file_holds_a_molecule_of_sulfuric_acid():
    path = needed(FORMATS / "dcd/mrmd_h2so4-64bit-be.dcd")
    frames = read(path, elements="H2SO4")
    assert len(frames) == 50
    # Seven atoms that stay together: the largest distance is that of a molecule.
    spans = [np.ptp(frame.positions, axis=0).max() for frame in frames]
    assert 2.0 < min(spans) <= max(spans) < 6.0


def records(order, mark, *contents):
    parts = []
    for content in contents:
        size = struct.pack(order + mark, len(content))
        parts += [size, content, size]
    return b"".join(parts)


@pytest.mark.parametrize(("order", "mark"), [("<", "i"), (">", "i"), ("<", "q"), (">", "q")])
def test_every_byte_order_and_record_mark_reads_the_same(tmp_path, order, mark):
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(3, 4, 3)).astype(np.float32)
    control = np.zeros(20, dtype=order + "i4")
    control[[0, 1, 2, 19]] = 3, 10, 5, 24  # frames, first step, steps per frame, CHARMM version
    head = b"CORD" + control.tobytes()
    head = head[:40] + np.array(0.02, dtype=order + "f4").tobytes() + head[44:]
    title, count = struct.pack(order + "i", 1) + b" " * 80, struct.pack(order + "i", 4)
    axes = [frame[:, a].astype(order + "f4").tobytes() for frame in frames for a in range(3)]
    content = records(order, mark, head, title, count, *axes)
    path = tmp_path / "run.dcd"
    path.write_bytes(content)
    read_back = read(path, elements="C4")
    for frame, expected in zip(read_back, frames, strict=True):
        np.testing.assert_array_equal(frame.positions, expected)
    assert [frame.step for frame in read_back] == [10, 15, 20]
    assert read_back[1].time == pytest.approx(15 * 0.02 * AKMA_TIME)
    remarks = Remarks()
    list(DCD().frames(path, ImportOptions(elements="C4", remarks=remarks)))
    assert remarks.warnings == []
    last = len(records(order, mark, *axes)) // 3
    path.write_bytes(content[:-last])
    list(DCD().frames(path, ImportOptions(elements="C4", remarks=remarks)))
    (said,) = remarks.warnings
    assert "declares 3 frames, and the file holds 2" in said
    path.write_bytes(content[:-30])
    with pytest.raises(SourceError, match="frame 2: the file breaks off"):
        read(path, elements="C4")


@pytest.mark.parametrize("suffix", ["trr", "xtc", "ncdf"])
def test_a_cut_off_trajectory_is_refused(mdanalysis, tmp_path, suffix):
    universe = mdanalysis.Universe.empty(6, trajectory=True)
    path = tmp_path / f"run.{suffix}"
    with mdanalysis.Writer(str(path), n_atoms=6, dt=1.0) as writer:
        for _ in range(3):
            universe.dimensions = [20, 20, 20, 90, 90, 90]
            writer.write(universe)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"breaks? off|cannot be read"):
        read(path, elements="C6")


def test_a_topology_of_another_system_is_refused():
    path = needed(FORMATS / "dcd/water.dcd")
    with pytest.raises(SourceError, match="has 297 atoms, but elements 'OHH' has 3"):
        read(path, elements="OHH")
    with pytest.raises(SourceError, match="is not a formula"):
        read(path, elements="water")


def test_a_gro_file_means_what_mdanalysis_reads(mdanalysis):
    path = needed(FORMATS / "gro/ubiquitin.gro")
    (frame,) = read(path)
    universe = mdanalysis.Universe(str(path))
    np.testing.assert_allclose(frame.positions, universe.atoms.positions, atol=1e-4)
    np.testing.assert_allclose(np.diag(frame.cell), universe.dimensions[:3], rtol=1e-6)


def gro(path, decimals=3, count=3, sites=("OW", "HW1", "HW2")):
    """Frames of shaken water as GROMACS writes them, one picosecond apart."""
    rng, wide = np.random.default_rng(2), decimals + 5
    base = np.array([[0.1, 0.1, 0.1], [0.2, 0.1, 0.1], [0.08, 0.19, 0.1], [0.11, 0.11, 0.1]])
    places = base[: len(sites)] + 0.005 * rng.normal(size=(count, len(sites), 3))
    speeds = rng.normal(size=places.shape)
    text = ""
    for k in range(count):
        text += f"water t= {k:.5f} step= {500 * k}\n{len(sites)}\n"
        for i, site in enumerate(sites):
            text += f"{1:5d}{'SOL':<5}{site:>5}{i + 1:5d}"
            text += "".join(f"{v:{wide}.{decimals}f}" for v in places[k, i])
            text += "".join(f"{v:{wide}.{decimals + 1}f}" for v in speeds[k, i]) + "\n"
        text += "   2.00000   2.10000   2.20000   0.00000   0.00000   0.30000" + 3 * "   0.00000"
        text += "\n"
    path.write_text(text)
    return path, places, speeds


@pytest.mark.parametrize("decimals", [3, 6])
def test_a_gro_file_of_many_frames_is_a_run(tmp_path, decimals):
    path, places, speeds = gro(tmp_path / "a.gro", decimals)
    frames = read(path)
    assert [frame.time for frame in frames] == [0.0, 1000.0, 2000.0]
    assert [frame.step for frame in frames] == [0, 500, 1000]
    assert frames[0].numbers.tolist() == [8, 1, 1]
    for frame, place, speed in zip(frames, places, speeds, strict=True):
        np.testing.assert_allclose(frame.positions, 10 * place, atol=6 * 10.0**-decimals)
        np.testing.assert_allclose(frame.velocities, speed / 100, atol=10.0 ** -(decimals + 2))
        np.testing.assert_allclose(frame.cell, [[20, 0, 0], [3, 21, 0], [0, 0, 22]])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("3\n    1SOL     OW", "4\n    1SOL     OW", "does not hold 6 numbers"),
        ("   2.20000", "", "not 3 or 9 numbers"),
        ("t= 1.00000", "t= soon", "'soon' is not a number"),
    ],
)
def test_a_broken_gro_file_is_refused(tmp_path, old, new, reason):
    path, _, _ = gro(tmp_path / "a.gro")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(SourceError, match=reason):
        read(path)
    path.write_text(text[:-120])
    with pytest.raises(SourceError, match="the file ends before"):
        read(path)


@pytest.mark.parametrize("site", ["MW", "EP", "LP1", "M"])
def test_virtual_sites_are_left_out_and_counted(tmp_path, site):
    path, places, _ = gro(tmp_path / "a.gro", sites=("OW", "HW1", "HW2", site))
    report = convert(path, tmp_path / "a.h5md", progress=False)
    assert report.left_out == ["3 virtual sites, in all frames together"]
    assert "left out: 3 virtual sites" in str(report)
    with H5MDFile(tmp_path / "a.h5md") as file:
        frame = file.trajectories[0].frame(1)
    assert frame.numbers.tolist() == [8, 1, 1]
    np.testing.assert_allclose(frame.positions, 10 * places[1, :3], atol=6e-3)
    path.write_text(path.read_text().replace(f"{site:>5}", "   QQ"))
    with pytest.raises(SourceError, match="cannot tell the element of 'QQ'"):
        read(path)


def test_sites_of_a_topology_are_told_by_their_mass_where_it_has_masses():
    names, path = np.array(["OH2", "OM"]), Path("water.psf")
    assert numbers_from_names(names, None, np.array([16.0, 0.0]), path).tolist() == [8, 0]
    assert numbers_from_names(names, None, None, path).tolist() == [8, 8]
    with pytest.raises(SourceError, match="cannot tell the element of 'M'"):
        numbers_from_names(np.array(["M"]), None, np.array([55.0]), path)


def test_ases_dummies_are_left_out_of_every_array(tmp_path):
    atoms = molecule("H2O") + Atoms("X", [[0.0, 0.0, 3.0]])
    atoms.calc = SinglePointCalculator(
        atoms, energy=np.array([-14.0]), forces=np.arange(12.0).reshape(4, 3) / 10
    )
    ase.io.write(tmp_path / "a.traj", atoms)
    report = convert(tmp_path / "a.traj", tmp_path / "a.h5md", progress=False)
    assert report.left_out == ["1 virtual sites, in all frames together"]
    with H5MDFile(tmp_path / "a.h5md") as file:
        frame = file.trajectories[0].frame(0)
    assert frame.energy == pytest.approx(-14.0)
    np.testing.assert_allclose(frame.forces, np.arange(9.0).reshape(3, 3) / 10, atol=1e-12)


@pytest.fixture
def relaxed():
    """Copper with EMT's energies, forces and stresses."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(3):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, rng=rng)
        atoms.calc = EMT()
        results = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(),
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        images.append(atoms)
    return images


@pytest.mark.parametrize("suffix", ["traj", "db", "json"])
def test_files_of_ase_keep_their_results(tmp_path, relaxed, suffix):
    path = tmp_path / f"copper.{suffix}"
    if suffix == "traj":
        ase.io.write(path, relaxed)
    else:
        with connect(path) as database:
            for atoms in relaxed:
                database.write(atoms)
    frames = read(path)
    assert len(frames) == 3
    for frame, atoms in zip(frames, relaxed, strict=True):
        np.testing.assert_allclose(frame.forces, atoms.get_forces())
        np.testing.assert_allclose(frame.stress, atoms.get_stress(voigt=False))
        assert frame.energy == atoms.get_potential_energy()
        np.testing.assert_allclose(frame.cell, np.asarray(atoms.cell))


def test_what_nobody_recognises_is_refused_with_the_list_of_formats(tmp_path):
    path = tmp_path / "notes.bin"
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(SourceError, match=r"no format that can be recognised.*LAMMPS dump"):
        detect(path)
    path.write_bytes(b"")
    with pytest.raises(SourceError, match="is empty"):
        detect(path)
    with pytest.raises(SourceError, match="does not exist"):
        detect(tmp_path / "nothing.xyz")


@pytest.mark.parametrize("damage", ["cut", "insert"])
def test_a_shifted_xtc_frame_is_refused_before_it_is_decompressed(tmp_path, damage):
    pytest.importorskip("MDAnalysis")
    content = needed(FORMATS / "xtc/cell_shapes.xtc").read_bytes()
    middle = 100  # inside the first frame
    path = tmp_path / "run.xtc"
    path.write_bytes(
        content[:middle] + (b"" if damage == "cut" else b"\0" * 40) + content[middle + 8 :]
    )
    with pytest.raises(SourceError, match="frame 1: is damaged or breaks off"):
        read(path, elements="H10")


def test_trr_in_double_precision_agrees_with_the_same_run_in_xtc(mdanalysis):
    doubles = read(needed(FORMATS / "trr/cell_shapes_d.trr"), elements="H10")
    compressed = read(needed(FORMATS / "xtc/cell_shapes.xtc"), elements="H10")
    for one, other in zip(doubles, compressed, strict=True):
        np.testing.assert_allclose(one.positions, other.positions, atol=0.01)
        np.testing.assert_allclose(one.cell, other.cell, atol=1e-5)
    # A box of right angles, a sheared one, none; MDAnalysis fills the last with old memory in TRR.
    assert [bool(frame.pbc.any()) for frame in doubles] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        ("trr/cell_shapes_d.trr", "H10"),
        ("dcd/fixed-atoms.dcd", "H12"),
        ("netcdf/water.nc", WATER),
    ],
)
def test_a_damaged_byte_is_an_error_of_ours_or_harmless(tmp_path, name, elements):
    content = needed(FORMATS / name).read_bytes()
    path = tmp_path / Path(name).name
    rng = np.random.default_rng(0)
    refused = 0
    for k in range(30):
        damaged = bytearray(content)
        # Half of the changes hit the headers, where lengths and counts stand.
        damaged[rng.integers(len(content) if k % 2 else min(len(content), 1024))] = 0xFF
        path.write_bytes(damaged)
        try:
            convert(path, tmp_path / "x.h5md", ImportOptions(elements=elements), False, True)
        except SourceError:
            refused += 1
    assert refused > 0

"""H5MD files of other programs, written here with plain h5py in the layouts that those use."""

import h5py
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule

from sciwm.core.units import REDUCED
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.data.h5md.trajectory import Trajectory
from sciwm.data.importers.convert import convert
from sciwm.data.importers.h5md import H5MD
from sciwm.data.importers.source import ImportOptions, SourceError

T = 4
RNG = np.random.default_rng(3)


def imported(source, to, **options):
    return convert(source, to, ImportOptions(**options), progress=False, overwrite=True)


def frames_of(path):
    with H5MDFile(path) as file:
        return [t.frame(k) for t in file.trajectories for k in range(len(t))]


def begin(path, creator):
    file = h5py.File(path, "w")
    file.create_group("h5md").attrs["version"] = [1, 1]
    for role, name in (("author", "N/A"), ("creator", creator)):
        file.create_group(f"h5md/{role}").attrs["name"] = name
    return file


def sampled(file, path, value, unit=None, step=1, time=1.0):
    element = file.create_group(path)
    element["value"] = value
    element["step"] = step
    element["time"] = time
    element["time"].attrs["unit"] = "fs"
    if unit is not None:
        element["value"].attrs["unit"] = unit


def box(file, group, boundary, edges=None, unit=None):
    node = file.create_group(f"particles/{group}/box")
    node.attrs["dimension"] = 3
    node.attrs["boundary"] = [boundary] * 3
    if edges is not None:
        node["edges"] = edges
        if unit is not None:
            node["edges"].attrs["unit"] = unit


def copper():
    """Shaken copper with momenta, and labels that no frame shares with another."""
    images = []
    for seed in range(T):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=seed)
        atoms.set_momenta(RNG.normal(size=(4, 3)))
        atoms.arrays["forces"] = RNG.normal(size=(4, 3))
        atoms.info = {"energy": -14.0 - seed, "stress": 1e-3 * RNG.normal(size=6)}
        images.append(atoms)
    return images


def stacked(images, of):
    return np.array([of(atoms) for atoms in images], dtype=np.float64)


def znh5md(path, images, creator="znh5md", names=("force", "velocity", "potential_energy")):
    """What ZnH5MD stores of ASE's frames, units left out as with `save_units=False`."""
    forces, motion, energy = names
    file = begin(path, creator)
    particles, observables = "particles/atoms", "observables/atoms"
    box(file, "atoms", "periodic")
    sampled(file, f"{particles}/box/edges", stacked(images, lambda a: a.cell.array))
    sampled(file, f"{particles}/box/pbc", stacked(images, lambda a: a.pbc))
    sampled(file, f"{particles}/position", stacked(images, lambda a: a.positions))
    sampled(file, f"{particles}/species", stacked(images, lambda a: a.numbers))
    sampled(file, f"{particles}/{forces}", stacked(images, lambda a: a.arrays["forces"]))
    moving = Atoms.get_velocities if motion == "velocity" else Atoms.get_momenta
    sampled(file, f"{particles}/{motion}", stacked(images, moving))
    sampled(file, f"{observables}/{energy}", stacked(images, lambda a: a.info["energy"]))
    sampled(file, f"{observables}/stress", stacked(images, lambda a: a.info["stress"]))
    sampled(file, f"{observables}/magmom", np.zeros(len(images)))
    file.close()
    return path


LATE = ("force", "velocity", "potential_energy")
EARLY = ("forces", "momentum", "energy")
OTHERS = ("forces", "momenta", "energy")


@pytest.mark.parametrize("names", [LATE, EARLY, OTHERS], ids=["late", "early", "others"])
@pytest.mark.parametrize("creator", ["ZnH5MD", "N/A"])
def test_a_file_of_znh5md_without_units_means_what_ase_held(tmp_path, names, creator):
    images = copper()
    source = znh5md(tmp_path / "a.h5", images, creator, names)
    report = imported(source, tmp_path / "b.h5md")
    assert any("ASE's unit of velocity are assumed" in one for one in report.warnings)
    assert report.table.species == ["Cu"]
    found = frames_of(tmp_path / "b.h5md")
    assert len(found) == T
    for frame, atoms in zip(found, images, strict=True):
        close = {"rtol": 1e-7, "atol": 1e-12}
        np.testing.assert_allclose(frame.positions, atoms.positions, **close)
        np.testing.assert_allclose(frame.cell, atoms.cell.array, **close)
        np.testing.assert_allclose(frame.forces, atoms.arrays["forces"], **close)
        np.testing.assert_allclose(frame.velocities, atoms.get_velocities() * units.fs, **close)
        assert frame.energy == pytest.approx(atoms.info["energy"], rel=1e-12)
        xx, yy, zz, yz, xz, xy = atoms.info["stress"]
        np.testing.assert_allclose(
            frame.stress, [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]], **close
        )


def test_the_same_words_of_a_program_that_is_not_known_are_not_taken_for_ases(tmp_path):
    source = znh5md(tmp_path / "a.h5", copper(), "somebody", EARLY)
    report = imported(source, tmp_path / "b.h5md", units="metal")
    assert set(report.table.fields) == {"positions", "forces", "source_frame"}
    (unread,) = [one for one in report.warnings if one.startswith("not imported, though")]
    assert {"momentum", "energy", "magmom"} <= set(unread.split(": ")[1].split(", "))
    assert any(one.startswith("stress are not imported") for one in report.warnings)


def test_numbers_without_units_are_reduced_only_aloud_and_physical_once_told(tmp_path):
    source = znh5md(tmp_path / "a.h5", copper(), "somebody")
    loud = imported(source, tmp_path / "b.h5md")
    assert any("taken for reduced ones" in one for one in loud.warnings)
    told = imported(source, tmp_path / "c.h5md", units="lj")
    assert not any("reduced" in one for one in told.warnings)
    metal = imported(source, tmp_path / "d.h5md", units="metal")
    assert metal.table.species == ["Cu"]
    (frame, *_), (raw, *_) = frames_of(tmp_path / "d.h5md"), frames_of(tmp_path / "c.h5md")
    np.testing.assert_allclose(frame.velocities, raw.velocities / 1000, rtol=1e-12)  # Å/ps
    np.testing.assert_allclose(frame.forces, raw.forces, rtol=1e-12)


def test_units_of_the_user_count_more_than_those_znh5md_usually_has(tmp_path):
    images = copper()
    source = znh5md(tmp_path / "a.h5", images)
    imported(source, tmp_path / "b.h5md", units="meV")
    frame = frames_of(tmp_path / "b.h5md")[0]
    np.testing.assert_allclose(frame.forces, 1e-3 * images[0].arrays["forces"], rtol=1e-12)
    np.testing.assert_allclose(frame.velocities, images[0].get_velocities() * units.fs, rtol=1e-7)


def test_frames_of_one_file_may_repeat_or_not(tmp_path):
    crystal, flask = bulk("Cu", cubic=True), Atoms("Cu4", 3.0 * np.eye(4, 3))
    for atoms in (crystal, flask):
        atoms.arrays["forces"] = np.ones((4, 3))
        atoms.info = {"energy": -1.0, "stress": np.zeros(6)}
    source = znh5md(tmp_path / "a.h5", [crystal, flask])
    imported(source, tmp_path / "b.h5md")
    assert [frame.pbc.tolist() for frame in frames_of(tmp_path / "b.h5md")] == [
        [True] * 3,
        [False] * 3,
    ]


def water_file(path, species=None, unit="nm", labels=()):
    """A run of two waters as MDAnalysis writes it: units, but no species."""
    file = begin(path, "MDAnalysis")
    box(file, "trajectory", "periodic", np.full(3, 2.0), unit)
    pair = np.concatenate([molecule("H2O").positions, molecule("H2O").positions + 4.0])
    places = np.stack([pair + 0.01 * k for k in range(T)])
    clock = {"step": np.arange(T), "time": np.arange(T) * 1.0}
    sampled(file, "particles/trajectory/position", places / 10, unit, **clock)
    if species is not None:
        file["particles/trajectory/species"] = species
    for name, value, of in labels:
        sampled(file, name, value, of, **clock)
    file.close()
    return path


def test_elements_that_the_file_lacks_come_from_a_formula_or_a_topology(tmp_path):
    source = water_file(tmp_path / "a.h5")
    with pytest.raises(SourceError, match=r"--topology system\.pdb"):
        imported(source, tmp_path / "b.h5md")
    for options in ({"elements": "(OHH)2"}, {"topology": pdb(tmp_path / "water.pdb")}):
        imported(source, tmp_path / "b.h5md", **options)
        assert frames_of(tmp_path / "b.h5md")[0].numbers.tolist() == [8, 1, 1] * 2
    with pytest.raises(SourceError, match="has 6 atoms, but elements 'OHH' has 3"):
        imported(source, tmp_path / "c.h5md", elements="OHH")


def pdb(path):
    """Names and elements of two waters."""
    rows = [
        f"ATOM  {k + 1:5d}  {'OHH'[k % 3]}{k % 3 or ' '}  HOH A{k // 3 + 1:4d}    "
        f"{float(k):8.3f}{0.0:8.3f}{0.0:8.3f}  1.00  0.00           {'OHH'[k % 3]}"
        for k in range(6)
    ]
    path.write_text("\n".join([*rows, "END"]) + "\n")
    return path


@pytest.mark.parametrize("first", [0, 1])
def test_types_that_count_from_zero_or_one_get_their_elements(tmp_path, first):
    source = water_file(tmp_path / "a.h5", species=np.array([0, 1, 1] * 2) + first)
    imported(source, tmp_path / "b.h5md", elements="O,H")
    assert frames_of(tmp_path / "b.h5md")[0].numbers.tolist() == [8, 1, 1] * 2


def test_frames_are_read_once_where_no_elements_are_named(tmp_path, monkeypatch):
    source, asked = water_file(tmp_path / "a.h5", species=np.array([8, 1, 1] * 2)), []
    read = Trajectory.frame
    monkeypatch.setattr(
        Trajectory, "frame", lambda one, k: asked.append((one.name, k)) or read(one, k)
    )
    assert len(list(H5MD().frames(source, ImportOptions()))) == T
    assert asked == [("trajectory", k) for k in range(T)]


def test_labels_are_read_under_the_names_the_user_gives(tmp_path):
    forces, energy = RNG.normal(size=(T, 6, 3)), RNG.normal(size=T)
    labels = [
        ("particles/trajectory/ml_force", forces, "eV/Angstrom"),
        ("observables/dft", energy, "eV"),
        ("observables/plain", energy, None),
    ]
    source = water_file(tmp_path / "a.h5", labels=labels)
    options = {"elements": "(OHH)2"}
    plain = imported(source, tmp_path / "b.h5md", **options)
    assert set(plain.table.fields) == {"positions", "source_frame"}
    assert "not imported, though the source holds them: ml_force, dft, plain" in plain.warnings
    options |= {"forces_key": "ml_force"}
    imported(source, tmp_path / "b.h5md", energy_key="dft", **options)
    frame = frames_of(tmp_path / "b.h5md")[2]
    np.testing.assert_allclose(frame.forces, forces[2], rtol=1e-12)
    assert frame.energy == pytest.approx(energy[2], rel=1e-12)
    with pytest.raises(SourceError, match="no frame holds 'nothing', wanted as energy"):
        imported(source, tmp_path / "c.h5md", energy_key="nothing", **options)
    with pytest.raises(SourceError, match=r"has no unit.*--units can tell it"):
        imported(source, tmp_path / "c.h5md", energy_key="plain", **options)
    imported(source, tmp_path / "c.h5md", energy_key="plain", units="kcal/mol", **options)
    told = frames_of(tmp_path / "c.h5md")[2]
    assert told.energy == pytest.approx(energy[2] * units.kcal / units.mol, rel=1e-6)
    np.testing.assert_array_equal(told.positions, frame.positions)  # the file says that they are nm


def test_units_are_refused_only_where_the_file_states_them_all(tmp_path):
    source = water_file(tmp_path / "a.h5")
    with pytest.raises(SourceError, match="states its own units"):
        imported(source, tmp_path / "b.h5md", elements="(OHH)2", units="metal")
    with H5MDWriter(tmp_path / "own.h5md") as writer:
        imported(source, tmp_path / "b.h5md", elements="(OHH)2")
        writer.append(frames_of(tmp_path / "b.h5md")[0])
    with H5MDWriter(tmp_path / "reduced.h5md", units=REDUCED) as writer:
        writer.append(frames_of(tmp_path / "b.h5md")[0])
    for own in ("own.h5md", "reduced.h5md"):
        with pytest.raises(SourceError, match="states its own units"):
            imported(tmp_path / own, tmp_path / "c.h5md", units="metal")
    quiet = imported(tmp_path / "reduced.h5md", tmp_path / "c.h5md")
    assert not any("units" in one for one in quiet.warnings)


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "never written"])
def test_an_id_group_without_ids_is_no_obstacle(tmp_path, filled):
    source = water_file(tmp_path / "a.h5")
    with h5py.File(source, "r+") as file:
        ids = file.create_group("particles/trajectory/id")
        file.create_group("particles/trajectory/velocity")
        if filled:
            ids["value"] = np.zeros((0, 6), dtype=int)
            ids["step"] = np.zeros(0, dtype=int)
    report = imported(source, tmp_path / "b.h5md", elements="(OHH)2")
    assert report.frames == T
    with h5py.File(source, "r+") as file:
        del file["particles/trajectory/id"]
        file["particles/trajectory/id"] = np.arange(5)
    with pytest.raises(SourceError, match=r"ids of shape \(5,\)"):
        imported(source, tmp_path / "c.h5md", elements="(OHH)2")


SOLVENT, SOLUTE = 8.0 * RNG.random((T, 6, 3)), 8.0 * RNG.random((T, 2, 3))


def grouped_file(path, ids=None, linked=False, groups=None):
    """A box of 8 Å whose particles are kept in groups: positions, forces, species of each."""
    groups = groups or {"solute": (SOLUTE, [11, 17]), "water": (SOLVENT, [8, 1, 1] * 2)}
    file = begin(path, "somebody")
    for number, (name, (places, species)) in enumerate(groups.items()):
        if number and linked:
            file.create_group(f"particles/{name}")["box"] = file["particles/solute/box"]
        else:
            box(file, name, "periodic", np.full(3, 8.0), "Angstrom")
        sampled(file, f"particles/{name}/position", places, "Angstrom")
        sampled(file, f"particles/{name}/force", 0.1 * places, "eV/Angstrom")
        file[f"particles/{name}/species"] = species
        if ids is not None:
            file[f"particles/{name}/id"] = ids[number]
    sampled(file, "observables/potential_energy", np.arange(T) * 1.0, "eV")
    file.close()
    return path


@pytest.mark.parametrize("ids", [None, ([7, 3], [0, 1, 2, 4, 5, 6])], ids=["linked", "ids"])
def test_parts_of_one_system_become_one_frame(tmp_path, ids):
    source = grouped_file(tmp_path / "a.h5", ids, linked=ids is None)
    report = imported(source, tmp_path / "b.h5md")
    assert any("imported as one system" in one for one in report.warnings)
    found = frames_of(tmp_path / "b.h5md")
    assert [frame.energy for frame in found] == [0.0, 1.0, 2.0, 3.0]
    every = np.concatenate([SOLUTE, SOLVENT], axis=1)
    order = np.arange(8) if ids is None else np.argsort(np.concatenate(ids))
    for frame, places in zip(found, every, strict=True):
        np.testing.assert_allclose(frame.positions, places[order], rtol=1e-12)
        np.testing.assert_allclose(frame.forces, 0.1 * places[order], rtol=1e-12)
        assert frame.numbers.tolist() == np.array([11, 17, *[8, 1, 1] * 2])[order].tolist()


def test_groups_that_may_or_may_not_be_parts_stay_apart_aloud(tmp_path):
    report = imported(grouped_file(tmp_path / "a.h5"), tmp_path / "b.h5md")
    assert report.frames == 2 * T
    assert any("NOT those of its own particles" in one for one in report.warnings)
    assert not any(frame.energy is not None for frame in frames_of(tmp_path / "b.h5md"))


def test_a_group_inside_another_is_left_out_and_named(tmp_path):
    inside = {"all": (SOLVENT, [8, 1, 1] * 2), "one": (SOLVENT[:, :3], [8, 1, 1])}
    for groups in (inside, dict(reversed(inside.items()))):
        source = grouped_file(tmp_path / "a.h5", groups=groups)
        report = imported(source, tmp_path / "b.h5md")
        assert report.left_out == ["1 particles group one: all holds these particles too"]
        assert "particles group one" in str(report)
        found = frames_of(tmp_path / "b.h5md")
        assert [frame.energy for frame in found] == [0.0, 1.0, 2.0, 3.0]
        assert {len(frame) for frame in found} == {6}


def test_groups_sampled_at_other_steps_are_systems_of_their_own(tmp_path):
    source = grouped_file(tmp_path / "a.h5", linked=True)
    with h5py.File(source, "r+") as file:
        for name in ("position", "force"):
            del file[f"particles/water/{name}/step"]
            file[f"particles/water/{name}/step"] = 5
    report = imported(source, tmp_path / "b.h5md")
    assert report.frames == 2 * T
    assert not any("one system" in one for one in report.warnings)

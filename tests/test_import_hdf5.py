"""Each HDF5 layout, made small here as its documentation describes it, gives the frames put into it."""

import json
import warnings

import h5py
import numpy as np
import pytest

from sciwm.core.units import BOHR, HARTREE, KJ_PER_MOL
from sciwm.data.h5md import H5MDFile
from sciwm.data.importers.ani import ANI
from sciwm.data.importers.convert import convert
from sciwm.data.importers.detection import IMPORTERS, detect
from sciwm.data.importers.lagrangebench import LagrangeBench
from sciwm.data.importers.mdtraj_hdf5 import MDTrajHDF5
from sciwm.data.importers.qm7x import QM7X
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import ASE_TIME
from sciwm.data.importers.spice import Spice
from sciwm.data.importers.torchmdnet import TorchMDNet
from sciwm.data.importers.torchsim import TorchSim

RNG = np.random.default_rng(0)
NUMBERS = np.array([8, 1, 1, 6])
POSITIONS = RNG.normal(size=(5, 4, 3))
FORCES = RNG.normal(size=(5, 4, 3))
VELOCITIES = RNG.normal(size=(5, 4, 3))
ENERGY = RNG.normal(size=5)
CELL = np.array([[10.0, 0, 0], [1.0, 9.0, 0], [2.0, -1.0, 8.0]])


def spice(file):
    group = file.create_group("ethanol-1")
    group["conformations"] = POSITIONS / BOHR
    group["conformations"].attrs["units"] = "bohr"
    group["dft_total_gradient"] = -FORCES / HARTREE * BOHR
    group["dft_total_gradient"].attrs["units"] = "hartree/bohr"
    group["dft_total_energy"] = ENERGY / HARTREE
    group["dft_total_energy"].attrs["units"] = "hartree"
    group["atomic_numbers"] = NUMBERS.astype(np.int16)
    group["smiles"] = np.array(["[O-:1][CH2:4]"], dtype=h5py.string_dtype())
    group["subset"] = np.array([b"SPICE PubChem Set 1"])


def ani1x(file):
    group = file.create_group("C1H2O1")
    group["coordinates"] = POSITIONS
    group["atomic_numbers"] = NUMBERS.astype(np.uint8)
    group["wb97x_dz.energy"] = ENERGY / HARTREE
    group["wb97x_dz.forces"] = FORCES / HARTREE
    group["ccsd(t)_cbs.energy"] = np.where(np.arange(5) < 2, np.nan, 1.0)


def ani1(file):
    group = file.create_group("gdb11_s01/gdb11_s01-0")
    group["coordinates"] = POSITIONS
    group["species"] = np.array([b"O", b"H", b"H", b"C"])
    group["energies"] = ENERGY / HARTREE
    group["smiles"] = np.array([b"O"])


def ani2x(file):
    group = file.create_group("4")
    group["coordinates"] = POSITIONS
    group["species"] = np.tile(NUMBERS, (5, 1))
    group["energies"] = ENERGY / HARTREE
    group["forces"] = FORCES / HARTREE


def qm7x(file):
    for k in range(5):
        group = file.create_group(f"1/Geom-m1-i1-c1-{k + 1}")
        group["atNUM"] = NUMBERS
        group["atXYZ"] = POSITIONS[k]
        group["totFOR"] = FORCES[k]
        group["ePBE0+MBD"] = ENERGY[k : k + 1]


def torchmdnet(file):
    group = file.create_group("4")
    group["types"] = NUMBERS
    group["pos"] = POSITIONS
    group["energy"] = ENERGY
    group["forces"] = FORCES
    file.create_group("_metadata")["anything"] = 1


def mdtraj(file):
    file.attrs["conventions"] = np.bytes_("Pande")
    file.attrs["conventionVersion"] = np.bytes_("1.1")
    file["coordinates"] = (POSITIONS / 10).astype(np.float32)
    file["velocities"] = VELOCITIES * 100
    file["potentialEnergy"] = ENERGY / KJ_PER_MOL
    file["time"] = np.arange(5) * 2.0
    file["cell_lengths"] = np.tile([1.0, 2.0, 3.0], (5, 1))
    file["cell_angles"] = np.tile([90.0, 90.0, 60.0], (5, 1))
    atoms = [{"index": k, "name": "X", "element": e} for k, e in enumerate(["O", "H", "H", "C"])]
    topology = {"chains": [{"residues": [{"atoms": atoms}]}], "bonds": []}
    file["topology"] = np.array([json.dumps(topology).encode()])


def torchsim(file):
    file.create_group("header").attrs["program"] = "TorchSim"
    arrays = {
        "positions": POSITIONS,
        "velocities": VELOCITIES * ASE_TIME,
        "forces": FORCES[::2],
        "cell": CELL.T[None],
        "atomic_numbers": NUMBERS[None],
        "masses": np.array([[16.0, 1.0, 1.0, 12.0]]),
        "pbc": np.array([True, True, True]),
    }
    steps = {"positions": np.arange(5) * 10, "forces": np.arange(3) * 20}
    for name, values in arrays.items():
        file[f"data/{name}"] = values
        file[f"steps/{name}"] = steps.get(name, steps["positions"] if len(values) == 5 else [0])


def lagrangebench(file):
    for name in ("00000", "00001"):
        file[f"{name}/position"] = POSITIONS[:, :, :2].astype(np.float32) % 5.0
        file[f"{name}/particle_type"] = np.array([0, 0, 1, 3])


LAYOUTS = {
    spice: Spice,
    ani1x: ANI,
    ani1: ANI,
    ani2x: ANI,
    qm7x: QM7X,
    torchmdnet: TorchMDNet,
    mdtraj: MDTrajHDF5,
    torchsim: TorchSim,
    lagrangebench: LagrangeBench,
}
LABELLED = (spice, ani1x, ani2x, qm7x, torchmdnet)


def made(tmp_path, layout):
    path = tmp_path / "source.h5"
    with h5py.File(path, "w") as file:
        layout(file)
    if layout is lagrangebench:
        metadata = {
            "dt": 0.01, "write_every": 4, "bounds": [[0.0, 5.0], [0.0, 4.0]],
            "periodic_boundary_conditions": [True, False],
        }  # fmt: skip
        path.with_name("metadata.json").write_text(json.dumps(metadata))
    return path


def read(path, **options):
    return list(detect(path).frames(path, ImportOptions(**options)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_recognised_by_its_own_importer_alone(tmp_path, layout):
    path = made(tmp_path, layout)
    matching = [importer for importer in IMPORTERS if importer.matches(path)]
    assert [type(importer) for importer in matching] == [LAYOUTS[layout]]


@pytest.mark.parametrize("layout", LABELLED)
def test_conformers_come_back_in_angstrom_and_electronvolt(tmp_path, layout):
    frames = read(made(tmp_path, layout))
    assert len(frames) == 5
    for k, frame in enumerate(frames):
        assert frame.numbers.tolist() == NUMBERS.tolist()
        np.testing.assert_allclose(frame.positions, POSITIONS[k])
        np.testing.assert_allclose(frame.forces, FORCES[k])
        assert frame.energy == pytest.approx(ENERGY[k])
        assert frame.trajectory == ""
        assert frame.time is None


def test_that_comparison_notices_a_forgotten_sign_or_unit(tmp_path):
    path = made(tmp_path, spice)
    with h5py.File(path, "r+") as file:
        file["ethanol-1/dft_total_gradient"][...] *= -1
        file["ethanol-1/conformations"].attrs["units"] = "angstrom"
    frame = read(path)[0]
    assert not np.allclose(frame.forces, FORCES[0])
    assert not np.allclose(frame.positions, POSITIONS[0])


def test_a_spice_molecule_carries_the_charge_of_its_smiles(tmp_path):
    frame = read(made(tmp_path, spice))[0]
    assert frame.total_charge == -1
    assert frame.smiles == "[O-:1][CH2:4]"
    assert frame.label == "SPICE PubChem Set 1"


def test_ani_1_names_elements_by_symbol_and_has_energies_only(tmp_path):
    frames = read(made(tmp_path, ani1))
    assert frames[0].numbers.tolist() == NUMBERS.tolist()
    assert frames[2].energy == pytest.approx(ENERGY[2])
    assert frames[0].forces is None


def test_conformers_not_computed_at_the_chosen_level_are_passed_over(tmp_path):
    frames = read(made(tmp_path, ani1x), energy_key="ccsd(t)_cbs.energy")
    assert len(frames) == 3
    np.testing.assert_allclose(frames[0].positions, POSITIONS[2])
    assert frames[0].forces is None  # none exist at that level


def test_mdtraj_files_have_triclinic_boxes_and_picoseconds(tmp_path):
    frames = read(made(tmp_path, mdtraj))
    np.testing.assert_allclose(frames[3].positions, POSITIONS[3], rtol=1e-6)
    np.testing.assert_allclose(frames[3].velocities, VELOCITIES[3])
    assert frames[3].energy == pytest.approx(ENERGY[3])
    assert frames[3].time == 6000.0
    box = [[10, 0, 0], [10, 20 * np.sin(np.pi / 3), 0], [0, 0, 30]]
    np.testing.assert_allclose(frames[3].cell, box, atol=1e-12)


def test_mdtraj_itself_writes_what_is_read(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        md = pytest.importorskip("mdtraj")
        pytest.importorskip("tables", reason="mdtraj writes HDF5 through PyTables")
        topology = md.Topology()
        residue = topology.add_residue("X", topology.add_chain())
        for symbol in ("O", "H", "H", "C"):
            topology.add_atom(symbol, md.element.Element.getBySymbol(symbol), residue)
        run = md.Trajectory(
            POSITIONS / 10, topology, time=np.arange(5.0),
            unitcell_lengths=np.full((5, 3), 2.0), unitcell_angles=np.full((5, 3), 80.0),
        )  # fmt: skip
        run.save_hdf5(str(tmp_path / "run.h5"))
    frames = read(tmp_path / "run.h5")
    assert frames[0].numbers.tolist() == NUMBERS.tolist()
    np.testing.assert_allclose(frames[4].positions, POSITIONS[4], rtol=1e-6)
    np.testing.assert_allclose(frames[4].cell, run.unitcell_vectors[4] * 10, atol=1e-5)


def test_torchsim_cells_are_transposed_and_velocities_scaled(tmp_path):
    frames = read(made(tmp_path, torchsim))
    np.testing.assert_array_equal(frames[2].cell, CELL)
    np.testing.assert_allclose(frames[2].velocities, VELOCITIES[2])
    assert frames[2].step == 20
    assert frames[2].masses.tolist() == [16, 1, 1, 12]


def test_torchsim_arrays_sampled_less_often_belong_to_their_own_steps(tmp_path):
    frames = read(made(tmp_path, torchsim))
    assert [frame.forces is None for frame in frames] == [False, True, False, True, False]
    np.testing.assert_array_equal(frames[4].forces, FORCES[4])


def test_flat_particle_systems_keep_reduced_units_box_and_time(tmp_path):
    frames = read(made(tmp_path, lagrangebench))
    assert len(frames) == 10
    assert {frame.trajectory for frame in frames} == {"00000", "00001"}
    frame = frames[3]
    assert frame.dimension == 2
    assert frame.numbers.tolist() == [0, 0, 1, 3]
    np.testing.assert_allclose(frame.positions[:, :2], POSITIONS[3, :, :2] % 5, rtol=1e-6)
    assert not frame.positions[:, 2].any()
    assert frame.cell.tolist() == [[5, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert (frame.step, frame.time) == (12, pytest.approx(0.12))


def test_lagrangebench_needs_its_metadata(tmp_path):
    path = made(tmp_path, lagrangebench)
    path.with_name("metadata.json").unlink()
    with pytest.raises(SourceError, match=r"needs metadata.json beside it"):
        read(path)


def test_particles_of_type_zero_are_not_taken_for_virtual_sites(tmp_path):
    path = made(tmp_path, lagrangebench)
    report = convert(path, tmp_path / "a.h5md", progress=False)
    assert not report.left_out
    with H5MDFile(tmp_path / "a.h5md") as file:
        assert file.trajectories[0].frame(0).numbers.tolist() == [0, 0, 1, 3]


def test_a_box_of_half_precision_is_read_like_any_other(tmp_path):
    path = made(tmp_path, torchsim)
    with h5py.File(path, "r+") as file:
        del file["data/cell"]
        file["data/cell"] = CELL.T[None].astype(np.float16)
    frame = read(path)[0]
    assert frame.cell.dtype == np.float64
    np.testing.assert_array_equal(frame.cell, CELL)


def test_types_in_a_column_are_refused(tmp_path):
    path = made(tmp_path, lagrangebench)
    with h5py.File(path, "r+") as file:
        for name in ("00000", "00001"):
            del file[name]["particle_type"]
            file[name]["particle_type"] = np.array([[0], [0], [1], [3]])
    with pytest.raises(SourceError, match=r"shape \(4, 1\)"):
        convert(path, tmp_path / "a.h5md", progress=False)


@pytest.mark.parametrize(
    ("layout", "dataset", "values", "place"),
    [
        (spice, "ethanol-1/dft_total_energy", ENERGY[:4], "/ethanol-1/dft_total_energy"),
        (ani2x, "4/species", NUMBERS[None], "/4/species"),
        (torchmdnet, "4/forces", FORCES[:, :3], "/4/forces"),
        (mdtraj, "time", np.arange(4.0), "/time"),
        (lagrangebench, "00001/particle_type", np.zeros(3, int), "/00001/particle_type"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_their_path(tmp_path, layout, dataset, values, place):
    path = made(tmp_path, layout)
    with h5py.File(path, "r+") as file:
        del file[dataset]
        file[dataset] = values
    with pytest.raises(SourceError, match="has shape") as refusal:
        read(path)
    assert refusal.value.position == place


def test_a_cut_off_file_is_refused(tmp_path):
    path = made(tmp_path, ani2x)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(SourceError, match="HDF5 cannot open it"):
        read(path)


@pytest.mark.parametrize(
    ("layout", "home"),
    [
        (spice, "ethanol-1"),
        (ani1x, "C1H2O1"),
        (qm7x, "1/Geom-m1-i1-c1-1"),
        (torchmdnet, "4"),
        (torchsim, "data"),
        (mdtraj, "."),
    ],
)
def test_what_a_file_holds_besides_is_listed(tmp_path, layout, home):
    path = made(tmp_path, layout)
    for _ in range(2):
        options = ImportOptions()
        list(detect(path).frames(path, options))
        listed = "magnetisation" in " ".join(options.remarks.warnings)
        with h5py.File(path, "r+") as file:
            assert listed == (f"{home}/magnetisation" in file)
            file.require_dataset(f"{home}/magnetisation", (2,), float)


def test_one_number_where_those_of_all_atoms_should_be_is_told(tmp_path):
    path = tmp_path / "one.hdf5"
    with h5py.File(path, "w") as file:
        qm7x(file)
        conformer = file["1/Geom-m1-i1-c1-1"]
        del conformer["atNUM"]
        conformer["atNUM"] = 8
    with pytest.raises(ValueError, match="for 1 particles"):
        convert(path, tmp_path / "new.h5md", progress=False)

"""Numbers that cannot be are refused by import, simulation and training alike; what can be is not."""

import re

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write
from conftest import springs, water
from scipy import constants
from scipy.io import netcdf_file

from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.core.plausibility import LIMITS, frame_oddity, oddity, require_plausible
from sciwm.core.state import State, frame_from_ase
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.data import collection
from sciwm.data.collection import Collection
from sciwm.data.h5md import H5MDWriter
from sciwm.data.importers.convert import convert
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.modules import FrameData, WindowData
from sciwm.models import Encoder, ForceField
from sciwm.simulation.propagators import Langevin, VelocityVerlet
from sciwm.simulation.references.ase_potentials import emt
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.velocities import maxwell_boltzmann
from sciwm.training import ForceTask
from sciwm.training.fit import fit

PLACES = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]])


def hydrogen(**changes) -> Frame:
    return Frame(numbers=np.array([1, 1]), positions=PLACES).with_(**changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"positions": PLACES * 1e37}, r"positions of particle 1: 7\.4e\+36 Å is beyond 1e\+07 Å"),
        ({"velocities": PLACES * 1e5}, "velocities of particle 1: .* faster than light"),
        ({"forces": PLACES * -1e20}, r"forces of particle 1: -7\.4e\+19 eV/Å is below -1e\+07"),
        ({"energy": -1e12}, "energy: -5e.11 eV per particle"),
        ({"masses": np.array([1.0, -1.0])}, "masses of particle 1: -1 u is below 0"),
        ({"charges": np.array([1e9, 0.0])}, "charges of particle 0"),
        ({"total_charge": 1e9}, "total_charge: 1e.09 e"),
        ({"stress": np.eye(3) * 1e8}, "stress: 1e.08"),
        ({"cell": np.eye(3) * 1e9, "pbc": np.ones(3, bool)}, "cell vector 0: 1e.09 Å"),
        ({"cell": np.eye(3) * 0.01, "pbc": np.ones(3, bool)}, "cell vector 0: 0.01 Å is below 0.3"),
        ({"time": 1e30}, "time: 1e.30 fs"),
        ({"energy": np.nan}, "energy: nan"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_each_part_of_a_frame_has_its_limit(changes, sentence):
    assert frame_oddity(hydrogen(), MOLECULAR) is None
    found = frame_oddity(hydrogen(**changes), MOLECULAR)
    assert found is not None
    assert re.search(sentence, found.sentence)
    assert found.finite == bool(np.isfinite(next(iter(changes.values()))).all())


def test_the_limits_hold_what_nature_says():
    assert LIMITS["velocity"].high == pytest.approx(constants.c * 1e10 / 1e15)
    coulomb = constants.e / (4 * np.pi * constants.epsilon_0) * 1e10  # eV Å
    assert LIMITS["force"].high == pytest.approx(coulomb * 92**2 / 0.1**2, rel=0.3)
    sun = 2.5e16 / constants.e * 1e-30  # Pa in eV/Å³
    assert sun < LIMITS["stress"].high < 10 * sun
    assert constants.k * LIMITS["temperature"].high / constants.e == pytest.approx(862, rel=1e-3)


def test_what_extreme_simulations_hold_is_no_oddity():
    """A crystal of 10 µm, a collision at 10 keV, uranium at all its electrons, matter of a plasma."""
    speed = np.sqrt(2 * 1e4 * MOLECULAR.acceleration / 1.008)
    extreme = Frame(
        numbers=np.array([92, 1]),
        positions=np.array([[0.0, 0.0, 0.0], [1e5, 1e5, 1e5]]),
        velocities=np.array([[0.0, 0.0, 0.0], [speed, 0.0, 0.0]]),
        forces=np.array([[1e5, 0.0, 0.0], [-1e5, 0.0, 0.0]]),
        energy=-28_000 * 27.2,
        cell=np.eye(3) * 1e5,
        pbc=np.ones(3, bool),
        time=1e15,
    )
    assert frame_oddity(extreme, MOLECULAR) is None
    require_plausible("temperature", 1e6, MOLECULAR)
    require_plausible("time step", 40.0, MOLECULAR)


def test_reduced_units_need_room_for_squares_in_single_precision():
    frame = hydrogen(positions=PLACES * 1e9, masses=np.array([1e13, 1.0]))
    assert frame_oddity(frame, REDUCED) is None
    assert oddity("length", 2e18, REDUCED) is not None
    assert np.isfinite(np.float32(1e18) ** 2 * 3)


# --- import -------------------------------------------------------------------------------------


def extxyz(folder, spoil):
    atoms = Atoms("OHH", water().positions)
    atoms.arrays["forces"] = np.zeros((3, 3))
    atoms.info["energy"] = -470.0
    spoil(atoms)
    write(folder / "source.xyz", atoms, format="extxyz")
    return folder / "source.xyz", ImportOptions()


def netcdf(folder, spoil):
    atoms = Atoms("OHH", water().positions)
    spoil(atoms)
    path = folder / "source.nc"
    with netcdf_file(path, "w", version=2) as file:
        file.Conventions, file.ConventionVersion = b"AMBER", b"1.0"
        for name, size in (("frame", None), ("spatial", 3), ("atom", 3)):
            file.createDimension(name, size)
        file.createVariable("time", "f", ("frame",))[0] = 0.0
        places = file.createVariable("coordinates", "f", ("frame", "atom", "spatial"))
        places[0] = atoms.positions
        places.units = b"angstrom"
    return path, ImportOptions(elements="OHH")


def deepmd(folder, spoil):
    atoms = Atoms("OHH", water().positions)
    spoil(atoms)
    (folder / "source" / "set.000").mkdir(parents=True)
    (folder / "source" / "type.raw").write_text("0\n1\n1\n")
    (folder / "source" / "type_map.raw").write_text("O\nH\n")
    (folder / "source" / "nopbc").touch()
    np.save(folder / "source" / "set.000" / "coord.npy", atoms.positions.reshape(1, -1))
    return folder / "source", ImportOptions()


def far(atoms):
    atoms.positions[1, 0] = 1e37


@pytest.mark.parametrize("source", [extxyz, netcdf, deepmd])
def test_coordinates_beyond_everything_are_not_imported(tmp_path, source):
    path, options = source(tmp_path, lambda atoms: None)
    assert convert(path, tmp_path / "sound.h5md", options, progress=False).frames == 1
    (tmp_path / "far").mkdir()
    path, options = source(tmp_path / "far", far)
    with pytest.raises(SourceError, match=r"frame 0: positions of particle 1: 1e\+37 Å is beyond"):
        convert(path, tmp_path / "far.h5md", options, progress=False)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda atoms: atoms.arrays["forces"].fill(1e20), r"forces of particle 0: 1e\+20 eV/Å"),
        (lambda atoms: atoms.info.update(energy=1e30), r"energy: 3\.3\S*e\+29 eV per particle"),
    ],
    ids=["forces", "energy"],
)
@pytest.mark.parametrize("units", [None, "eV"])
def test_labels_beyond_everything_are_not_imported_whatever_their_unit(
    tmp_path, spoil, named, units
):
    path, _ = extxyz(tmp_path, spoil)
    with pytest.raises(SourceError, match=named):
        convert(path, tmp_path / "to.h5md", ImportOptions(units=units), progress=False)
    with pytest.raises(SourceError, match="no usable frame"):
        convert(
            path, tmp_path / "to.h5md", ImportOptions(units=units, skip_bad=True), progress=False
        )


# --- simulation ---------------------------------------------------------------------------------


@pytest.fixture
def copper(tmp_path):
    path = tmp_path / "copper.h5md"
    with H5MDWriter(path) as writer:
        writer.append(frame_from_ase(bulk("Cu", cubic=True)))
    return path


@pytest.mark.parametrize(
    ("time", "options", "said"),
    [
        ("4fs", ["--temperature", "1e30K"], "temperature cannot be 1e+30 K is beyond"),
        ("4fs", ["--temperature", "1e8", "--thermostat", "csvr"], "temperature cannot be 1e+08 K"),
        ("4e12fs", ["--dt", "1e12fs", "--temperature", "300K"], "time step cannot be 1e+12 fs"),
    ],
)
def test_a_simulation_that_cannot_be_is_refused_before_it_starts(
    tmp_path, copper, capsys, time, options, said
):
    out = tmp_path / "out.h5md"
    assert main(["simulate", "emt", str(copper), time, "--out", str(out), *options]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_velocities_of_an_impossible_temperature_are_not_drawn():
    state = State.from_frame(water())
    assert maxwell_boltzmann(state, 1e6, MOLECULAR).velocities.any()
    with pytest.raises(ValueError, match="no atoms at that heat"):
        maxwell_boltzmann(state, torch.tensor([1e8]), MOLECULAR)
    with pytest.raises(ValueError, match="temperature"):
        Rollout(Langevin(emt(), 1.0, 1e8, 0.01)).run(state, 1)


def test_a_system_whose_coordinates_leave_the_possible_stops_and_the_others_go_on():
    """An atom faster than everything, without forces on it: energy is conserved, nothing blows up."""
    far_off = Atoms("Cu2", [[0.0, 0.0, 0.0], [9.9e6, 0.0, 0.0]])
    beside = Atoms("Cu2", [[0.0, 0.0, 0.0], [2.2, 0.0, 0.0]])
    state = State.from_ase([far_off, beside], torch.float64)
    state.velocities = torch.zeros_like(state.positions)
    state.velocities[1, 0] = 2900.0
    result = Rollout(VelocityVerlet(emt(), 5.0), every=1).run(state, 12)
    assert result.steps == [6, 12]
    assert "positions of atom 1" in result.reasons[0]
    assert "millimetre" in result.reasons[0]
    assert result.reasons[1] is None


@pytest.mark.parametrize("name", ["positions", "velocities"])
def test_a_system_that_cannot_be_is_not_evaluated(name):
    state = State.from_ase(Atoms("Cu2", [[0.0, 0.0, 0.0], [2.2, 0.0, 0.0]]), torch.float64)
    state[name] = state[name] + torch.tensor([[0.0], [1e12]])
    result = Rollout(VelocityVerlet(emt(), 1.0)).run(state, 3)
    assert result.steps == [0]
    assert f"{name} of atom 1" in result.reasons[0]


# --- training -----------------------------------------------------------------------------------


def spoiled(path, **changes):
    """Eight frames of water on springs, the sixth of which holds what cannot be."""
    with H5MDWriter(path) as writer:
        for seed in range(8):
            frame = springs(water(seed)).with_(time=float(seed), step=seed, trajectory="one")
            writer.append(frame.with_(**changes) if seed == 5 else frame)
    return path


def test_what_is_read_again_is_not_looked_at_again_unless_it_was_refused(tmp_path, monkeypatch):
    path = spoiled(tmp_path / "spoiled.h5md", positions=np.diag([1.0, 2.0, 1e37]))
    data, looked = Collection([path]), []
    monkeypatch.setattr(
        collection, "frame_oddity", lambda *given: looked.append("frame") or frame_oddity(*given)
    )
    monkeypatch.setattr(
        collection, "oddity", lambda *given: looked.append("part") or oddity(*given)
    )
    for _ in range(3):
        for entry in (data.frames[0], data.frames[7]):
            data.frame(entry)
        with pytest.raises(ValueError, match="frame 5: positions"):
            data.frame(data.frames[5])
    assert looked == ["frame"] * 3 + ["frame"] * 2
    looked.clear()
    for first, length, stride in ((0, 3, 2), (1, 2, 2), (0, 3, 2), (1, 4, 1), (2, 2, 2)):
        data.window(data.frames[first], length, stride)
    assert looked == ["part"] * 2  # positions of 0, 2 and 4, then of 1 and 3; the others were seen
    for _ in range(2):
        with pytest.raises(ValueError, match="frame 5: positions"):
            data.window(data.frames[3], 3, 1)


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"forces": np.full((3, 3), 1e20)}, r"forces of particle 0: 1e\+20"),
        ({"energy": 1e30}, r"energy: 3\.33333e\+29 eV per particle"),
        ({"positions": np.diag([1.0, 2.0, 1e37])}, r"positions of particle 2: 1e\+37 Å"),
    ],
    ids=["forces", "energy", "positions"],
)
def test_training_names_the_file_frame_and_value_that_cannot_be(tmp_path, changes, value):
    path = spoiled(tmp_path / "spoiled.h5md", **changes)
    task = ForceTask(ForceField(Encoder(3.0, channels=4, lmax=1), reference_energies={}))
    quiet = {"enable_progress_bar": False, "accelerator": "cpu"}
    with pytest.raises(ValueError, match=rf"spoiled\.h5md: 'trajectory', frame 5: {value}"):
        fit(
            FrameData(str(path), 2, "time"),
            task,
            "x",
            trainer=quiet,
            folder=str(tmp_path),
            max_steps=2,
        )


def test_windows_of_motion_name_the_frame_that_cannot_be(tmp_path):
    path = spoiled(tmp_path / "spoiled.h5md", positions=np.full((3, 3), 1e12))
    data = WindowData(str(path), valid=1, split="frame", length=3)
    with pytest.raises(ValueError, match=r"frame 5: positions"):
        Collection([path]).window(data.entries(data.collection)[4], 3, 1)
    dataset = data.dataset(data.collection, data.entries(data.collection))
    with pytest.raises(ValueError, match="frame 5: positions"):
        dataset[3]

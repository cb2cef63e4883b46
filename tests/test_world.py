"""Asking a world: from Python, through ASE, and from model files of every age."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.fd import calculate_numerical_stress
from conftest import OLD_MODEL, loaded_without_digest

import sciwm
from sciwm.interfaces.calculator import SciwmCalculator
from sciwm.interfaces.world import World
from sciwm.models import Encoder, ForceField
from sciwm.models.domain import OutsideDomainWarning, UnseenSpeciesError

ENERGIES = {"force_field_v1": -2081.008219402284, "force_field_v2": -2076.38613243103}
OLD = sorted(Path(__file__).parent.joinpath("archives").glob("*.pt"))


@pytest.fixture(scope="module")
def world() -> World:
    return World(loaded_without_digest(OLD[0]))


@pytest.mark.parametrize("path", OLD, ids=lambda p: p.stem)
def test_models_written_by_earlier_versions_load(path):
    """A regression: the energy this file gave when it was written."""
    world = World(loaded_without_digest(path)) if path == OLD_MODEL else sciwm.load(path)
    assert world.energy(molecule("H2O")) == pytest.approx(ENERGIES[path.stem], abs=1e-4)


def test_ases_calculator_notices_another_charge():
    # No model file knows charged water; untrained weights do, as any.
    torch.manual_seed(0)
    model = ForceField(Encoder(4.0, channels=4, lmax=1, layers=1), reference_energies={"H": 0.0})
    model.domain.seen[[1, 8]] = True
    atoms = molecule("H2O")
    atoms.calc = SciwmCalculator(model)
    neutral = atoms.get_potential_energy()
    assert atoms.calc.check_state(atoms) == []
    atoms.info["charge"] = 1.0
    assert atoms.get_potential_energy() != neutral
    atoms.info["charge"] = 0.0
    assert atoms.get_potential_energy() == neutral


def test_the_calculator_agrees_with_the_world(world):
    atoms = molecule("H2O")
    atoms.calc = world.calculator()
    assert atoms.get_potential_energy() == pytest.approx(world.energy(atoms))
    np.testing.assert_allclose(atoms.get_forces(), world.forces(atoms))


def test_the_calculator_follows_atoms_that_move(world):
    atoms = molecule("H2O")
    atoms.calc = world.calculator()
    before = atoms.get_potential_energy()
    atoms.positions[1] += [0.0, 0.3, 0.2]
    assert atoms.get_potential_energy() != before
    assert atoms.get_potential_energy() == pytest.approx(world.energy(atoms))


def test_the_calculator_notices_that_a_box_repeats_no_more(world):
    atoms = bulk("O", "fcc", a=2.6)
    atoms.calc = world.calculator()
    periodic = atoms.get_potential_energy()
    atoms.pbc = False
    fresh = atoms.copy()
    fresh.calc = world.calculator()
    assert atoms.get_potential_energy() == pytest.approx(fresh.get_potential_energy(), rel=1e-12)
    assert abs(atoms.get_potential_energy() - periodic) > 1e-4


def test_the_calculator_gives_ase_its_stress(world):
    atoms = bulk("O", "fcc", a=4.0)
    atoms.calc = world.calculator()
    # ASE's own finite difference of the energy by strain, in single precision.
    numerical = calculate_numerical_stress(atoms, eps=1e-3)
    np.testing.assert_allclose(atoms.get_stress(), numerical, rtol=2e-2, atol=2e-4)


def test_a_species_the_model_never_saw_is_named(world):
    with pytest.raises(UnseenSpeciesError, match=r"\[6\].*\[1, 8\]"):
        world.energy(molecule("CO2"))


def test_a_system_beyond_what_training_covered_is_said_once(world):
    squeezed = molecule("H2O")
    squeezed.positions[1] = squeezed.positions[0] + [0.0, 0.0, 0.3]
    fresh = World(world.archive)
    with pytest.warns(OutsideDomainWarning, match="0.300 apart; training came no nearer than"):
        fresh.energy(squeezed)
    fresh.forces(squeezed)  # a second warning would be an error here
    World(world.archive).energy(molecule("H2O"))


def test_imagination_is_reproducible_and_a_picture(world):
    first = world.imagine(molecule("H2O"), "2fs", temperature="50K", every=1, seed=3)
    second = world.imagine(molecule("H2O"), "2fs", temperature="50K", every=1, seed=3)
    other = world.imagine(molecule("H2O"), "2fs", temperature="50K", every=1, seed=4)
    moved = np.abs(first.frames[-1].positions - first.frames[0].positions)
    assert moved.max() > 1e-4  # Å: 50 K moves hydrogen at 1e-2 Å/fs
    assert np.abs(other.frames[-1].positions - first.frames[-1].positions).max() > 1e-4
    np.testing.assert_array_equal(first.frames[-1].positions, second.frames[-1].positions)
    assert first._repr_png_()[:4] == b"\x89PNG"
    assert first.times[-1] == pytest.approx(2.0) or first.stopped


def test_a_motion_goes_on_from_its_last_frame(world):
    """As in one go; without velocities it would not."""
    whole = world.imagine(molecule("H2O"), "20fs").frames[-1]
    half = world.imagine(molecule("H2O"), "10fs").frames[-1]
    np.testing.assert_allclose(
        world.imagine(half, "10fs").frames[-1].positions, whole.positions, atol=1e-5
    )
    still = world.imagine(half.with_(velocities=None), "10fs").frames[-1]
    assert np.abs(still.positions - whole.positions).max() > 1e-3


@pytest.mark.parametrize("name", ["velocities", "charges", "masses", "cell"])
def test_a_frame_that_is_not_all_numbers_is_refused(world, name):
    frame = world.imagine(molecule("H2O"), "2fs").frames[-1]
    wrong = np.array(getattr(frame, name), dtype=float)
    wrong[0] = np.nan
    with pytest.raises(ValueError, match=f"{name} of a frame.*finite"):
        world.imagine(frame.with_(**{name: wrong}), "2fs")
    with pytest.raises(ValueError, match="3 particles and 2 velocities"):
        world.energy(frame.with_(velocities=frame.velocities[:2]))


def test_a_missing_model_says_where_models_come_from(tmp_path):
    with pytest.raises(FileNotFoundError, match="sciwm train"):
        sciwm.load(tmp_path)


def test_a_model_whose_code_has_changed_since_is_refused(tmp_path, monkeypatch):
    from sciwm.models import archive
    from sciwm.models.dynamics import force_field

    saved = tmp_path / "model.pt"
    archive.save(loaded_without_digest(OLD[0]), saved)
    archive.load(saved)
    plain = force_field.ForceField._readout
    monkeypatch.setattr(
        force_field.ForceField, "_readout", lambda self, features: 1.1 * plain(self, features) + 0.1
    )
    with pytest.raises(archive.ModelFileError, match="code has changed"):
        archive.load(saved)


def test_relaxing_keeps_a_limit_on_time_and_says_so(world):
    with pytest.raises(
        ArithmeticError, match=r"limit of 0 s was reached.*largest force is .* eV/Å"
    ):
        world.relax(molecule("H2O"), fmax=1e-6, max_seconds=0.0)
    with pytest.raises(ArithmeticError, match="1 steps were not enough"):
        world.relax(molecule("H2O"), fmax=1e-9, max_steps=1)

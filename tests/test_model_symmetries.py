"""Theorems that every potential obeys, whatever its weights: symmetry, conservation, smoothness, files."""

import os

import numpy as np
import pytest
import torch
from ase.build import bulk, fcc111, molecule
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from broken_models import (
    Abrupt,
    Anchored,
    Bent,
    Boxless,
    Chiral,
    Lopsided,
    Ordered,
    Sociable,
    Uphill,
)

from sciwm.core.frame import Frame
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.rotations import random_rotation
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.interfaces.calculator import SciwmCalculator
from sciwm.models import BesselBasis, Encoder, ForceField, InverseMultiquadricBasis, PairPotential
from sciwm.models import archive as archives
from sciwm.models.archive import Archive, ModelFileError, build, describe
from sciwm.models.content import content_digest
from sciwm.models.geometry import Geometry
from sciwm.models.statistics import survey
from sciwm.simulation.learned import predict
from sciwm.simulation.simulator import Evaluation

CUTOFF = 4.0
EXACT = 1e-10


@pytest.fixture(autouse=True)
def _double(double):
    torch.manual_seed(0)


def rattled(atoms, seed, size=0.1):
    atoms.positions += np.random.default_rng(seed).normal(0, size, atoms.positions.shape)
    return atoms


def ethanol():
    return State.from_ase(rattled(molecule("CH3CH2OH"), 0))


def slab():
    """Repeats in two directions only."""
    return State.from_ase(rattled(fcc111("Cu", (2, 2, 2), vacuum=None, a=3.6), 1))


def salt():
    """Skewed, smaller than the cutoff."""
    atoms = rattled(bulk("NaCl", "rocksalt", a=5.6), 2)
    strain = np.eye(3) + np.random.default_rng(3).normal(0, 0.05, (3, 3))
    atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
    return State.from_ase(atoms)


def one_atom_crystal():
    return State.from_ase(bulk("Cu", a=3.6))


def ions():
    rng = np.random.default_rng(4)
    numbers = np.array([1, 1, 6, 6, 1])
    places = np.array([[0, 0, 0], [1.5, 0, 0], [0, 1.6, 0], [0, 0, 1.7], [1.4, 1.5, 1.6]])
    places += rng.normal(0, 0.1, (5, 3))
    return State.from_frame(Frame(numbers, places, charges=rng.normal(size=5), total_charge=1.0))


SYSTEMS = {f.__name__: f for f in (ethanol, slab, salt, one_atom_crystal, ions)}


def force_field():
    model = ForceField(Encoder(CUTOFF, channels=8, lmax=2, layers=2))
    with torch.no_grad():  # readouts start small; here they should matter beside the repulsion
        for readout in model.readouts.parameters():
            readout.mul_(10.0)
    return adapted(model)


def force_field_of_high_degree():
    return adapted(ForceField(Encoder(CUTOFF, channels=4, lmax=3, layers=3), repulsion=False))


def pair_potential():
    return adapted(randomised(PairPotential(BesselBasis(CUTOFF), 30, "molecular")))


def adapted(model):
    frames = [system().frame() for system in SYSTEMS.values()]
    model.adapt(survey(frames, CUTOFF, MOLECULAR, None))
    return model.eval()


def randomised(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return model


MODELS = {f.__name__: f for f in (force_field, force_field_of_high_degree, pair_potential)}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.fixture(params=SYSTEMS)
def state(request):
    return SYSTEMS[request.param]()


def broken(kind):
    return randomised(kind(BesselBasis(CUTOFF), 30, "molecular"))


def difference(found, expected):
    """Largest deviation in energy, forces, and stress where there is one.

    Against the largest force where that is above one: round-off grows with what is computed.
    """
    parts = [found.energy - expected.energy, found.forces - expected.forces]
    if expected.stress is not None:
        parts.append((found.stress - expected.stress)[~expected.stress.isnan()])
    size = max(1.0, float(expected.forces.abs().max()))
    return max(float(part.abs().max()) if part.numel() else 0.0 for part in parts) / size


def changed(state, **fields):
    other = state.clone()
    for key, value in fields.items():
        other[key] = value
    return other


def turning_error(model, state, reflect):
    turn = random_rotation(torch.Generator().manual_seed(5), reflect)
    before = predict(model, state, stress=True)
    other = changed(state, positions=state.positions @ turn.T, cell=state.cell @ turn.T)
    after = predict(model, other, stress=True)
    before.forces.copy_(before.forces @ turn.T)
    before.stress.copy_(turn @ before.stress @ turn.T)
    return difference(after, before)


def translation_error(model, state):
    other = changed(state, positions=state.positions + torch.tensor([3.0, -20.0, 0.7]))
    return difference(predict(model, other, stress=True), predict(model, state, stress=True))


def permutation_error(model, state):
    order = torch.randperm(state.num_nodes, generator=torch.Generator().manual_seed(1)).flip(0)
    per_atom = ("numbers", "positions", "charges", "masses", "velocities")
    other = changed(state, **{key: state[key][order] for key in per_atom})
    before = predict(model, state, stress=True)
    before.forces.copy_(before.forces[order])
    return difference(predict(model, other, stress=True), before)


def image_error(model, state):
    images = torch.randint(-3, 4, state.positions.shape).double()
    other = changed(state, positions=state.positions + images @ state.cell[0])
    return difference(predict(model, other, stress=True), predict(model, state, stress=True))


def batch_error(model, states):
    together = predict(model, State.collate(states))
    alone = [predict(model, state.clone()) for state in states]
    energies = torch.cat([one.energy for one in alone])
    return difference(together, Evaluation(energies, torch.cat([one.forces for one in alone])))


@pytest.mark.parametrize("reflect", [False, True], ids=["rotated", "reflected"])
def test_outputs_turn_with_the_system(model, state, reflect):
    assert turning_error(model, state, reflect) < EXACT


def test_the_place_of_a_system_does_not_matter(model, state):
    assert translation_error(model, state) < EXACT


def test_the_order_of_atoms_does_not_matter(model, state):
    assert permutation_error(model, state) < EXACT


@pytest.mark.parametrize("system", [slab, salt, one_atom_crystal])
def test_any_periodic_image_of_an_atom_will_do(model, system):
    assert image_error(model, system()) < EXACT


def test_a_batch_of_many_equals_many_of_one(model):
    assert batch_error(model, [system() for system in SYSTEMS.values()]) < EXACT


def test_the_symmetry_checks_catch_models_that_are_each_broken_in_one_way():
    assert turning_error(broken(Lopsided), ethanol(), reflect=False) > 1e-3
    assert turning_error(broken(Lopsided), ethanol(), reflect=True) > 1e-3
    assert turning_error(broken(Chiral), ethanol(), reflect=False) < EXACT
    assert turning_error(broken(Chiral), ethanol(), reflect=True) > 1e-3
    assert translation_error(broken(Anchored), ethanol()) > 1e-3
    assert permutation_error(broken(Ordered), ethanol()) > 1e-3
    assert batch_error(broken(Sociable), [ethanol(), salt()]) > 1e-4
    assert image_error(broken(Boxless), salt()) > 1e-3


@pytest.mark.parametrize("system", [ethanol, slab, salt])
def test_forces_are_those_of_ases_finite_differences(model, system):
    atoms = system().to_ase()
    atoms.calc = SciwmCalculator(model)
    numerical = calculate_numerical_forces(atoms, eps=1e-5)
    assert np.abs(atoms.get_forces() - numerical).max() < 1e-6 * np.abs(numerical).max()


@pytest.mark.parametrize("system", [salt, one_atom_crystal])
def test_stress_is_that_of_ases_finite_differences(model, system):
    atoms = system().to_ase()
    atoms.calc = SciwmCalculator(model)
    stress = atoms.get_stress()
    numerical = calculate_numerical_stress(atoms, eps=1e-5, force_consistent=False)
    assert np.abs(stress - numerical).max() < 1e-6 * np.abs(numerical).max()


def test_the_derivative_check_catches_forces_that_are_no_gradient():
    atoms = ethanol().to_ase()
    atoms.calc = SciwmCalculator(adapted(broken(Uphill)))
    numerical = calculate_numerical_forces(atoms, eps=1e-5)
    assert np.abs(atoms.get_forces() - numerical).max() > 1e-3 * np.abs(numerical).max()


def test_total_force_and_torque_of_a_molecule_are_zero(model):
    state = ethanol()
    forces = predict(model, state).forces
    torque = torch.linalg.cross(state.positions, forces)
    assert forces.sum(0).abs().max() < EXACT
    assert torque.sum(0).abs().max() < EXACT


def test_a_crystal_of_one_atom_feels_no_force(model):
    assert predict(model, one_atom_crystal()).forces.abs().max() < EXACT


def test_the_energy_of_a_repeated_cell_is_that_many_times_larger(model):
    atoms = salt().to_ase()
    one = predict(model, State.from_ase(atoms)).energy
    many = predict(model, State.from_ase(atoms.repeat((2, 1, 3)))).energy
    assert torch.allclose(many, 6 * one, rtol=0, atol=1e-9)


def pull_across_the_cutoff(model, h):
    """Energy, force and its slope on a third particle, on either side of the cutoff of the first."""

    def at(distance):
        places = np.array([[0, 0, 0], [1.1, 0.3, 0], [0.6 * distance, 0.8 * distance, 0]])
        found = predict(model, State.from_frame(Frame(np.array([6, 8, 1]), places)))
        return float(found.energy[0]), float(found.forces[2] @ torch.tensor([0.6, 0.8, 0.0]))

    near, inner, outer, far = (at(CUTOFF + k * h) for k in (-2, -1, 1, 2))
    bend = (far[1] - outer[1]) - (inner[1] - near[1])
    return abs(outer[0] - inner[0]), abs(outer[1] - inner[1]), abs(bend) / h


def smooth(model):
    """Which of energy, force and curvature have no jump: one that has does not shrink with h."""
    wide, narrow = pull_across_the_cutoff(model, 1e-3), pull_across_the_cutoff(model, 1e-4)
    return [small < 0.2 * large + 1e-9 for large, small in zip(wide, narrow, strict=True)]


def test_energy_and_its_two_derivatives_are_continuous_at_the_cutoff(model):
    assert smooth(model) == [True, True, True]


def test_the_smoothness_check_catches_jumps_of_each_order():
    assert smooth(Abrupt(BesselBasis(CUTOFF), 30, "molecular"))[:2] == [False, False]
    assert smooth(Bent(BesselBasis(CUTOFF), 30, "molecular")) == [True, True, False]


def test_faster_varying_radial_functions_are_smaller_by_what_was_asked():
    r = torch.linspace(0.5, 4.5, 50)
    plain, smooth = BesselBasis(5.0, 8), BesselBasis(5.0, 8, decay=1.0)
    sizes = (smooth(r) / plain(r)).nanmedian(dim=0).values
    assert torch.allclose(sizes[0] / sizes, torch.arange(1.0, 9.0), rtol=1e-4)
    assert float(sizes.square().mean()) == pytest.approx(1.0, rel=1e-4)
    ours, theirs = (Encoder(4.0, 4, 1, 1, basis_decay=decay).basis for decay in (0.0, 1.0))
    assert not torch.allclose(ours(r[:40]), theirs(r[:40]))


def test_one_particle_alone_has_its_own_energy_and_no_force(model):
    lone = predict(model, State.from_frame(Frame(np.array([6]), np.array([[1.0, 2.0, 3.0]]))))
    again = predict(model, State.from_frame(Frame(np.array([6]), np.array([[-9.0, 0.0, 0.0]]))))
    assert torch.isfinite(lone.energy).all()
    assert torch.equal(lone.energy, again.energy)
    assert lone.forces.abs().max() == 0


def test_particles_out_of_reach_change_nothing(model):
    near = ethanol().frame()
    far = Frame(np.array([6]), np.array([[0.0, 0.0, 40.0]]))
    both = Frame(
        np.concatenate([near.numbers, far.numbers]), np.concatenate([near.positions, far.positions])
    )
    together = predict(model, State.from_frame(both))
    apart = [predict(model, State.from_frame(frame)) for frame in (near, far)]
    forces = torch.cat([one.forces for one in apart])
    assert (together.energy - sum(one.energy for one in apart)).abs().max() < EXACT
    assert (together.forces - forces).abs().max() < EXACT


def test_a_pair_potential_with_infinite_reach_has_its_symmetries_too():
    basis = InverseMultiquadricBasis(size=6)
    model = randomised(PairPotential(basis, 30, "molecular"))
    for reflect in (False, True):
        assert turning_error(model, ions(), reflect) < EXACT
    assert permutation_error(model, ions()) < EXACT
    assert batch_error(model, [ions(), ethanol()]) < EXACT


def test_charges_act_in_pairs():
    """Turning the sign of every charge changes nothing; turning one does."""
    model = randomised(PairPotential(InverseMultiquadricBasis(size=6), 30, "molecular"))
    state = ions()
    before = predict(model, state.clone()).energy
    flipped = predict(model, changed(state, charges=-state.charges)).energy
    one = state.charges.clone()
    one[0] = -one[0]
    assert torch.allclose(before, flipped)
    assert (predict(model, changed(state, charges=one)).energy - before).abs() > 1e-3


def test_features_of_the_encoder_are_invariant():
    encoder = Encoder(CUTOFF, channels=8, lmax=2, layers=2)
    state, turn = ethanol(), random_rotation(torch.Generator().manual_seed(6), reflect=True)

    def features(positions):
        other = attach_pairs(changed(state, positions=positions), CUTOFF)
        table = NeighbourTable.from_pairs(other)
        vectors = table.vectors(other.positions, other.cell, other.batch)
        geometry = Geometry.of(other, table, vectors, CUTOFF)
        return torch.stack(encoder(geometry))

    before, after = features(state.positions), features(state.positions @ turn.T)
    assert (before - after).abs().max() < EXACT
    assert (before - features(1.1 * state.positions)).abs().max() > 1e-3


def test_a_model_file_gives_back_the_same_model(model, tmp_path):
    record = {"files": [{"name": "a.h5md"}]}
    archives.save(Archive(model, data=record, check={"verdict": "pass"}), tmp_path / "model.pt")
    found = archives.load(tmp_path / "model.pt")
    before, after = predict(model, ethanol()), predict(found.model, ethanol())
    assert torch.equal(before.energy, after.energy)
    assert torch.equal(before.forces, after.forces)
    assert describe(found.model) == describe(model)
    assert found.data == record
    assert found.check == {"verdict": "pass"}
    assert found.model.domain.seen.sum() == model.domain.seen.sum()


def test_a_model_file_keeps_single_precision_and_exact_offsets(tmp_path):
    model = force_field()
    model.constants[6] = -1027.123456789012
    archives.save(Archive(model.float()), tmp_path / "model.pt")
    found = archives.load(tmp_path / "model.pt").model
    assert next(found.parameters()).dtype == torch.float32
    assert found.constants[6] == -1027.123456789012


@pytest.mark.parametrize(
    "path", ["os.system", "torch.nn.Linear", "sciwmevil.Model", "", "sciwm.os"]
)
def test_classes_from_elsewhere_are_refused(path):
    with pytest.raises(ModelFileError):
        build({"class_path": path, "init_args": {}})


def test_names_that_are_no_model_classes_are_refused():
    with pytest.raises(ModelFileError, match="not a model class"):
        build({"class_path": "sciwm.models.construction.importlib", "init_args": {}})


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.pt"
    archives.save(Archive(pair_potential()), path)
    return path


def rewritten(path, **changes):
    content = torch.load(path, weights_only=True) | changes
    del content["digest"]
    torch.save(content | {"digest": content_digest(content)}, path)
    return path


def test_a_foreign_class_in_a_file_is_refused(model_file):
    rewritten(model_file, model={"class_path": "torch.nn.Identity", "init_args": {}})
    with pytest.raises(ModelFileError, match="only classes under"):
        archives.load(model_file)


def test_a_damaged_file_is_refused(model_file):
    whole = model_file.read_bytes()
    model_file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match="damaged"):
        archives.load(model_file)


def test_a_file_with_code_in_it_is_refused_unrun(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"format": "sciwm-model", "model": Payload()}, tmp_path / "model.pt")
    with pytest.raises(ModelFileError):
        archives.load(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


def test_a_file_of_a_newer_version_asks_for_an_upgrade(model_file):
    rewritten(model_file, version=archives.VERSION + 1)
    with pytest.raises(ModelFileError, match="upgrade sciwm"):
        archives.load(model_file)


def test_weights_that_do_not_fit_are_refused(model_file):
    rewritten(model_file, state={"neutral": torch.zeros(2)})
    with pytest.raises(ModelFileError, match="do not fit"):
        archives.load(model_file)


def test_a_missing_file_says_where_models_come_from(tmp_path):
    with pytest.raises(FileNotFoundError, match="sciwm train"):
        archives.load(tmp_path / "none.pt")


@pytest.mark.parametrize("decay", [0, 1, 2])
def test_a_decay_of_the_basis_may_be_written_as_a_whole_number(decay):
    whole, real = BesselBasis(CUTOFF, 6, decay), BesselBasis(CUTOFF, 6, float(decay))
    assert torch.equal(whole.amplitudes, real.amplitudes)

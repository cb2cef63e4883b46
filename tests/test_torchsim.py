"""TorchSim runs our models, and gets what ASE gets."""

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.md.verlet import VelocityVerlet

pytest.importorskip("torch_sim", reason="TorchSim is not installed (the torchsim extra)")

import torch_sim
from torch_sim.models.interface import validate_model_outputs

from sciwm.core.state import frame_from_ase
from sciwm.interfaces.torchsim import TorchSimModel
from sciwm.interfaces.world import World
from sciwm.models.archive import Archive
from sciwm.models.domain import UnseenSpeciesError
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.statistics import survey


@pytest.fixture(scope="module")
def world() -> World:
    torch.manual_seed(0)
    model = ForceField(Encoder(4.0, channels=8, lmax=1, layers=1))
    frames = [bulk("Si", cubic=True), bulk("Fe", "fcc", a=5.26, cubic=True), molecule("CH3OH")]
    labels = [
        frame_from_ase(one).with_(energy=float(i), forces=np.ones((len(one), 3)))
        for i, one in enumerate(frames)
    ]
    model.adapt(survey(labels, 4.0, model.units, None))
    model.domain.closest.fill_(0.1)  # what is learned counts in sheared crystals too
    return World(Archive(model))


def test_the_interface_is_kept(world):
    validate_model_outputs(
        TorchSimModel(world, compute_stress=True), torch.device("cpu"), torch.float32
    )


def test_batches_of_skewed_crystals_get_what_ase_gets(world):
    crystals = [bulk("Si"), bulk("Si", cubic=True)]
    for seed, one in enumerate(crystals):
        one.rattle(0.1, seed=seed)
        one.set_cell(one.cell.array + np.diag([0.8, 0], k=1), scale_atoms=True)
    model = TorchSimModel(world, compute_stress=True)
    state = torch_sim.io.atoms_to_state(crystals, torch.device("cpu"), torch.float32)
    found = model(state)
    for index, one in enumerate(crystals):
        one.calc = world.calculator()
        rows = state.system_idx == index
        assert np.allclose(found["forces"][rows], one.get_forces(), atol=1e-4)
        stress = one.get_stress(voigt=False)
        assert np.allclose(found["stress"][index], stress, atol=1e-5 + 1e-3 * abs(stress).max())
        # Cells are columns there; taken for rows, a skewed one would give something else.
        assert abs(found["energy"][index] - one.get_potential_energy()) < 2e-5
    turned = torch_sim.io.atoms_to_state(crystals[:1], torch.device("cpu"), torch.float32)
    turned.cell = turned.cell.mT
    assert abs(model(turned)["energy"][0] - found["energy"][0]) > 1e-4


def test_a_trajectory_is_ases(world):
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=1)
    atoms.calc = world.calculator()
    VelocityVerlet(atoms, 0.5 * units.fs).run(20)
    start = molecule("CH3OH")
    start.rattle(0.05, seed=1)
    start.pbc = False
    model = TorchSimModel(world)
    state = torch_sim.io.atoms_to_state([start], torch.device("cpu"), torch.float32)
    init, step = torch_sim.integrators.nve(
        model, dt=torch.tensor(0.5 * units.fs), kT=torch.tensor(0.0)
    )
    moved = init(state)
    moved.momenta = torch.zeros_like(moved.momenta)
    for _ in range(20):
        moved = step(moved)
    assert np.allclose(moved.positions.numpy(), atoms.positions, atol=1e-4)
    assert not np.allclose(start.positions, atoms.positions, atol=1e-3)


def test_small_changes_of_large_energies_are_kept(world):
    """Total energies of molecules reach 1e4 eV, of which single precision keeps 1 meV."""
    model = TorchSimModel(world)
    constants = world.model.constants.clone()
    pulled = molecule("CH3OH")
    pulled.positions[0] += 0.002
    pair = [molecule("CH3OH"), pulled]
    for one in pair:
        one.pbc = False
    state = torch_sim.io.atoms_to_state(pair, torch.device("cpu"), torch.float32)
    before = model(state)["energy"].diff()
    try:
        world.model.constants -= 1e4
        after = TorchSimModel(World(world.archive))(state)["energy"].diff()
    finally:
        world.model.constants.copy_(constants)
    assert float(before.abs()) > 1e-7
    assert torch.allclose(after, before, atol=1e-9)
    assert not torch.allclose((before - 1e4).float() + 1e4, before.float(), atol=1e-7)


def test_elements_it_never_saw_are_refused(world):
    state = torch_sim.io.atoms_to_state([bulk("Cu")], torch.device("cpu"), torch.float32)
    with pytest.raises(UnseenSpeciesError, match="Cu"):
        TorchSimModel(world)(state)

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from conftest import water

from sciwm.core.state import State


def test_a_batch_holds_its_systems_unchanged():
    ones = [State.from_ase(molecule("H2O")), State.from_ase(bulk("Cu", cubic=True))]
    both = State.collate(ones)
    assert both.batch.tolist() == [0] * 3 + [1] * 4
    for index, one in enumerate(ones):
        again = both.system(index)
        for key in ("numbers", "positions", "masses", "cell", "pbc", "velocities"):
            assert torch.equal(again[key], one[key])


def test_collating_batches_joins_their_systems():
    one = State.from_ase(molecule("H2O"))
    both = State.collate([State.collate([one, one]), one])
    assert both.n_systems == 3
    assert both.batch.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_ase_and_back_keeps_positions_box_and_momenta():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.set_velocities(np.random.default_rng(0).normal(size=(2, 3)))
    again = State.from_ase(atoms, torch.float64).to_ase()
    np.testing.assert_allclose(again.positions, atoms.positions)
    np.testing.assert_allclose(again.cell, atoms.cell)
    np.testing.assert_allclose(again.get_momenta(), atoms.get_momenta(), rtol=1e-12)


def test_a_box_that_does_not_repeat_is_dropped():
    atoms = molecule("H2O", vacuum=5.0)
    assert not bool(State.from_ase(atoms).cell.any())


def test_smiles_become_a_molecule():
    state = State.from_smiles("CCO")
    assert sorted(state.numbers.tolist()) == [1] * 6 + [6, 6, 8]


def test_positions_that_are_no_numbers_are_refused():
    frame = water()
    bad = frame.positions.copy()
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match="particle 1"):
        State.from_frame(frame.with_(positions=bad))


def test_particle_types_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"0\.\.118"):
        State.from_frame(water().with_(numbers=np.array([8, 1, 300])))

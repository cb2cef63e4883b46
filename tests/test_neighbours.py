"""Neighbours against ASE's neighbour list and against brute force."""

import ase.neighborlist
import numpy as np
import pytest
import torch

from sciwm.core.frame import Frame
from sciwm.core.geometry import cell_heights, completed_cell, minimum_image
from sciwm.core.neighbours import (
    NeighbourTable,
    SkinTable,
    attach_pairs,
    brute_force_pairs,
    neighbour_pairs,
)
from sciwm.core.rotations import random_rotation
from sciwm.core.state import State

CUBE = np.eye(3) * 6.0
SKEWED = np.array([[5.0, 0.0, 0.0], [2.9, 4.0, 0.0], [-2.0, 1.5, 4.5]])
TINY = np.array([[2.5, 0.0, 0.0], [0.0, 2.5, 0.0], [1.0, 0.0, 2.5]])


def edges(pairs, shifts):
    """Both directions of every pair, as comparable rows."""
    first, second = pairs
    rows = [(*p, *s) for p, s in zip(zip(first, second, strict=True), shifts, strict=True)]
    rows += [(b, a, *(-np.array(s))) for a, b, *s in rows]
    return sorted(tuple(int(x) for x in row) for row in rows)


CASES = [
    (12, CUBE, (True, True, True), 3.0),
    (12, CUBE, (True, False, True), 4.0),
    (10, SKEWED, (True, True, True), 5.0),
    (10, SKEWED, (False, True, True), 3.5),
    (1, TINY, (True, True, True), 5.0),
    (9, np.zeros((3, 3)), (False, False, False), 2.5),
]


@pytest.mark.parametrize(("n", "cell", "pbc", "cutoff"), CASES)
@pytest.mark.parametrize("search", [neighbour_pairs, brute_force_pairs])
def test_neighbours_are_those_of_ase(n, cell, pbc, cutoff, search):
    rng = np.random.default_rng(n)
    # Positions outside the box too: any image must do.
    positions = rng.uniform(-4, 9, (n, 3))
    pbc = np.array(pbc)
    cell = np.where(pbc[:, None], cell, 0.0)
    i, j, shift = ase.neighborlist.primitive_neighbor_list(
        "ijS", pbc, completed_cell(cell, pbc), positions, cutoff
    )
    expected = sorted((int(a), int(b), *map(int, s)) for a, b, s in zip(i, j, shift, strict=True))
    assert edges(*search(positions, cell, pbc, cutoff)) == expected


def test_the_comparison_notices_a_missing_pair():
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 6, (12, 3))
    pairs, shifts = neighbour_pairs(positions, CUBE, np.array([True] * 3), 3.0)
    assert edges(pairs[:, 1:], shifts[1:]) != edges(pairs, shifts)


def test_a_molecule_far_from_the_origin_has_the_same_neighbours():
    rng = np.random.default_rng(1)
    positions = rng.uniform(0, 4, (9, 3))
    none = np.zeros((3, 3)), np.zeros(3, bool)
    here = edges(*neighbour_pairs(positions, *none, 2.5))
    there = edges(*neighbour_pairs(positions + 1e4, *none, 2.5))
    assert here == there


def test_an_infinite_cutoff_pairs_all_and_refuses_a_box():
    positions = np.random.default_rng(0).normal(size=(5, 3)) * 100
    pairs, _ = neighbour_pairs(positions, np.zeros((3, 3)), np.zeros(3, bool), np.inf)
    assert pairs.shape == (2, 10)
    with pytest.raises(ValueError, match="infinite"):
        neighbour_pairs(positions, CUBE, np.array([True] * 3), np.inf)


def test_a_cutoff_far_beyond_a_molecule_pairs_all_at_once():
    """As fast as any: the search is over the extent of the molecule, not over the cutoff."""
    positions = np.random.default_rng(0).normal(size=(5, 3)) * 100
    none = np.zeros((3, 3)), np.zeros(3, bool)
    far = edges(*neighbour_pairs(positions, *none, 1e9))
    assert far == edges(*neighbour_pairs(positions, *none, np.inf))
    with pytest.raises(ValueError, match=r"reaches over .* copies of a cell"):
        neighbour_pairs(positions, CUBE, np.array([True] * 3), 1e9)


def crystal(n: int, seed: int) -> State:
    rng = np.random.default_rng(seed)
    frame = Frame(
        numbers=np.full(n, 14),
        positions=rng.uniform(0, 5, (n, 3)),
        cell=SKEWED,
        pbc=np.array([True, True, True]),
    )
    return State.from_frame(frame, torch.float64)


def test_the_table_holds_every_edge_and_knows_its_reverse():
    state = attach_pairs(State.collate([crystal(4, 0), crystal(7, 1)]), 4.0)
    table = NeighbourTable.from_pairs(state)
    vectors = table.vectors(state.positions, state.cell, state.batch)
    assert int(table.real.sum()) == 2 * state.pairs.shape[1]
    back = vectors.flatten(0, 1)[table.reverse.flatten()].view_as(vectors)
    assert torch.equal(back[table.real], -vectors[table.real])
    assert torch.equal(state.batch[table.sender], state.batch[:, None].expand_as(table.sender))
    lengths = vectors.norm(dim=-1)[table.real]
    assert lengths.min() > 0
    assert lengths.max() <= 4.0 + 1e-12


def test_a_wrong_reverse_would_be_noticed():
    state = attach_pairs(crystal(7, 1), 4.0)
    table = NeighbourTable.from_pairs(state)
    vectors = table.vectors(state.positions, state.cell, state.batch)
    rolled = vectors.flatten(0, 1)[table.reverse.flatten().roll(1)].view_as(vectors)
    assert not torch.equal(rolled[table.real], -vectors[table.real])


def test_the_skin_rebuilds_when_an_atom_moves_or_is_wrapped():
    state = crystal(6, 2)
    skin = SkinTable(3.0, skin=0.6)
    skin.update(state)
    state.positions = state.positions + 0.1
    skin.update(state)
    assert skin.rebuilds == 1
    state.positions = state.positions + torch.tensor([5.0, 0.0, 0.0]) * (state.positions[:, :1] > 2)
    skin.update(state)
    assert skin.rebuilds == 2
    state.positions = state.positions + 0.31
    skin.update(state)
    assert skin.rebuilds == 3


@pytest.mark.parametrize("cell", [CUBE, SKEWED])
def test_the_minimum_image_is_the_shortest_of_many(cell):
    rng = np.random.default_rng(3)
    vectors = rng.uniform(-8, 8, (50, 3))
    pbc = np.array([True, True, True])
    found = minimum_image(vectors, cell, pbc)
    grid = np.array([[i, j, k] for i in range(-4, 5) for j in range(-4, 5) for k in range(-4, 5)])
    shortest = np.linalg.norm(vectors[:, None] + grid @ cell, axis=-1).min(axis=1)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), shortest, atol=1e-12)


def test_heights_of_a_skewed_cell_are_volume_over_area():
    heights = cell_heights(SKEWED, np.array([True, True, True]))
    volume = abs(np.linalg.det(SKEWED))
    areas = [np.linalg.norm(np.cross(SKEWED[(i + 1) % 3], SKEWED[(i + 2) % 3])) for i in range(3)]
    np.testing.assert_allclose(heights, volume / np.array(areas))


def test_random_rotations_are_orthogonal_with_the_wanted_sign():
    for reflect in (False, True):
        matrix = random_rotation(torch.Generator().manual_seed(1), reflect)
        assert torch.allclose(matrix @ matrix.T, torch.eye(3, dtype=torch.float64), atol=1e-14)
        assert float(torch.linalg.det(matrix)) == pytest.approx(-1.0 if reflect else 1.0)


def test_a_cutoff_of_next_to_nothing_is_refused():
    with pytest.raises(ValueError, match="within 1e-09"):
        neighbour_pairs(np.eye(3), np.zeros((3, 3)), np.zeros(3, dtype=bool), 1e-9)

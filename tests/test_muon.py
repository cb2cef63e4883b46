"""Muon: equal steps along all directions of a matrix, Adam elsewhere."""

import copy

import pytest
import torch
from torch import nn

from sciwm.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(6, 6), (3, 20), (20, 3), (4, 5, 8)])
def test_orthogonalised_matrices_keep_their_singular_vectors(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.mT @ orthogonalised(matrix) @ vh.mT
    sizes = torch.diagonal(inside, dim1=-2, dim2=-1)
    assert (inside - torch.diag_embed(sizes)).abs().max() < 1e-3
    assert sizes.min() > 0.5
    assert sizes.max() < 1.3
    assert (s - 1).abs().max() > 0.5  # the matrix itself is not orthogonal


def least_squares(optimiser, weight, steps=150):
    """The error left in weight @ x = y where inputs differ a hundredfold in size."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(8, 64, generator=generator) * torch.logspace(0, -2, 8)[:, None]
    target = torch.randn(8, 8, generator=generator) @ inputs
    (group,) = optimiser.param_groups
    peak = group["lr"]
    for step in range(steps):
        group["lr"] = peak * (1 - step / steps)
        optimiser.zero_grad()
        loss = (weight @ inputs - target).square().mean()
        loss.backward()
        optimiser.step()
    return float(loss.detach())


def test_badly_scaled_problems_are_solved_that_plain_momentum_leaves():
    start = torch.zeros(8, 8)
    muon, plain = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    left = least_squares(Muon([muon], [], matrix_rate=0.2, rate=0.1), muon)
    left_by_momentum = least_squares(torch.optim.SGD([plain], lr=0.5, momentum=0.95), plain)
    assert left < 0.2 * left_by_momentum


def test_a_stack_of_matrices_moves_like_its_matrices():
    stack = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    gradient = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    whole, parts = nn.Parameter(stack.clone()), [nn.Parameter(one.clone()) for one in stack]
    whole.grad = gradient.clone()
    for part, one in zip(parts, gradient, strict=True):
        part.grad = one.clone()
    Muon([whole], [], 0.1, 0.1).step()
    Muon(parts, [], 0.1, 0.1).step()
    assert torch.allclose(whole, torch.stack([one.detach() for one in parts]), atol=1e-6)
    assert not torch.allclose(whole, stack)


def test_what_is_no_matrix_follows_adam():
    ours, theirs = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    muon, adam = Muon([], [ours], 0.1, 0.01), torch.optim.Adam([theirs], lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        ours.grad = torch.randn(5, generator=generator)
        theirs.grad = ours.grad.clone()
        muon.step()
        adam.step()
    assert torch.allclose(ours, theirs, atol=1e-7)
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        Muon([ours], [], 0.1, 0.1)


def test_a_restored_optimiser_goes_on_as_if_nothing_had_happened():
    def steps(optimiser, weight, seeds):
        for seed in seeds:
            weight.grad = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))
            optimiser.step()

    weight = nn.Parameter(torch.zeros(4, 4))
    unbroken = Muon([weight], [], 0.1, 0.1)
    steps(unbroken, weight, (0, 1))
    again = nn.Parameter(weight.detach().clone())
    restored = Muon([again], [], 0.1, 0.1)
    fresh = nn.Parameter(weight.detach().clone())
    restored.load_state_dict(copy.deepcopy(unbroken.state_dict()))
    steps(unbroken, weight, (2, 3))
    steps(restored, again, (2, 3))
    steps(Muon([fresh], [], 0.1, 0.1), fresh, (2, 3))
    assert torch.equal(weight, again)
    assert not torch.allclose(weight, fresh)


def test_fewer_rounds_follow_the_directions_that_matter_most():
    u, _, vh = torch.linalg.svd(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
    gradient = u @ torch.diag(torch.tensor([1.0, 0.3, 0.1, 0.01])) @ vh
    spreads = []
    for rounds in (0, 1, 3, 5):
        weight = nn.Parameter(torch.zeros(4, 4))
        weight.grad = gradient.clone()
        Muon([weight], [], 1.0, 0.1, rounds).step()
        sizes = torch.linalg.svdvals(weight.detach())
        spreads.append(float(sizes.max() / sizes.min()))
        assert 0.5 < float(sizes.max()) < 1.3
    assert spreads[0] == pytest.approx(100, rel=1e-3)
    assert spreads == sorted(spreads, reverse=True)
    with pytest.raises(ValueError, match="got -1"):
        Muon([weight], [], 1.0, 0.1, -1)

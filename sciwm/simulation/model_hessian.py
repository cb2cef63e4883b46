"""A guess of the curvature of molecules, from their geometry alone.

Force constants of stretches, bends and torsions that fade with distance (R. Lindh, A. Bernhardsson,
G. Karlström and P.-Å. Malmqvist, Chem. Phys. Lett. 241, 423 (1995), equations 1-4 and table 1), for a
search that must know which motions are stiff and which are not before it has seen them: a bond is a
thousand times stiffer than the turning of a chain about it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sciwm.core.state import State

_HARTREE, _BOHR = 27.211386, 0.529177211
_STRETCH, _BEND, _TORSION = 0.45, 0.15, 0.005
"""Hartree/bohr², hartree/rad² and hartree/rad²."""

_DECAY = ((1.0, 0.3949, 0.3949), (0.3949, 0.28, 0.28), (0.3949, 0.28, 0.28))
_LENGTH = ((1.35, 2.10, 2.53), (2.10, 2.87, 3.40), (2.53, 3.40, 3.40))
"""By rows of the periodic table, all from the third on alike: bohr⁻² and bohr."""

NON_METALS = (1, 2, *range(5, 11), *range(14, 19), *range(33, 37), 52, 53, 54)
"""Elements whose bonds it is made for; in metals it is no better than nothing."""

_BONDED = 0.1
"""Of what fades with distance, the least that bends and torsions are made of."""

_LEAST = 0.1
"""Curvature of every motion, in eV/Å²: where atoms do not bind and where a molecule drifts or turns."""

_STRAIGHT = 0.3
"""Radian from 0 or 180° within which an angle defines no torsion; within a tenth, no bend."""


def model_hessian(state: State) -> Tensor:
    """(S, 3M, 3M) positive definite, in eV/Å², for M atoms of the largest system; float64.

    Args:
        state: Atoms of elements in Å; images of systems that repeat are not seen.
    """
    numbers, places = _padded(state)
    n_systems, width = numbers.shape
    hessian = torch.zeros(n_systems, 3 * width, 3 * width, dtype=places.dtype, device=places.device)
    hessian.diagonal(dim1=1, dim2=2).fill_(_LEAST)
    strength = _strength(numbers, places)
    pairs = torch.nonzero(torch.triu(strength, 1) > 1e-3)
    _add(hessian, places, pairs, _STRETCH / _BOHR**2 * _at(strength, pairs, 0, 1), _length)
    bonded = strength > _BONDED
    bonds = torch.nonzero(bonded)
    ways = _longer(bonds, bonded)  # each angle from both of its ends
    ways = ways[
        (_angle(_points(places, ways)) - torch.pi / 2).abs() < torch.pi / 2 - _STRAIGHT / 10
    ]
    angles = ways[ways[:, 1] < ways[:, 3]]
    _add(hessian, places, angles, _BEND * _along(strength, angles), _angle)
    turns = _longer(ways, bonded)
    turns = turns[turns[:, 2] < turns[:, 3]]
    bent = [_angle(_points(places, turns[:, [0, *ends]])) for ends in ((1, 2, 3), (2, 3, 4))]
    defined = (torch.stack(bent) - torch.pi / 2).abs().amax(dim=0) < torch.pi / 2 - _STRAIGHT
    turns = turns[defined]
    _add(hessian, places, turns, _TORSION * _along(strength, turns), _dihedral)
    return hessian


def model_step(state: State, gradient: Tensor) -> Tensor:
    """(A, 3) the gradient over the modelled curvature: what leads to the minimum of the model."""
    factor = torch.linalg.cholesky(model_hessian(state))
    rows = factor.new_zeros(state.n_systems, factor.shape[1] // 3, 3)
    place = (state.batch, _columns(state))
    rows[place] = gradient.to(factor)
    solved = torch.cholesky_solve(rows.flatten(1)[..., None], factor)
    return solved.view_as(rows)[place].to(gradient)


def _columns(state: State) -> Tensor:
    """(A,) the number of each atom in its system."""
    counts = state.counts
    first = torch.cumsum(counts, 0) - counts
    return torch.arange(len(state.batch), device=counts.device) - first[state.batch]


def _padded(state: State) -> tuple[Tensor, Tensor]:
    """(S, M) numbers, 0 where there is no atom, and (S, M, 3) positions."""
    column, width = _columns(state), int(state.counts.max())
    numbers = state.numbers.new_zeros(state.n_systems, width)
    numbers[state.batch, column] = state.numbers
    places = state.positions.new_zeros(state.n_systems, width, 3, dtype=torch.float64)
    places[state.batch, column] = state.positions.double()
    return numbers, places


def _strength(numbers: Tensor, places: Tensor) -> Tensor:
    """(S, M, M) exp(α (r₀² - r²)), from 1 for a bond of usual length to 0; 0 for an atom and itself."""
    row = (numbers > 2).long() + (numbers > 10).long()
    decay = places.new_tensor(_DECAY)[row[:, :, None], row[:, None, :]]
    length = places.new_tensor(_LENGTH)[row[:, :, None], row[:, None, :]]
    squared = (places[:, :, None] - places[:, None]).square().sum(-1) / _BOHR**2
    # Atoms much too near would be stiffer than anything, and the steps of all others short.
    strength = torch.exp(decay * (length.square() - squared)).clamp(max=2.0)
    there = (numbers > 0)[:, :, None] & (numbers > 0)[:, None, :]
    return torch.where(there, strength, 0.0) * (1 - torch.eye(numbers.shape[1]).to(places))


def _longer(chains: Tensor, bonded: Tensor) -> Tensor:
    """(T', m + 1) chains of bonded atoms, each (T, m) one with every atom at its end that is not in it.

    A chain is a row: its system, then its atoms.
    """
    grown = bonded[chains[:, 0], chains[:, -1]]
    grown = grown.scatter(1, chains[:, 1:], False)
    chain, atom = torch.nonzero(grown, as_tuple=True)
    return torch.cat([chains[chain], atom[:, None]], dim=1)


def _at(strength: Tensor, chains: Tensor, first: int, second: int) -> Tensor:
    return strength[chains[:, 0], chains[:, 1 + first], chains[:, 1 + second]]


def _along(strength: Tensor, chains: Tensor) -> Tensor:
    """(T,) the product over the bonds of each chain."""
    bonds = [_at(strength, chains, k, k + 1) for k in range(chains.shape[1] - 2)]
    return torch.stack(bonds).prod(dim=0)


def _points(places: Tensor, chains: Tensor) -> Tensor:
    """(T, m, 3)."""
    return places[chains[:, :1], chains[:, 1:]]


def _add(
    hessian: Tensor,
    places: Tensor,
    chains: Tensor,
    constants: Tensor,
    coordinate: Callable[[Tensor], Tensor],
) -> None:
    """Adds k ∇q ∇qᵀ of an internal coordinate q of each chain, k in hartree per unit of q squared."""
    if len(chains) == 0:
        return
    points = _points(places, chains).requires_grad_(True)
    with torch.enable_grad():
        (slopes,) = torch.autograd.grad(coordinate(points).sum(), points)
    slopes = slopes.flatten(1)
    axes = torch.arange(3, device=chains.device)
    rows = (3 * chains[:, 1:, None] + axes).flatten(1)
    outer = _HARTREE * constants[:, None, None] * slopes[:, :, None] * slopes[:, None, :]
    place = (chains[:, :1, None], rows[:, :, None], rows[:, None, :])
    hessian.index_put_(place, outer, accumulate=True)


def _length(points: Tensor) -> Tensor:
    return (points[:, 1] - points[:, 0]).norm(dim=-1)


def _angle(points: Tensor) -> Tensor:
    one, other = points[:, 0] - points[:, 1], points[:, 2] - points[:, 1]
    return torch.atan2(torch.linalg.cross(one, other).norm(dim=-1), (one * other).sum(-1))


def _dihedral(points: Tensor) -> Tensor:
    one, axis, other = points.diff(dim=1).unbind(dim=1)
    first, second = torch.linalg.cross(one, axis), torch.linalg.cross(axis, other)
    sine = (torch.linalg.cross(first, second) * axis).sum(-1) / axis.norm(dim=-1)
    return torch.atan2(sine, (first * second).sum(-1))

"""Distances, angles and torsions of particles, with their gradients. No periodic image is looked for."""

import torch
from torch import Tensor


def distance(points: Tensor) -> tuple[Tensor, Tensor]:
    """(S,) distances of two particles, and (S, 2, 3) their gradients.

    Args:
        points: (S, 2, 3).
    """
    arm = points[:, 1] - points[:, 0]
    length = arm.norm(dim=-1)
    unit = arm / length[:, None]
    return length, torch.stack([-unit, unit], dim=1)


def angle(points: Tensor) -> tuple[Tensor, Tensor]:
    """(S,) angles at the second of three particles in radians, and (S, 3, 3) their gradients.

    Args:
        points: (S, 3, 3).
    """
    arms = points[:, [0, 2]] - points[:, 1:2]
    lengths = arms.norm(dim=-1, keepdim=True)
    units = arms / lengths
    cosine = (units[:, 0] * units[:, 1]).sum(-1).clamp(-1.0, 1.0)
    # Straight, there is no direction to bend it in.
    sine = (1.0 - cosine**2).sqrt().clamp(min=1e-6)
    other = units.flip(1)
    ends = (cosine[:, None, None] * units - other) / (sine[:, None, None] * lengths)
    gradients = torch.stack([ends[:, 0], -ends.sum(1), ends[:, 1]], dim=1)
    return torch.acos(cosine), gradients


def torsion(points: Tensor) -> tuple[Tensor, Tensor]:
    """(S,) torsions of four particles in radians by IUPAC's sign, and (S, 4, 3) their gradients by Blondel
    & Karplus, J. Comput. Chem. 17, 1132 (1996), equation 27.

    Args:
        points: (S, 4, 3).
    """
    first, axis, last = (
        points[:, 0] - points[:, 1],
        points[:, 1] - points[:, 2],
        points[:, 3] - points[:, 2],
    )
    a, b = torch.linalg.cross(first, axis), torch.linalg.cross(last, axis)
    length = axis.norm(dim=-1, keepdim=True)
    sine = (torch.linalg.cross(b, a) * axis).sum(-1) / length[:, 0]
    value = torch.atan2(sine, (a * b).sum(-1))
    a, b = a / a.square().sum(-1, keepdim=True), b / b.square().sum(-1, keepdim=True)
    along = (first * axis).sum(-1, keepdim=True) / length * a
    along = along - (last * axis).sum(-1, keepdim=True) / length * b
    ends = -length * a, length * b
    return value, torch.stack([ends[0], along - ends[0], -along - ends[1], ends[1]], dim=1)

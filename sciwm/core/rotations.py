"""Random rotations and reflections, to hold symmetries against."""

import torch
from torch import Tensor


def random_rotation(generator: torch.Generator, reflect: bool = False) -> Tensor:
    """(3, 3) float64, uniform over rotations; over improper ones when `reflect`."""
    matrix = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(matrix)
    q = q * torch.sign(torch.diagonal(r))
    wanted = -1.0 if reflect else 1.0
    return q * (wanted * torch.sign(torch.linalg.det(q)))

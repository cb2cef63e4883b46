"""How wrong the force on a particle may be, told from its features: no second model, no second pass.

Features far from those of the training data are features that the readout was never fitted on. How far, the
covariance of the training features says, as in a model that is Bayesian in its last layer (Bigi et al. 2024,
arXiv:2403.02251); which error goes with it is measured on frames that were held back.
"""

import numpy as np
import torch
from torch import Tensor, nn

from sciwm.core.frame import Array
from sciwm.core.state import MAX_NUMBER

RIDGE = 1e-3
"""Of the mean variance of the features, added to each: those that hardly vary would rule the distance."""

USUAL_POWER = 0.8
"""With which errors grow with the distance; where little was held back, this is kept to."""

STEEPEST = 1.5
"""Power, beyond which a structure far outside would be said to be wrong by any amount."""

DOUBT = 50.0
"""Particles of an element that weigh as much as what is known without them."""

COVERED = 0.9
"""Share of errors that lie within the bound."""

FARTHER = 3.0
"""A particle is outside where its expected error exceeds the largest of held-back frames this many times."""


class ForceError(nn.Module):
    """The expected error of the force on a particle.

    error = size(element) · distance^power

    Args:
        features: How many a particle has.

    Attributes:
        largest: The largest expected error in held-back frames.
    """

    centre: Tensor
    whitening: Tensor
    power: Tensor
    size: Tensor
    bound: Tensor
    largest: Tensor

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("whitening", torch.eye(features))
        self.register_buffer("power", torch.tensor(USUAL_POWER))
        self.register_buffer("size", torch.ones(MAX_NUMBER + 1))
        self.register_buffer("bound", torch.tensor(1.0))
        self.register_buffer("largest", torch.tensor(torch.inf))

    def forward(self, features: Tensor, numbers: Tensor) -> Tensor:
        """(A,) root mean square error to expect of the force on each particle.

        Args:
            features: (A, features).
            numbers: (A,) particle types.
        """
        return self.size[numbers] * self.distance(features).pow(self.power)

    def distance(self, features: Tensor) -> Tensor:
        """(A,) how far features lie from those of the training data, in their standard deviations."""
        away = (features - self.centre) @ self.whitening
        return away.square().mean(-1).add(1e-12).sqrt()

    def cover(self, features: Tensor) -> None:
        """Takes (A, features) of particles of the training data as what is known."""
        exact = features.double()
        centre = exact.mean(0)
        away = exact - centre
        covariance = away.T @ away / len(exact)
        ridge = RIDGE * covariance.diagonal().mean().clamp(min=1e-12)
        covariance = covariance + ridge * torch.eye(len(covariance)).to(covariance)
        # Of the inverse covariance W Wᵀ, so that away W has unit variance.
        whitening = torch.linalg.cholesky(torch.linalg.inv(covariance))
        self.centre.copy_(centre)
        self.whitening.copy_(whitening)

    def calibrate(self, features: Tensor, numbers: Tensor, errors: Tensor) -> None:
        """Measures which errors go with the distance, on frames that were held back.

        Args:
            features: (A, features) of their particles.
            numbers: (A,).
            errors: (A,) length of the error of the force on each.
        """
        distance = np.log(self.distance(features).double().cpu().numpy())
        kinds = numbers.cpu().numpy()
        seen = np.log(errors.double().cpu().numpy() + 1e-9)
        power = _slope(distance, seen, kinds)
        rest = seen - power * distance
        sizes = np.full(MAX_NUMBER + 1, rest.mean())
        for number in np.unique(kinds):
            own = rest[kinds == number]
            sizes[number] = (own.sum() + DOUBT * rest.mean()) / (len(own) + DOUBT)
        ratio = np.exp(rest - sizes[kinds])
        typical = float(np.sqrt(np.mean(ratio**2)))
        self.power.fill_(power)
        self.size.copy_(torch.as_tensor(np.exp(sizes) * typical))
        self.bound.fill_(float(np.quantile(ratio, COVERED)) / typical)
        self.largest.fill_(float(self(features, numbers).max()))


def _slope(distance: Array, error: Array, kinds: np.ndarray) -> float:
    """Of logarithms, within each element; drawn to the usual one where particles are few."""
    moment, overlap = 0.0, 0.0
    for number in np.unique(kinds):
        own = kinds == number
        away = distance[own] - distance[own].mean()
        moment += float(away @ away)
        overlap += float(away @ error[own])
    doubt = DOUBT * 0.05  # the spread of logarithms of distances is about a quarter
    return float(np.clip((overlap + doubt * USUAL_POWER) / (moment + doubt), 0.0, STEEPEST))

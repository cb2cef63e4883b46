"""A particle on a surface of energy that three anchors span, in a plane.

What a learned world sees are four particles: it is told neither the surface nor where its axes point, and the
energy stays the same however all four are moved, turned or mirrored together.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.core.units import REDUCED, UnitSystem
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.dynamics.potential import Potential
from sciwm.models.encoders.encoder import Encoder
from sciwm.simulation.simulator import Evaluation

WALKER, ORIGIN, RIGHT, UP = range(4)
"""Particles of each system, in order; anchors are of types of their own."""


class Landscape(ABC):
    """The energy of a particle at coordinates x and y, which are told by the anchors.

    x runs from the first anchor to the second; y is across, on the side of the third.

    Args:
        corner: (2,) coordinates of the first anchor.
    """

    units: UnitSystem = REDUCED
    corner: tuple[float, float]

    @property
    def fingerprint(self) -> str:
        """Tells it from all others."""
        return f"{type(self).__name__} {vars(self)}"

    @abstractmethod
    def energy(self, x: Tensor, y: Tensor) -> Tensor:
        """(S,) at (S,) coordinates."""

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        """Energies and the forces on the walker and the anchors, which add up to none."""
        with torch.enable_grad():
            positions = state.positions.detach().requires_grad_(True)
            points = positions.reshape(-1, 4, 3)
            across = points[:, RIGHT] - points[:, ORIGIN]
            x_axis = across / across.norm(dim=1, keepdim=True)
            up = points[:, UP] - points[:, ORIGIN]
            up = up - (up * x_axis).sum(1, keepdim=True) * x_axis
            y_axis = up / up.norm(dim=1, keepdim=True)
            arm = points[:, WALKER] - points[:, ORIGIN]
            x = (arm * x_axis).sum(1) + self.corner[0]
            y = (arm * y_axis).sum(1) + self.corner[1]
            energy = self.energy(x, y)
            (slope,) = torch.autograd.grad(energy.sum(), positions)
        return Evaluation(energy.detach(), -slope)

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        """Nowhere."""
        return {}

    def start(self, place: Sequence[float], anchors: Sequence[Sequence[float]]) -> State:
        """One system at rest, with the walker and the anchors at coordinates x and y."""
        points = np.zeros((4, 3))
        points[:, :2] = [place, *anchors]
        frame = Frame(numbers=np.arange(1, 5), positions=points, masses=np.ones(4), dimension=2)
        return State.from_frame(frame, torch.float64)


def untrained(cutoff: float) -> Potential:
    """A force field of one round of messages, which sees all anchors and has learned nothing yet."""
    encoder = Encoder(cutoff, channels=16, lmax=2, layers=1, basis_size=16)
    return ForceField(encoder, repulsion=False, unit_system="reduced")


class DoubleWell(Landscape):
    """U = h (x² - 1)² + k y² / 2.

    Args:
        height: h, of the barrier between the wells at x = -1 and x = 1.

    Attributes:
        stiffness: k.
    """

    corner = (-3.0, -3.0)
    stiffness = 8.0

    def __init__(self, height: float = 2.0):
        self.height = height

    def energy(self, x: Tensor, y: Tensor) -> Tensor:
        return self.height * (x**2 - 1) ** 2 + 0.5 * self.stiffness * y**2


class MullerBrown(Landscape):
    """Four Gaussians of Müller & Brown, Theor. Chim. Acta 53, 75 (1979), footnote 7, times 1/50: minima at
    (-0.558, 1.442), (0.623, 0.028) and (-0.050, 0.467), saddles 2.1 above the first and 0.7 above the second.
    """

    corner = (-3.0, -2.0)
    scale = 0.02

    def energy(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for height, a, b, c, x0, y0 in _GAUSSIANS:
            u, v = x - x0, y - y0
            total = total + height * torch.exp(a * u**2 + b * u * v + c * v**2)
        return self.scale * total


_GAUSSIANS = (
    (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
    (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
    (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
    (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
)

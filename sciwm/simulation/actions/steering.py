"""Steering: a spring along a distance, an angle or a torsion, whose rest value moves from one to another.

U(t) = k (q(x) - λ(t))² / 2, where λ goes from `begin` to `end` in `duration` at constant speed and then
stays. The work that it does is what Jarzynski's equality asks for (Phys. Rev. Lett. 78, 2690 (1997)).
No periodic image is looked for.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.simulation.actions.action import (
    Energy,
    Force,
    Length,
    Particles,
    Stiffness,
    Time,
    number,
    places,
)
from sciwm.simulation.actions.forces import require_different


@dataclass(frozen=True)
class Steering(Force, ABC):
    """What the three have in common.

    Attributes:
        particles: That make up the coordinate, in order.
        duration: Of the way from `begin` to `end`.
    """

    breaks = frozenset({"energy"})
    size: ClassVar[int]
    """Particles of the coordinate."""

    particles: Particles
    duration: Time

    def __post_init__(self) -> None:
        require_different(self.particles, self.size)
        if not isinstance(self.duration, str) and not self.duration > 0:
            raise ValueError(f"duration must be positive, got {self.duration}")

    @abstractmethod
    def coordinate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(S,) values at (S, size, 3) positions, and (S, size, 3) their gradients."""

    @abstractmethod
    def spring(self) -> tuple[float, float, float]:
        """k, and λ at the beginning and the end, in the units of the coordinate."""

    def excess(self, values: Tensor, rest: float) -> Tensor:
        """(S,) q - λ."""
        return values - rest

    def act(self, state: State, time: float) -> tuple[Tensor, Tensor]:
        stiffness, begin, end = self.spring()
        rest = begin + min(max(time / number(self.duration), 0.0), 1.0) * (end - begin)
        where = places(state, self.particles)
        values, gradients = self.coordinate(state.positions[where])
        excess = self.excess(values, rest)
        forces = torch.zeros_like(state.positions)
        forces[where.flatten()] = (-stiffness * excess[:, None, None] * gradients).flatten(0, 1)
        return 0.5 * stiffness * excess**2, forces


@dataclass(frozen=True)
class SteeredDistance(Steering):
    """Along the distance of two particles.

    Attributes:
        stiffness: k.
        begin: λ at first.
        end: λ at last.
    """

    size = 2
    stiffness: Stiffness
    begin: Length
    end: Length

    def spring(self) -> tuple[float, float, float]:
        return number(self.stiffness), number(self.begin), number(self.end)

    def coordinate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        arm = points[:, 1] - points[:, 0]
        distance = arm.norm(dim=-1)
        unit = arm / distance[:, None]
        return distance, torch.stack([-unit, unit], dim=1)


@dataclass(frozen=True)
class AngularSteering(Steering, ABC):
    """Along a coordinate that is an angle.

    Attributes:
        stiffness: k, per square radian.
        begin: λ at first, in degrees.
        end: λ at last, in degrees.
    """

    stiffness: Energy
    begin: float
    end: float

    def spring(self) -> tuple[float, float, float]:
        return number(self.stiffness), math.radians(self.begin), math.radians(self.end)


@dataclass(frozen=True)
class SteeredAngle(AngularSteering):
    """Along the angle at the second of three particles."""

    size = 3

    def coordinate(self, points: Tensor) -> tuple[Tensor, Tensor]:
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


@dataclass(frozen=True)
class SteeredTorsion(AngularSteering):
    """Along the torsion of four particles, by IUPAC's sign; gradients by Blondel & Karplus,
    J. Comput. Chem. 17, 1132 (1996), equation 27. `end` may lie several turns away from `begin`.
    """

    size = 4

    def excess(self, values: Tensor, rest: float) -> Tensor:
        turn = 2 * math.pi
        return torch.remainder(values - rest + math.pi, turn) - math.pi

    def coordinate(self, points: Tensor) -> tuple[Tensor, Tensor]:
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

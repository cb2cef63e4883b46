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
    PlainNumber,
    Stiffness,
    Time,
    numbers_of,
    per_system,
    places,
    vectors,
)
from sciwm.simulation.actions.forces import require_different
from sciwm.simulation.internal_coordinates import angle, distance, torsion


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
        if not all(one > 0 for one in numbers_of(self.duration)):
            raise ValueError(f"duration must be positive, got {self.duration}")

    @abstractmethod
    def coordinate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(S,) values at (S, size, 3) positions, and (S, size, 3) their gradients."""

    @abstractmethod
    def spring(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """(S,) k, and λ at the beginning and the end, in the units of the coordinate."""

    def excess(self, values: Tensor, rest: Tensor) -> Tensor:
        """(S,) q - λ."""
        return values - rest

    def act(self, state: State, time: float | Tensor) -> tuple[Tensor, Tensor]:
        stiffness, begin, end = self.spring(state)
        share = (per_system(time, state) / per_system(self.duration, state)).clamp(0.0, 1.0)
        rest = begin + share * (end - begin)
        where = places(state, self.particles)
        values, gradients = self.coordinate(state.positions[where])
        excess = self.excess(values, rest)
        forces = torch.zeros_like(state.positions)
        forces[where.flatten()] = (-(stiffness * excess)[:, None, None] * gradients).flatten(0, 1)
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

    def spring(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        stiffness, begin, end = vectors([self.stiffness, self.begin, self.end], state).unbind(-1)
        return stiffness, begin, end

    def coordinate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return distance(points)


@dataclass(frozen=True)
class AngularSteering(Steering, ABC):
    """Along a coordinate that is an angle.

    Attributes:
        stiffness: k, per square radian.
        begin: λ at first, in degrees.
        end: λ at last, in degrees.
    """

    stiffness: Energy
    begin: PlainNumber
    end: PlainNumber

    def spring(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        begin, end = torch.deg2rad(vectors([self.begin, self.end], state)).unbind(-1)
        return per_system(self.stiffness, state), begin, end


@dataclass(frozen=True)
class SteeredAngle(AngularSteering):
    """Along the angle at the second of three particles."""

    size = 3

    def coordinate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return angle(points)


@dataclass(frozen=True)
class SteeredTorsion(AngularSteering):
    """Along the torsion of four particles; `end` may lie several turns away from `begin`."""

    size = 4

    def excess(self, values: Tensor, rest: Tensor) -> Tensor:
        turn = 2 * math.pi
        return torch.remainder(values - rest + math.pi, turn) - math.pi

    def coordinate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return torsion(points)

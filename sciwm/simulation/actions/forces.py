"""Forces from outside on chosen particles: constant, in a field, by springs, from walls."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor

from sciwm.core.bounds import require_not_negative
from sciwm.core.state import State
from sciwm.simulation.actions.action import (
    Charge,
    FieldSize,
    Force,
    ForceSize,
    Length,
    Particles,
    PlainNumber,
    Rate,
    Stiffness,
    Time,
    Value,
    Velocity,
    exact,
    numbers_of,
    per_system,
    places,
    vectors,
)
from sciwm.simulation.simulator import FieldSimulator, Simulator
from sciwm.simulation.velocities import sum_by_system


@dataclass(frozen=True)
class ConstantForce(Force):
    """The same force on each of some particles.

    Attributes:
        force: Its three components.
    """

    particles: Particles
    force: list[ForceSize]

    def __post_init__(self) -> None:
        require_vector("force", self.force)

    def act(self, state: State, time: float | Tensor) -> tuple[Tensor, Tensor]:
        where = places(state, self.particles)
        pull = vectors(self.force, state)[:, None].expand(*where.shape, 3)
        forces = torch.zeros_like(state.positions)
        forces[where.flatten()] = pull.flatten(0, 1)
        return -(state.positions[where] * pull).sum((1, 2)), forces


class OwnCharges:
    """How a field pulls at charges that a simulator finds itself.

    A stride begins where the one before ended, so that the last answer is remembered.
    """

    def __init__(self, simulator: FieldSimulator):
        self._simulator = simulator
        self._last: tuple[Tensor, int, Tensor, tuple[Tensor, Tensor]] | None = None

    def act(self, state: State, field: Tensor) -> tuple[Tensor, Tensor]:
        """As `Force.act`.

        Args:
            field: (S, 3).
        """
        where, last = state.positions, self._last
        if last is not None and last[1] == last[0]._version and torch.equal(last[2], field):
            here = last[0] is where or torch.equal(last[0], where)
            if here:
                return last[3]
        if not bool(field.any()):
            return where.new_zeros(state.n_systems), torch.zeros_like(where)
        energy, forces = self._simulator.field_response(state, field)
        found = energy.to(where), forces.to(where)
        self._last = where, where._version, field, found
        return found


@dataclass(frozen=True)
class UniformField(Force):
    """An electric field that is the same everywhere, on charges.

    E(t) = E cos(2π ν t + φ) from `begin` to `end`; the energy is -Σ q x·E. Where particles carry no charges,
    as in molecules, it is what the simulator says of charges that it finds itself.

    Attributes:
        field: The three components of E, such as ["0.1 V/Å", 0, 0].
        frequency: ν; none for a field that stays.
        phase: φ in radians.
        begin: When it is switched on.
        end: When it is switched off; none for never.
        charges: One for each particle of a system; without it, those of the state, or the simulator's.
        own: What the simulator says, where that is asked; found when a motion begins.
    """

    field: list[FieldSize]
    frequency: Rate | None = None
    phase: PlainNumber = 0.0
    begin: Time = 0.0
    end: Time | None = None
    charges: list[Charge] | None = None
    own: OwnCharges | None = dataclasses.field(
        default=None, compare=False, metadata={"found": True}
    )

    def __post_init__(self) -> None:
        require_vector("field", self.field)
        if not (self.own is None or isinstance(self.own, OwnCharges)):
            raise ValueError("`own` is found when a motion begins; leave it out")

    def beside(self, simulator: Simulator | None, state: State) -> Self:
        carried = self.charges is not None or bool(state.charges.any())
        if carried or not getattr(simulator, "feels_fields", False):
            return dataclasses.replace(self, own=None)
        return dataclasses.replace(self, own=OwnCharges(cast(FieldSimulator, simulator)))

    def require_fitting(self, state: State) -> None:
        """Raises ValueError where it would act on nothing, or on others than it has charges for."""
        counts = state.counts
        if self.charges is not None and bool((counts != len(self.charges)).any()):
            raise ValueError(
                f"UniformField is given {len(self.charges)} charges, but the systems have "
                f"{counts.tolist()} particles; give one for each"
            )
        if self.own is not None and bool(state.pbc.any()):
            raise ValueError(
                "UniformField has nothing to act on in a system that repeats, whose own charges have no "
                "dipole; give it `charges`, one for each particle"
            )
        if self.charges is None and self.own is None:
            bare = sum_by_system(state.charges.abs(), state) == 0
            if bool(bare.any()) and not bool(bare.all()):
                raise ValueError(
                    f"UniformField acts on charges, which the particles of some systems carry, and of system "
                    f"{int(bare.nonzero()[0])} none do; simulate these apart"
                )
            if bool(bare.any()):
                raise ValueError(
                    f"UniformField acts on charges, and no particle of system {int(bare.nonzero()[0])} "
                    "carries one; give it `charges`, one for each particle, or simulate by what finds "
                    "charges itself: a model with a dipole, such as `organic`, or GFN2-xTB"
                )

    def act(self, state: State, time: float | Tensor) -> tuple[Tensor, Tensor]:
        # Of long times a single digit less is another phase.
        now, begin, phase = (exact(one, state) for one in (time, self.begin, self.phase))
        on = now >= begin
        if self.end is not None:
            on = on & (now < exact(self.end, state))
        turns = now * exact(0.0 if self.frequency is None else self.frequency, state)
        strength = (torch.cos(2 * math.pi * turns + phase) * on).to(state.positions)
        field = strength[:, None] * vectors(self.field, state)
        if self.own is not None:
            return self.own.act(state, field)
        charges = state.charges
        if self.charges is not None:
            charges = vectors(self.charges, state).flatten()
        forces = charges[:, None] * field[state.batch]
        return -sum_by_system((forces * state.positions).sum(-1), state), forces


@dataclass(frozen=True)
class Spring(Force):
    """A spring between two particles: U = k (d - l)² / 2; no periodic image is looked for.

    Attributes:
        particles: The two.
        stiffness: k.
        length: l.
    """

    breaks = frozenset({"energy"})

    particles: Particles
    stiffness: Stiffness
    length: Length = 0.0

    def __post_init__(self) -> None:
        require_different(self.particles, 2)

    def act(self, state: State, time: float | Tensor) -> tuple[Tensor, Tensor]:
        where = places(state, self.particles)
        arm = state.positions[where[:, 1]] - state.positions[where[:, 0]]
        distance = arm.norm(dim=-1)
        excess = distance - per_system(self.length, state)
        stiffness = per_system(self.stiffness, state)
        pull = (stiffness * excess / distance.clamp(min=1e-12))[:, None] * arm
        forces = torch.zeros_like(state.positions)
        forces[where[:, 0]], forces[where[:, 1]] = pull, -pull
        return 0.5 * stiffness * excess**2, forces


@dataclass(frozen=True)
class Trap(Force):
    """Springs from some particles to a point, which may move: U = k Σ |x - c - u t|² / 2.

    Attributes:
        stiffness: k.
        centre: c.
        velocity: u.
    """

    particles: Particles
    stiffness: Stiffness
    centre: list[Length]
    velocity: list[Velocity] | None = None

    def __post_init__(self) -> None:
        require_vector("centre", self.centre)
        if self.velocity is not None:
            require_vector("velocity", self.velocity)

    def act(self, state: State, time: float | Tensor) -> tuple[Tensor, Tensor]:
        where = places(state, self.particles)
        centre = vectors(self.centre, state)
        if self.velocity is not None:
            centre = centre + per_system(time, state)[:, None] * vectors(self.velocity, state)
        arms = state.positions[where] - centre[:, None]
        stiffness = per_system(self.stiffness, state)
        forces = torch.zeros_like(state.positions)
        forces[where.flatten()] = (-stiffness[:, None, None] * arms).flatten(0, 1)
        return 0.5 * stiffness * arms.square().sum((1, 2)), forces


@dataclass(frozen=True)
class Wall(Force):
    """A soft wall: U = k p² / 2 for every particle that is p behind the plane n·x = `offset`.

    Attributes:
        normal: n, towards the side where nothing acts; of any length.
        offset: Of the plane from the origin along n.
        stiffness: k.
    """

    normal: list[float]
    offset: Length
    stiffness: Stiffness

    def __post_init__(self) -> None:
        require_vector("normal", self.normal)
        if not any(self.normal):
            raise ValueError("the normal of a Wall has no direction; give one, such as [0, 0, 1]")
        for one in numbers_of(self.stiffness):
            require_not_negative(stiffness=one)

    def act(self, state: State, time: float | Tensor) -> tuple[Tensor, Tensor]:
        normal = state.positions.new_tensor(self.normal)
        normal = normal / normal.norm()
        offset = per_system(self.offset, state)[state.batch]
        stiffness = per_system(self.stiffness, state)[state.batch]
        behind = (offset - state.positions @ normal).clamp(min=0.0)
        forces = (stiffness * behind)[:, None] * normal
        return sum_by_system(0.5 * stiffness * behind**2, state), forces


def require_vector(name: str, values: Sequence[Value]) -> None:
    """Raises ValueError if there are not three components."""
    if len(values) != 3:
        raise ValueError(f"{name} has three components, got {values}")


def require_different(numbers: list[int], count: int) -> None:
    """Raises ValueError if these are not so many different particles."""
    if len(numbers) != count or len(set(numbers)) != count:
        raise ValueError(f"{count} different particles are needed, got {numbers}")

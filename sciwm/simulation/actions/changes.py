"""Another system to start from: charges, masses, particles, electrons or the cell are changed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciwm.core.bonds import bonds
from sciwm.core.bounds import require_positive
from sciwm.core.state import PER_ATOM, State
from sciwm.core.units import MOLECULAR, UnitSystem
from sciwm.simulation.actions.action import (
    Action,
    Change,
    Charge,
    Length,
    Mass,
    Particles,
    Velocity,
    number,
    numbers_of,
)
from sciwm.simulation.actions.forces import require_different, require_vector


@dataclass(frozen=True)
class ChargeChange(Change):
    """Some particles carry another charge."""

    reads_charges = True

    particles: Particles
    charge: Charge

    def apply(self, system: State) -> State:
        return _replaced(system, "charges", self.particles, number(self.charge))


@dataclass(frozen=True)
class MassChange(Change):
    """Some particles have another mass, such as that of an isotope; they keep their velocity."""

    particles: Particles
    mass: Mass

    def __post_init__(self) -> None:
        for one in numbers_of(self.mass):
            require_positive(mass=one)

    def apply(self, system: State) -> State:
        return _replaced(system, "masses", self.particles, number(self.mass))


@dataclass(frozen=True)
class HeavyHydrogens(Change):
    """Every hydrogen takes mass from the atom that it is bonded to, so that its fast motions are slower and
    time steps can be longer (Feenstra, Hess & Berendsen, J. Comput. Chem. 20, 786 (1999)). Averages over
    positions stay as they are; rates and spectra do not. Each particle keeps its kinetic energy, but for the
    drift of all that this would make, and that is taken off.

    Attributes:
        mass: Of each hydrogen from then on.
    """

    mass: Mass

    def __post_init__(self) -> None:
        for one in numbers_of(self.mass):
            require_positive(mass=one)

    def resolved(self, units: UnitSystem) -> "HeavyHydrogens":
        if units != MOLECULAR:
            raise ValueError(
                "HeavyHydrogens is for molecules; particles of type 1 are no hydrogens"
            )
        return super().resolved(units)

    def apply(self, system: State) -> State:
        numbers = np.asarray(system.numbers.cpu())
        light = np.flatnonzero(numbers == 1)
        cell, periodic = np.asarray(system.cell[0].double().cpu()), np.asarray(system.pbc[0].cpu())
        positions = np.asarray(system.positions.double().cpu())
        found = bonds(numbers, positions, cell, periodic)
        masses = system.masses.double().cpu().numpy().copy()
        for hydrogen in light:
            pairs = found[(found == hydrogen).any(axis=1)]
            partners = [one for one in pairs.ravel() if numbers[one] > 1]
            if len(partners) != 1:
                raise ValueError(
                    f"HeavyHydrogens: hydrogen {hydrogen} is bonded to {len(partners)} heavier atoms, and "
                    "takes mass from one; leave it out, or name particles in a MassChange"
                )
            if number(self.mass) < masses[hydrogen]:
                raise ValueError(
                    f"HeavyHydrogens: hydrogen {hydrogen} weighs {masses[hydrogen]:g} already, and "
                    f"{number(self.mass):g} is less; choose more"
                )
            masses[partners[0]] -= number(self.mass) - masses[hydrogen]
            masses[hydrogen] = number(self.mass)
        least = int(masses.argmin())
        if masses[least] < number(self.mass) - 1e-9:
            raise ValueError(
                f"HeavyHydrogens: {number(self.mass):g} for each hydrogen leaves {masses[least]:.3g} for "
                f"particle {least}; choose less"
            )
        there = system.moved(system.positions)
        there.masses = torch.as_tensor(masses).to(system.masses)
        velocities = system.velocities * (system.masses / there.masses).sqrt()[:, None]
        before = (system.masses[:, None] * system.velocities).sum(dim=0)
        after = (there.masses[:, None] * velocities).sum(dim=0)
        drift = (after - before) / there.masses.sum()
        return there.moved(there.positions, velocities - drift)


@dataclass(frozen=True)
class Removal(Change):
    """Some particles are gone; those that stay are numbered anew."""

    particles: Particles

    def __post_init__(self) -> None:
        require_different(self.particles, len(self.particles))

    def require_fitting(self, state: State) -> None:
        super().require_fitting(state)
        if len(self.particles) >= int(state.counts.min()):
            raise ValueError("a Removal that leaves no particle leaves nothing to simulate")

    def apply(self, system: State) -> State:
        kept = torch.ones(len(system.numbers), dtype=torch.bool, device=system.numbers.device)
        kept[self.particles] = False
        return _with_rows(system, {key: system[key][kept] for key in PER_ATOM if key in system})


@dataclass(frozen=True)
class Addition(Change):
    """One more particle, after all others.

    Attributes:
        number: Atomic number, or particle type.
        mass: Its own, whatever others of its number weigh.
    """

    number: int
    position: list[Length]
    mass: Mass
    velocity: list[Velocity] | None = None
    charge: Charge = 0.0

    def __post_init__(self) -> None:
        require_vector("position", self.position)

    def apply(self, system: State) -> State:
        added = {
            "numbers": [self.number],
            "positions": [self.position],
            "velocities": [self.velocity or [0.0] * 3],
            "masses": [self.mass],
            "charges": [self.charge],
        }
        rows = {
            key: torch.cat([system[key], torch.as_tensor(value).to(system[key])])
            for key, value in added.items()
        }
        return _with_rows(system, rows)


@dataclass(frozen=True)
class Ionisation(Change):
    """Electrons are taken away, or added where `charge` is negative; spins are as few as can be.

    Attributes:
        charge: What the total charge grows by.
    """

    charge: Charge

    def apply(self, system: State) -> State:
        there = system.moved(system.positions)
        there.total_charge = system.total_charge + number(self.charge)
        there.unpaired = torch.full_like(system.unpaired, -1)
        return there


@dataclass(frozen=True)
class CellChange(Change):
    """The cell and all positions in it are stretched, or pressed, along each axis.

    Attributes:
        factors: Along x, y and z.
    """

    factors: list[float]

    def __post_init__(self) -> None:
        require_vector("factors", self.factors)
        require_positive(**dict(zip(("x", "y", "z"), self.factors, strict=True)))

    def apply(self, system: State) -> State:
        factors = system.positions.new_tensor(self.factors)
        there = system.moved(system.positions * factors)
        there.cell = system.cell * factors
        return there


def numbers_before(actions: Sequence[Action], count: int) -> list[int | None]:
    """What number each particle had before these actions; None for those that are new."""
    numbers: list[int | None] = list(range(count))
    for action in actions:
        if isinstance(action, Removal):
            numbers = [one for k, one in enumerate(numbers) if k not in action.particles]
        elif isinstance(action, Addition):
            numbers.append(None)
    return numbers


def _replaced(system: State, field: str, numbers: list[int], value: float) -> State:
    there = system.moved(system.positions)
    values = system[field].clone()
    values[numbers] = value
    there[field] = values
    return there


def _with_rows(system: State, rows: dict[str, Tensor]) -> State:
    count = len(rows["numbers"])
    there = system.moved(system.positions)
    for key in PER_ATOM & set(there.fields):
        del there[key]
    for key, value in rows.items():
        there[key] = value
    there.batch = torch.zeros(count, dtype=torch.int64, device=system.batch.device)
    there.num_nodes = count
    return there

"""Thermostats: what holds the temperature of a state."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciwm.core.bounds import require_not_negative, require_positive
from sciwm.core.random import BLOCK, KICKS, RESCALING, RandomStreams
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.velocities import (
    sum_by_system,
    temperature_of_systems,
    thermal_speed,
    vibrational_velocities,
)

FRICTION = {"molecular": 0.01, "reduced": 1.0}
"""Usual rate, by unit system and in its inverse time, at which a thermostat takes hold: memory of the
velocities is lost within 100 fs, a few periods of the slower vibrations."""


class OrnsteinUhlenbeck:
    """Friction and noise on velocities, solved exactly: the thermostat of Langevin dynamics.

    dp = -γ p dt + √(2 γ m k T) dW, over any time t, is p' = c p + √(m k T (1 - c²)) ξ with
    c = exp(-γ t) and ξ standard normal.

    | symbol | variable      |
    |--------|---------------|
    | γ      | `friction`    |
    | T      | `temperature` |
    | t      | `duration`    |

    Args:
        temperature: One for all systems, or (S,).
        friction: Inverse time, in the units' time.
        seed: Of the noise, together with each system's `State.streams`.
    """

    def __init__(self, temperature: float | Tensor, friction: float, seed: int = 0):
        _check_temperature(temperature)
        require_not_negative(friction=friction)
        self.temperature = temperature
        self.friction = friction
        self._noise = RandomStreams(seed, KICKS)
        # Of a block of steps, made together: a step of a small molecule waits for every operation.
        self._kicks: tuple[Tensor, float, Tensor, Tensor, Tensor] | None = None

    @property
    def seed(self) -> int:
        return self._noise.seed

    def held_at(self, temperature: float | Tensor) -> "OrnsteinUhlenbeck":
        """The thermostat at another temperature, with the same random numbers."""
        other = OrnsteinUhlenbeck(temperature, self.friction, self._noise.seed)
        other._noise = self._noise  # which makes them in blocks
        return other

    def select(self, keep: Sequence[int]) -> "OrnsteinUhlenbeck":
        """The thermostat of those systems only."""
        return OrnsteinUhlenbeck(
            select_temperature(self.temperature, keep), self.friction, self._noise.seed
        )

    def apply(self, state: State, duration: float, units: UnitSystem, step: int) -> Tensor:
        """(A, 3) velocities after `duration`; the noise is that of `step`."""
        keep = math.exp(-self.friction * duration)
        block, row = divmod(step, BLOCK)
        noise = self._noise.block(block, state)
        known = self._kicks
        if (
            known is None
            or known[0] is not noise
            or known[1] != keep
            or not torch.equal(known[2], state.masses)
            or not torch.equal(known[3], state.dimension)
        ):
            spread = math.sqrt(1.0 - keep**2) * thermal_speed(state, self.temperature, units)
            kicks = spread * state.within_dimensions(noise)
            self._kicks = known = noise, keep, state.masses.clone(), state.dimension.clone(), kicks
        return torch.add(known[4][row], state.velocities, alpha=keep)


class VelocityRescaling:
    """Stochastic rescaling that makes the kinetic energy canonical (Bussi, Donadio & Parrinello,
    J. Chem. Phys. 126, 014101 (2007), equation A7).

    α² = c + (K̄ / f K) (1 - c) (R₁² + Σᵢ₌₂ᶠ Rᵢ²) + 2 R₁ √(c (1 - c) K̄ / f K), c = exp(-Δt / τ)

    | symbol | variable        |
    |--------|-----------------|
    | τ      | `time_constant` |
    | K      | `kinetic`       |
    | K̄ / f  | `share` = k T/2 |
    | f      | `freedom`       |
    | α      | `scale`         |

    Only vibrational velocities are rescaled, and f counts those alone: momentum and angular
    momentum are conserved exactly, and a molecule that does not rotate is no hotter inside than
    one that does. Meant for systems under no external force.

    Args:
        temperature: One for all systems, or (S,).
        time_constant: In the units' time.
        seed: Of the noise, together with each system's `State.streams`.
    """

    def __init__(self, temperature: float | Tensor, time_constant: float, seed: int = 0):
        _check_temperature(temperature)
        require_positive(time_constant=time_constant)
        self.temperature = temperature
        self.time_constant = time_constant
        self._noise = RandomStreams(seed, RESCALING)

    @property
    def seed(self) -> int:
        return self._noise.seed

    def held_at(self, temperature: float | Tensor) -> "VelocityRescaling":
        """The thermostat at another temperature, with the same random numbers."""
        other = VelocityRescaling(temperature, self.time_constant, self._noise.seed)
        other._noise = self._noise  # which makes them in blocks
        return other

    def select(self, keep: Sequence[int]) -> "VelocityRescaling":
        """The thermostat of those systems only."""
        return VelocityRescaling(
            select_temperature(self.temperature, keep), self.time_constant, self._noise.seed
        )

    def apply(self, state: State, duration: float, units: UnitSystem, step: int) -> Tensor:
        """(A, 3) velocities after `duration`; the noise is that of `step`."""
        vibration, freedom = vibrational_velocities(state)
        twice = sum_by_system(state.masses * vibration.square().sum(-1), state)
        # At rest there is no direction to scale: a floor keeps 0 x infinity from becoming NaN.
        tiny = torch.finfo(twice.dtype).tiny
        kinetic = (twice / (2.0 * units.acceleration)).clamp(min=tiny**0.5)
        share = 0.5 * units.boltzmann * temperature_of_systems(self.temperature, state) / kinetic
        c = math.exp(-duration / self.time_constant)
        noise = self._noise.at(step, state)
        counts = state.counts
        first = torch.cumsum(counts, 0) - counts
        # Each system has 3N normals at hand; the first f of them are R₁ ... R_f.
        component = 3 * (torch.arange(len(noise), device=noise.device) - first[state.batch])
        component = component[:, None] + torch.arange(3, device=noise.device)
        squares = noise.square() * (component < freedom[state.batch][:, None])
        leading = noise[first, 0]
        squared = (
            c
            + share * (1.0 - c) * sum_by_system(squares.sum(-1), state)
            + 2.0 * leading * (c * (1.0 - c) * share).sqrt()
        )
        sign = torch.where(leading + (c / ((1.0 - c) * share)).sqrt() < 0, -1.0, 1.0)
        scale = torch.where(freedom > 0, sign * squared.clamp(min=0.0).sqrt(), 1.0)
        return state.velocities + (scale - 1.0)[state.batch][:, None] * vibration


def select_temperature(temperature: float | Tensor, keep: Sequence[int]) -> float | Tensor:
    """The temperatures of those systems only."""
    if isinstance(temperature, Tensor) and temperature.dim():
        return temperature[list(keep)]
    return temperature


def _check_temperature(temperature: float | Tensor) -> None:
    given = torch.as_tensor(temperature)
    if not bool(((given >= 0) & given.isfinite()).all()):
        raise ValueError(f"temperature must not be negative and must be finite, got {temperature}")

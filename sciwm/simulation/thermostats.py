"""Temperature: what it is for a state, and how to hold it.

Random numbers here are addressed, not drawn in turn: the noise of a system at a step depends on
the seed, the system and the step alone. So a run that resumes needs no generator state, a step can
be taken again after another system of the batch failed, a system's path does not change when its
neighbours in the batch come or go, and CPU and GPU see the same numbers.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciwm.core.bounds import require_not_negative, require_positive, require_seed
from sciwm.core.plausibility import require_plausible
from sciwm.core.state import State
from sciwm.core.units import UnitSystem

_VELOCITIES, _KICKS, _RESCALING = range(3)
"""What random numbers are for; streams of equal seed and different purpose are independent."""

_BLOCK = 16
"""Steps whose random numbers are made together, which spreads the cost of starting a generator."""


def sum_by_system(values: Tensor, state: State) -> Tensor:
    """(S, ...) sums of (A, ...) values over the atoms of each system."""
    total = values.new_zeros(state.n_systems, *values.shape[1:])
    return total.index_add_(0, state.batch, values)


def kinetic_energy(state: State, units: UnitSystem) -> Tensor:
    """(S,) kinetic energy, in the units' energy."""
    twice = state.masses * state.velocities.square().sum(-1)
    return sum_by_system(twice, state) / (2.0 * units.acceleration)


def temperature(state: State, units: UnitSystem, conserved: int = 0) -> Tensor:
    """(S,) kinetic temperature 2K / (f k).

    f is 3N, or 2N in two dimensions, less the momenta that are held at zero.

    Args:
        conserved: 3 where the total momentum is held at zero, 6 where angular momentum is too.
    """
    freedom = (state.dimension * state.counts - conserved).clamp(min=1)
    return 2.0 * kinetic_energy(state, units) / (freedom * units.boltzmann)


def vibrational_velocities(state: State) -> tuple[Tensor, Tensor]:
    """Velocities without the motion that nothing inside a system can change.

    The drift is taken from every system, the rotation about the centre of mass from those that
    repeat in no direction. Total momentum and angular momentum of what is left are zero.

    Returns:
        (A, 3) velocities, and (S,) the number of independent components they have: 3N - 3 in a
        periodic box, 3N - 6 for a molecule, 3N - 5 for a linear one;
        2N - 2 and 2N - 3 in a plane.
    """
    masses = state.masses[:, None]
    total = sum_by_system(masses, state)
    velocities = state.velocities
    velocities = velocities - (sum_by_system(masses * velocities, state) / total)[state.batch]
    freedom = state.dimension * (state.counts - 1)
    isolated = ~state.pbc.any(dim=1)
    if not bool(isolated.any()):
        return velocities, freedom
    arms = state.positions - (sum_by_system(masses * state.positions, state) / total)[state.batch]
    moments = sum_by_system((masses * arms)[:, :, None] * arms[:, None, :], state)
    angular = sum_by_system(masses * torch.linalg.cross(arms, velocities), state)
    spin, turns = _angular_velocity(moments, angular)
    velocities = velocities - torch.linalg.cross((spin * isolated[:, None])[state.batch], arms)
    turns = torch.where(state.dimension == 2, turns.clamp(max=1), turns)  # only in the plane
    return velocities, freedom - turns * isolated


def _angular_velocity(moments: Tensor, angular: Tensor) -> tuple[Tensor, Tensor]:
    """(S, 3) ω = I⁻¹ L, and (S,) the number of axes about which a system can turn: 0, 2 or 3.

    Args:
        moments: (S, 3, 3) second moments of mass.
        angular: (S, 3) angular momentum.
    """
    trace = moments.diagonal(dim1=1, dim2=2).sum(-1)
    identity = torch.eye(3, dtype=moments.dtype, device=moments.device)
    x, y, z = (trace[:, None, None] * identity - moments).unbind(dim=1)
    # The inverse in closed form, cross products over the determinant: a tenth of eigh's time.
    crosses = torch.linalg.cross(torch.stack([y, z, x], 1), torch.stack([z, x, y], 1))
    determinant = (x * crosses[:, 0]).sum(-1)
    linear = determinant <= 1e-6 * trace**3
    # A linear molecule has no moment about its axis, and L none along it: there I⁻¹ L is L / I.
    size = trace.clamp(min=torch.finfo(trace.dtype).tiny)
    turning = torch.bmm(crosses, angular[..., None])[..., 0]
    turning = turning / determinant.where(~linear, torch.ones_like(determinant))[:, None]
    spin = torch.where(linear[:, None], angular / size[:, None], turning)
    return spin, torch.where(linear, torch.where(trace > 0, 2, 0), 3)


def maxwell_boltzmann(
    state: State,
    temperature: float | Tensor,
    units: UnitSystem,
    seed: int = 0,
    remove_drift: bool = True,
    remove_rotation: bool = False,
) -> State:
    """The state with velocities drawn from the canonical distribution.

    What is removed takes its share of the kinetic energy along: the mean is k T / 2 for each
    component that remains.

    Args:
        temperature: One for all systems, or (S,).
        remove_drift: Zero total momentum. A single particle keeps its velocity.
        remove_rotation: Zero angular momentum and total momentum in systems that do not repeat.

    Raises:
        ValueError: If there is no matter at such a temperature.
    """
    require_plausible("temperature", torch.as_tensor(temperature).cpu().numpy(), units)
    noise = state.within_dimensions(RandomStreams(seed, _VELOCITIES).at(0, state))
    velocities = noise * _thermal_speed(state, temperature, units)
    moving = copy.copy(state)
    moving.velocities = velocities
    together = (state.counts > 1)[state.batch][:, None]
    if remove_rotation:
        still, _ = vibrational_velocities(moving)
        moving.velocities = torch.where(together, still, velocities)
    elif remove_drift:
        masses = state.masses[:, None]
        momentum = sum_by_system(masses * velocities, state)
        drift = (momentum / sum_by_system(masses, state))[state.batch]
        moving.velocities = torch.where(together, velocities - drift, velocities)
    return moving


class RandomStreams:
    """Normal random numbers addressed by seed, system and step (numpy's counter-based Philox).

    Args:
        purpose: Keeps streams of one seed apart that serve different ends.
        systems: Which stream each system of a state reads; 0..S-1 by default.
    """

    def __init__(self, seed: int, purpose: int, systems: Sequence[int] | None = None):
        require_seed(seed)
        self.seed = seed
        self._purpose = purpose
        self._systems = systems
        self._generator = np.random.Generator(np.random.Philox(key=0))
        self._start = self._generator.bit_generator.state
        self._block: tuple[int, Tensor, Tensor] | None = None  # its index, batch and numbers

    def select(self, keep: Sequence[int]) -> "RandomStreams":
        """The streams of those systems only."""
        systems = keep if self._systems is None else [self._systems[s] for s in keep]
        return RandomStreams(self.seed, self._purpose, list(systems))

    def at(self, step: int, state: State) -> Tensor:
        """(A, 3) the random numbers of one step."""
        block, row = divmod(step, _BLOCK)
        if self._block is None or self._block[0] != block or self._block[1] is not state.batch:
            counts = state.counts.tolist()
            systems = range(len(counts)) if self._systems is None else self._systems
            if len(systems) != len(counts):
                raise ValueError(
                    f"random streams were selected for {len(systems)} systems, but the state has "
                    f"{len(counts)}; select the same systems in both"
                )
            numbers = np.empty((_BLOCK, len(state.batch), 3))
            ends = np.cumsum(counts)
            for system, count, end in zip(systems, counts, ends, strict=True):
                self._go_to(system, block)
                draws = self._generator.standard_normal((_BLOCK, count, 3))
                numbers[:, end - count : end] = draws
            self._block = block, state.batch, torch.from_numpy(numbers).to(state.positions)
        return self._block[2][row]

    def _go_to(self, system: int, block: int) -> None:
        # The low counter words run within a block; the high ones keep blocks and purposes apart.
        place: dict[str, Any] = dict(self._start)
        place["state"] = {
            "counter": np.array([0, 0, block, self._purpose], dtype=np.uint64),
            "key": np.array([self.seed, system], dtype=np.uint64),
        }
        self._generator.bit_generator.state = place


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
    """

    def __init__(self, temperature: float | Tensor, friction: float, seed: int = 0):
        _check_temperature(temperature)
        require_not_negative(friction=friction)
        self.temperature = temperature
        self.friction = friction
        self._noise = RandomStreams(seed, _KICKS)

    def select(self, keep: Sequence[int]) -> "OrnsteinUhlenbeck":
        """The thermostat of those systems only, with the noise they had."""
        chosen = OrnsteinUhlenbeck(
            select_temperature(self.temperature, keep), self.friction, self._noise.seed
        )
        chosen._noise = self._noise.select(keep)
        return chosen

    def apply(self, state: State, duration: float, units: UnitSystem, step: int) -> Tensor:
        """(A, 3) velocities after `duration`; the noise is that of `step`."""
        keep = math.exp(-self.friction * duration)
        spread = math.sqrt(1.0 - keep**2) * _thermal_speed(state, self.temperature, units)
        noise = state.within_dimensions(self._noise.at(step, state))
        return keep * state.velocities + spread * noise


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
    """

    def __init__(self, temperature: float | Tensor, time_constant: float, seed: int = 0):
        _check_temperature(temperature)
        require_positive(time_constant=time_constant)
        self.temperature = temperature
        self.time_constant = time_constant
        self._noise = RandomStreams(seed, _RESCALING)

    def select(self, keep: Sequence[int]) -> "VelocityRescaling":
        """The thermostat of those systems only, with the noise they had."""
        chosen = VelocityRescaling(
            select_temperature(self.temperature, keep), self.time_constant, self._noise.seed
        )
        chosen._noise = self._noise.select(keep)
        return chosen

    def apply(self, state: State, duration: float, units: UnitSystem, step: int) -> Tensor:
        """(A, 3) velocities after `duration`; the noise is that of `step`."""
        vibration, freedom = vibrational_velocities(state)
        twice = sum_by_system(state.masses * vibration.square().sum(-1), state)
        # At rest there is no direction to scale: a floor keeps 0 x infinity from becoming NaN.
        tiny = torch.finfo(twice.dtype).tiny
        kinetic = (twice / (2.0 * units.acceleration)).clamp(min=tiny**0.5)
        share = 0.5 * units.boltzmann * _per_system(self.temperature, state) / kinetic
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


def _per_system(temperature: float | Tensor, state: State) -> Tensor:
    """(S,) temperatures."""
    given = torch.as_tensor(temperature, dtype=state.positions.dtype, device=state.positions.device)
    return given.expand(state.n_systems)


def _thermal_speed(state: State, temperature: float | Tensor, units: UnitSystem) -> Tensor:
    """(A, 1) standard deviation of each velocity component, √(k T / m)."""
    if isinstance(temperature, Tensor):
        temperature = _per_system(temperature, state)[state.batch]
    return (units.boltzmann * units.acceleration * temperature / state.masses).sqrt()[:, None]

"""Velocities of a state: their energy and temperature, and how thermal ones are drawn."""

import copy

import torch
from torch import Tensor

from sciwm.core.plausibility import require_plausible
from sciwm.core.random import VELOCITIES, RandomStreams
from sciwm.core.state import State
from sciwm.core.units import UnitSystem


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
    noise = state.within_dimensions(RandomStreams(seed, VELOCITIES).at(0, state))
    velocities = noise * thermal_speed(state, temperature, units)
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


def temperature_of_systems(temperature: float | Tensor, state: State) -> Tensor:
    """(S,) temperatures."""
    given = torch.as_tensor(temperature, dtype=state.positions.dtype, device=state.positions.device)
    return given.expand(state.n_systems)


def thermal_speed(state: State, temperature: float | Tensor, units: UnitSystem) -> Tensor:
    """(A, 1) standard deviation of each velocity component, √(k T / m)."""
    if isinstance(temperature, Tensor):
        temperature = temperature_of_systems(temperature, state)[state.batch]
    return (units.boltzmann * units.acceleration * temperature / state.masses).sqrt()[:, None]

"""What Newton's equations keep: energy, momentum, and angular momentum where there is no box."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from sciwm.core.frame import Array
from sciwm.core.state import State
from sciwm.evaluation.checks.check import Check, bare_evaluation, collated, judged, nearest_pair
from sciwm.models.potential import Potential
from sciwm.simulation.integrators import VelocityVerlet
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.thermodynamics import energy_drift, energy_fluctuation
from sciwm.simulation.thermostats import maxwell_boltzmann

STEPS_PER_PERIOD = 20
"""Steps in the shortest period of vibration: usual in molecular dynamics, 0.5 fs with hydrogen."""

ATOM_STEPS = 60_000
"""Steps times atoms of the long run."""

LAW_STEPS = 200
"""Steps of the run that is repeated with half the step."""


@dataclass(frozen=True)
class Thermal:
    """Conditions under which dynamics is checked.

    Attributes:
        temperature: In the model's units.
        step: Time step.
        dimension: Components beyond it stay zero.
    """

    temperature: float
    step: float
    dimension: int


def conservation_checks(
    model: Potential, double: Potential, systems: Sequence[State], thermal: Thermal
) -> list[Check]:
    """Drift in the model's own precision; the laws behind it in float64.

    Args:
        model: As it is used.
        double: The same in float64.
        systems: One system each, in float64.
    """
    state = thermal_state(model, collated(systems), thermal)
    steps = int(np.clip(ATOM_STEPS // state.num_nodes, 100, 1000))
    long = newtonian(model, state, thermal, thermal.step, steps, every=5)
    few = thermal_state(model, collated(systems[:2]), thermal)
    coarse = newtonian(double, few, thermal, thermal.step, LAW_STEPS)
    fine = newtonian(double, few, thermal, 0.5 * thermal.step, 2 * LAW_STEPS, every=2)
    checks = [_drift(long, thermal, steps), _second_order(coarse, fine, thermal)]
    checks.append(_momentum(fine))
    if not bool(few.pbc.any()):
        checks.append(_angular_momentum(fine))
    if thermal.dimension < 3:
        checks.append(_plane(fine, thermal.dimension))
    return checks


def suitable_step(double: Potential, systems: Sequence[State], temperature: float) -> float:
    """A time step that resolves the fastest vibration, and the flight past a neighbour.

    The highest frequency is that of the largest eigenvalue of the mass-weighted Hessian, by power
    iteration on differences of forces.

    Args:
        double: In float64.
        systems: One system each, in float64.
    """
    state = collated(systems)
    units = double.units
    speed = float((units.boltzmann * units.acceleration * temperature / state.masses).max()) ** 0.5
    flight = 0.01 * nearest_pair(double, state)[2] / speed if speed > 0 else np.inf
    generator = torch.Generator().manual_seed(3)
    way = torch.randn(state.positions.shape, generator=generator, dtype=torch.float64)
    way = way.to(state.positions)
    roots = state.masses.sqrt()[:, None]
    rate = 0.0  # the square of the angular frequency
    for _ in range(15):
        way = way / way.norm().clamp(min=1e-300)
        shift = 1e-4 * way / roots * float(roots.min())
        ahead, behind = state.clone(), state.clone()
        ahead.positions, behind.positions = state.positions + shift, state.positions - shift
        change = bare_evaluation(double, behind).forces - bare_evaluation(double, ahead).forces
        way = units.acceleration * change / (2e-4 * float(roots.min())) / roots
        rate = float(way.norm())
    vibration = 2 * np.pi / rate**0.5 / STEPS_PER_PERIOD if rate > 0 else np.inf
    step = min(flight, vibration)
    if not np.isfinite(step) or step <= 0:
        raise ValueError(
            f"no time step follows from these states (shortest period {vibration:g} over "
            f"{STEPS_PER_PERIOD}, flight {flight:g}); check that their energies are finite"
        )
    return float(step)


def thermal_state(model: Potential, state: State, thermal: Thermal) -> State:
    """With velocities drawn at the temperature, without drift, and within the dimensions."""
    moving = maxwell_boltzmann(state, thermal.temperature, model.units, seed=1)
    moving.velocities[:, thermal.dimension :] = 0.0
    return moving


def newtonian(
    model: Potential, state: State, thermal: Thermal, dt: float, steps: int, every: int = 1
) -> list[Motion]:
    """Motion of every system at constant energy; it ends where a number is no longer finite."""
    simulator, integrator = LearnedSimulator(model), VelocityVerlet(dt)
    evaluation = simulator.evaluate(state)
    positions, velocities, energies = [state.positions], [state.velocities], [evaluation.energy]
    for k in tqdm(range(1, steps + 1), desc="constant energy", leave=False, delay=2, unit="step"):
        state, evaluation = integrator.step(simulator, state, evaluation, k)
        if not bool(torch.isfinite(state.velocities).all()):
            break
        if k % every == 0:
            positions.append(state.positions)
            velocities.append(state.velocities)
            energies.append(evaluation.energy)
    columns = [torch.stack(column).double().numpy(force=True) for column in (positions, velocities)]
    energy = torch.stack(energies).numpy(force=True)
    motions = []
    for s in range(state.n_systems):
        rows = (state.batch == s).numpy(force=True)
        motion = Motion(
            numbers=state.numbers.numpy(force=True)[rows],
            masses=state.masses.double().numpy(force=True)[rows],
            positions=columns[0][:, rows],
            velocities=columns[1][:, rows],
            energy=energy[:, s],
            timestep=dt * every,
            cell=state.cell[s].double().numpy(force=True),
            pbc=state.pbc[s].numpy(force=True),
            dimension=thermal.dimension,
            units=model.units,
        )
        motions.append(motion)
    return motions


def _drift(motions: list[Motion], thermal: Thermal, steps: int) -> Check:
    units = motions[0].units
    explanation = (
        f"slope of the total energy over {steps} steps of {_time(thermal.step, units.time)} from "
        f"{thermal.temperature:g} {units.temperature}".rstrip()
        + ", less two standard errors, against the heat that 1 % of kT per 1000 steps would bring"
    )
    if len(motions[0]) < 8:
        return judged("energy drift", np.inf, "", 0.0, 0.0, explanation + "; it blew up")
    drifts = [energy_drift(motion) for motion in motions]
    unit = drifts[0].unit
    # From energy per time into the unit of the drift: meV/ps for molecules.
    factor = 1e6 if unit else 1.0
    heat = factor * units.boltzmann * thermal.temperature / (1000 * thermal.step)
    sizes = [max(abs(float(d.value)) - 2 * float(d.error), 0.0) for d in drifts]
    return judged("energy drift", max(sizes), unit, 0.01 * heat, 0.1 * heat, explanation)


def _second_order(coarse: list[Motion], fine: list[Motion], thermal: Thermal) -> Check:
    """The wobble of the energy falls as dt², or forces are not the derivatives of a smooth energy."""
    name = "energy fluctuation law"
    if len(coarse[0]) != len(fine[0]):
        return judged(name, np.inf, "", 0.0, 0.0, "half the time step should help; it blew up")
    wobbles = [
        np.sqrt(np.mean([float(energy_fluctuation(motion).value) ** 2 for motion in motions]))
        for motions in (coarse, fine)
    ]
    thermal_energy = coarse[0].units.boltzmann * thermal.temperature
    if wobbles[0] < 1e-9 * thermal_energy:
        return judged(name, 0.0, "", 0.5, 1.0, "the energy does not fluctuate beyond round-off")
    ratio = float(wobbles[0] / wobbles[1])
    explanation = (
        f"with half the time step the energy fluctuates {ratio:.2f} times less; the value is the "
        "distance from 4, which velocity Verlet gives on a smooth energy"
    )
    return judged(name, abs(ratio - 4.0), "", 0.5, 1.0, explanation)


def _momentum(motions: list[Motion]) -> Check:
    worst = 0.0
    for motion in motions:
        momenta = motion.masses[:, None] * _velocities(motion)
        size = np.abs(momenta).sum(axis=1).max()
        change = np.abs(momenta.sum(axis=1) - momenta[0].sum(axis=0)).max()
        worst = max(worst, float(change / max(size, 1e-300)))
    explanation = "total momentum stays, relative to the sum over particles"
    return judged("momentum", worst, "", 1e-10, 1e-7, explanation)


def _angular_momentum(motions: list[Motion]) -> Check:
    worst = 0.0
    for motion in motions:
        centred = motion.positions - motion.positions.mean(axis=1, keepdims=True)
        each = np.cross(centred, motion.masses[:, None] * _velocities(motion))
        size = np.abs(each).sum(axis=1).max()
        # About a fixed point, since the centre of positions is not the centre of mass.
        fixed = motion.positions - motion.positions[0].mean(axis=0)
        total = np.cross(fixed, motion.masses[:, None] * _velocities(motion)).sum(axis=1)
        worst = max(worst, float(np.abs(total - total[0]).max() / max(size, 1e-300)))
    if len(motions[0].numbers) == 1:
        worst = 0.0
    explanation = "total angular momentum stays, relative to the sum over particles"
    return judged("angular momentum", worst, "", 1e-10, 1e-7, explanation)


def _plane(motions: list[Motion], dimension: int) -> Check:
    off = max(
        float(np.abs(motion.positions[..., dimension:] - motion.positions[0, :, dimension:]).max())
        for motion in motions
    )
    unit = motions[0].units.length
    return judged("plane", off, unit, 1e-9, 1e-6, f"motion stays in {dimension} dimensions")


def _velocities(motion: Motion) -> Array:
    assert motion.velocities is not None
    return motion.velocities


def _time(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}".rstrip()

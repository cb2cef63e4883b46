"""What Newton's equations keep: energy, momentum, and angular momentum where there is no box."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sciwm.core.frame import Array
from sciwm.core.state import State
from sciwm.evaluation.checks.check import (
    Check,
    bare_evaluation,
    collated,
    judged,
    milli,
    nearest_pair,
)
from sciwm.models.dynamics.potential import Potential
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.thermodynamics import energy_drift, energy_fluctuation
from sciwm.simulation.propagators import VelocityVerlet
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.rollout.stability import Stability
from sciwm.simulation.velocities import maxwell_boltzmann

STEPS_PER_PERIOD = 20
"""Steps in the shortest period of vibration: usual in molecular dynamics, 0.5 fs with hydrogen."""

ATOM_STEPS = 40_000
"""Steps times atoms of the long run."""

LAW_STEPS = 200
"""Steps of the run that is repeated with half the step."""

EVERY = 5
"""Steps between frames of the long run."""


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
    long = newtonian(model, state, thermal, thermal.step, steps, EVERY)
    few = thermal_state(model, collated(systems[:2]), thermal)
    coarse = newtonian(double, few, thermal, thermal.step, LAW_STEPS)
    fine = newtonian(double, few, thermal, 0.5 * thermal.step, 2 * LAW_STEPS, every=2)
    checks = _energy_checks(long, thermal, steps)
    checks += [_second_order(coarse, fine, thermal), _momentum(fine)]
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
    """Motion of every system at constant energy; it ends early where one blows up."""
    newton = VelocityVerlet(LearnedSimulator(model), dt)
    # How it moves is judged wherever it goes.
    result = Rollout(newton, every=every, guard=Stability(state, newton)).run(state, steps)
    together = min(len(frames) for frames in result.frames)
    return [
        Motion.from_frames(
            [frame.with_(dimension=thermal.dimension) for frame in frames[:together]], model.units
        )
        for frames in result.frames
    ]


def _energy_checks(motions: list[Motion], thermal: Thermal, steps: int) -> list[Check]:
    """Slope of the total energy, and its wobble; a wobble too large would hide the slope.

    The median over systems counts: forces at fault show in every system, while one near-collision
    that the step cannot resolve says nothing of the model.
    """
    units = motions[0].units
    heat = units.boltzmann * thermal.temperature
    run = f"{steps} steps of {_quantity(thermal.step, units.time)} from "
    run += _quantity(thermal.temperature, units.temperature)
    if len(motions[0]) <= steps // EVERY:
        text = f"the motion blew up within {run}"
        names = ("energy drift", "energy fluctuation")
        return [judged(name, np.inf, "", 0.0, 0.0, text) for name in names]
    drifts, wobbles = map(energy_drift, motions), map(energy_fluctuation, motions)
    slopes = np.array([[abs(float(drift.value)), float(drift.error)] for drift in drifts])
    drift, error = np.median(slopes, axis=0).tolist()
    # A drift that certainly is one.
    certain = float(np.median(np.maximum(slopes[:, 0] - 2 * slopes[:, 1], 0.0)))
    wobble = float(np.median([float(w.value) for w in wobbles]))
    unit, factor = milli(units, "energy")
    slow, per_time = factor * heat / (1000 * thermal.step), 1e3 if unit else 1.0
    slope_unit = f"{unit}/atom/ps" if unit else ""
    verdict = judged(
        "energy drift",
        certain,
        slope_unit,
        0.01 * slow * per_time,
        0.1 * slow * per_time,
        f"slope of the total energy per atom over {run}, and its standard error, in the middle of "
        f"{len(motions)} systems; judged is what exceeds two standard errors, "
        f"{_quantity(certain, slope_unit)}; the limit is 1 % of kT per 1000 steps",
    )
    return [
        replace(verdict, value=drift, error=error, told=True),
        judged(
            "energy fluctuation",
            wobble,
            f"{unit}/atom" if unit else "",
            0.05 * factor * heat,
            0.5 * factor * heat,
            f"wobble of the total energy per atom about its slope over {run}; the limit is 5 % of kT",
        ),
    ]


def _second_order(coarse: list[Motion], fine: list[Motion], thermal: Thermal) -> Check:
    """The wobble of the energy falls as dt², or forces are not the derivatives of a smooth energy."""
    name = "energy fluctuation law"
    if min(len(coarse[0]), len(fine[0])) <= LAW_STEPS:
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


def _quantity(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}".rstrip()

"""Under a thermostat: every species holds its share of heat, and the simulation goes on."""

from collections.abc import Sequence

import numpy as np

from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, UnitSystem
from sciwm.evaluation.checks.check import Check, Status, collated
from sciwm.evaluation.checks.conservation import Thermal, thermal_state
from sciwm.evaluation.evaluate import species_name
from sciwm.models.dynamics.potential import Potential
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.thermodynamics import equipartition, temperature
from sciwm.simulation.propagators import Langevin
from sciwm.simulation.rollout import Rollout

COPIES = 8
"""Independent simulations, from whose scatter the errors follow."""

ATOM_STEPS = 240_000
"""Steps times atoms of all copies together."""

MOST_STEPS = 2000
"""Of a copy: about a picosecond of a molecule with hydrogen."""

EVERY = 10
"""Steps between frames."""


def statistics_checks(model: Potential, systems: Sequence[State], thermal: Thermal) -> list[Check]:
    """Langevin dynamics of several copies: how far it comes, how warm it is, and how evenly.

    Args:
        model: As it is used.
        systems: One system each, in float64.
    """
    atoms = max(len(system.numbers) for system in systems)
    copies = int(np.clip(240 // atoms, 2, COPIES))
    start = collated([systems[k % len(systems)] for k in range(copies)])
    start = thermal_state(model, start, thermal)
    steps = int(np.clip(ATOM_STEPS // start.num_nodes, 200, MOST_STEPS)) // EVERY * EVERY
    # Strong friction, because frames of data may come from quite another temperature.
    friction = 1 / (30 * thermal.step)
    langevin = Langevin(
        LearnedSimulator(model), thermal.step, thermal.temperature, friction, seed=2
    )
    result = Rollout(langevin, every=EVERY).run(start, steps)
    checks = [
        stability_check(
            result.steps, result.reasons, steps, thermal.step, thermal.temperature, model.units
        )
    ]
    whole = [
        frames
        for frames, reason in zip(result.frames, result.reasons, strict=True)
        if reason is None
    ]
    if len(whole) < 2:
        return checks
    motions = []
    for frames in whole:
        kept = [frame.with_(dimension=thermal.dimension) for frame in frames[len(frames) // 3 :]]
        motions.append(Motion.from_frames(kept, model.units))
    return [*checks, *heat_checks(motions, thermal.temperature)]


def stability_check(
    done: list[int],
    reasons: list[str | None],
    steps: int,
    dt: float,
    temperature: float,
    units: UnitSystem,
) -> Check:
    """How far simulations at a temperature came, of so many steps each."""
    unit, factor = ("ps", 1e-3) if units is MOLECULAR else ("", 1.0)
    status: Status = "pass"
    stopped = [(step, reason) for step, reason in zip(done, reasons, strict=True) if reason]
    limit = factor * dt * steps
    tried = f"{limit:.3g} {unit} ({steps} steps)" if unit else f"{limit:.3g} ({steps} steps)"
    explanation = (
        f"{len(done)} Langevin simulations at {temperature:g} {units.temperature}".rstrip()
        + f" all went on for {tried}, which is all that was tried: nothing is said of longer ones"
    )
    if stopped:
        reason = min(stopped)[1]
        # Outside the training data a model may be right, it is only not known to be.
        status = "warn" if "left the simulator's domain" in reason else "fail"
        explanation = (
            f"{len(stopped)} of {len(done)} simulations stopped within {tried}, the first: {reason}"
        )
    reached = factor * dt * min(done)
    return Check("stability", status, reached, unit, limit, explanation, told=True)


def heat_checks(motions: list[Motion], held: float) -> list[Check]:
    """Temperature and equipartition, each with the error that the copies' scatter gives.

    Args:
        held: What the thermostat is at.
    """
    ratios = [float(temperature(motion, "nothing").value) / held for motion in motions]
    checks = [_even("temperature", np.array(ratios), "kinetic over thermostat temperature")]
    shares = [equipartition(motion, "nothing") for motion in motions]
    species = sorted(set.intersection(*(set(share) for share in shares)))
    for number in species if len(species) > 1 else []:
        name = species_name(number, motions[0].units)
        values = np.array([float(share[number].value) for share in shares])
        checks.append(
            _even(f"equipartition, {name}", values, f"temperature of {name} over that of all")
        )
    return checks


def _even(name: str, ratios: np.ndarray, what: str) -> Check:
    mean = float(ratios.mean())
    error = float(ratios.std(ddof=1) / np.sqrt(len(ratios)))
    value = abs(mean - 1.0)
    # What chance explains is no fault.
    warn, fail = max(0.05, 3 * error), max(0.15, 5 * error)
    status: Status = "pass" if value <= warn else "warn" if value <= fail else "fail"
    explanation = f"{what} is {mean:.3f} ± {error:.3f}; the value is its distance from 1"
    return Check(name, status, value, "", warn, explanation)

"""Whether a system may take a step, or has blown up."""

import torch
from torch import Tensor

from sciwm.core.plausibility import oddity
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.propagators import Integrator
from sciwm.simulation.rollout.progress import Progress
from sciwm.simulation.velocities import kinetic_energy, temperature

HEATING_LIMIT = 50.0
"""A system this many times hotter than it should be has blown up. So has one whose energy jumps in
one step by as much as that heat, or drifts so far where energy is conserved."""

_COLD = {"molecular": 100.0, "reduced": 1.0}
"""Targets colder than this count as this: a strained structure warms up when it lets go."""


def implausible_systems(state: State, units: UnitSystem) -> dict[int, str]:
    """The first system with a position or velocity that cannot be, with the reason."""
    for name, quantity in (("positions", "length"), ("velocities", "velocity")):
        found = oddity(quantity, state[name].detach().cpu().numpy(), units)
        if found is not None:
            s = int(state.batch[found.row])
            atom = found.row - int((state.batch < s).sum())
            return {s: f"cannot be real: {name} of atom {atom}: {found.sentence}"}
    return {}


class Soundness:
    """Knows how much heat each system can hold.

    Args:
        start: The state the run begins with.
    """

    def __init__(self, start: State, integrator: Integrator, units: UnitSystem):
        normal = temperature(start, units).clamp(min=_COLD[units.name])
        if integrator.temperature is not None:
            normal = normal.clamp(min=torch.as_tensor(integrator.temperature).to(normal))
        self._limits = HEATING_LIMIT * 1.5 * start.counts * units.boltzmann * normal
        self._units = units
        self._conserving = integrator.temperature is None

    def check(self, before: Progress, after: Progress) -> dict[int, str]:
        """Running systems that blew up between the two, each with a diagnosis."""
        limit, start = self._limits, after.start_energy
        if len(after.running) < len(limit):
            limit, start = limit[after.running], start[after.running]
        kinetic = kinetic_energy(after.state, self._units)
        energy = after.evaluation.energy
        if self._conserving:
            sound = (energy + kinetic - start).abs() <= limit
        else:
            sound = (kinetic <= limit) & ((energy - before.evaluation.energy).abs() <= limit)
        # Comparisons with NaN are false, so what is not finite is not sound either.
        if bool(sound.all()):
            return {}
        blown = torch.nonzero(~sound).flatten().tolist()
        return {s: self._diagnosis(before, after, s, limit) for s in blown}

    def _diagnosis(self, before: Progress, after: Progress, s: int, limit: Tensor) -> str:
        units, dt = self._units, after.integrator.dt
        atoms = before.state.batch == s
        heat = float(temperature(after.state, units)[s])
        allowed = float(limit[s] / (1.5 * units.boltzmann * atoms.sum()))
        change = float(after.evaluation.energy[s] - before.evaluation.energy[s])
        speeds = before.state.velocities[atoms].norm(dim=-1)
        fastest = int(speeds.argmax())
        kind = int(before.state.numbers[atoms][fastest])
        return (
            f"blew up in step {after.step} ({after.step * dt:g} {units.time}): its temperature is "
            f"{heat:.4g} {units.temperature} ({allowed:.4g} is allowed) and its energy changed by "
            f"{change:.4g} {units.energy} in that step; before it atom {fastest} (type {kind}) was "
            f"the fastest, at {float(speeds[fastest]):.3g} {units.velocity}. Use a shorter step "
            f"than {dt:g} {units.time}, or check the simulator's forces around that atom"
        )

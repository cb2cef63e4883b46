"""What ends a system that cannot go on: it blew up, is no longer trusted, or its numbers are none."""

from typing import Protocol

import torch
from torch import Tensor

from sciwm.core.plausibility import oddity
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.propagators.propagator import Propagator
from sciwm.simulation.rollout.snapshot import Snapshot
from sciwm.simulation.velocities import temperature

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


class Guard(Protocol):
    """Looks at every step of a rollout."""

    def stopped(self, before: Snapshot, after: Snapshot, at_frame: bool) -> dict[int, str]:
        """Running systems that must not take this step, by their index among them, each with the reason.

        Args:
            at_frame: Whether what is after the step will be written.
        """


class Stability:
    """Ends systems that hold more heat than they can.

    Args:
        start: The state the run begins with.
    """

    def __init__(self, start: State, propagator: Propagator):
        units = propagator.units
        normal = temperature(start, units).clamp(min=_COLD[units.name])
        if propagator.temperature is not None:
            normal = normal.clamp(min=torch.as_tensor(propagator.temperature).to(normal))
        self._limits = HEATING_LIMIT * 1.5 * start.counts * units.boltzmann * normal.double()
        self._units = units
        self._conserving = "energy" in propagator.conserves
        self._particles: tuple[Tensor, Tensor, Tensor] | None = None

    def stopped(self, before: Snapshot, after: Snapshot, at_frame: bool) -> dict[int, str]:
        """See `Guard`."""
        limit, start = self._limits, after.start_energy
        if len(after.running) < len(limit):
            limit, start = limit[after.running], start[after.running]
        kinetic = self._kinetic_energy(after.state)
        now, then = after.evaluation, before.evaluation
        if now is None or then is None:
            sound = kinetic <= limit
        elif self._conserving:
            sound = (now.energy + kinetic).sub_(start).abs_() <= limit
        else:
            sound = torch.maximum((now.energy - then.energy).abs_(), kinetic) <= limit
        # Comparisons with NaN are false, so what is not finite is not sound either.
        if bool(sound.all()):
            return {}
        blown = torch.nonzero(~sound).flatten().tolist()
        return {s: self._diagnosis(before, after, s, limit) for s in blown}

    def _kinetic_energy(self, state: State) -> Tensor:
        """(S,) in double precision; few operations, because every step waits for them."""
        known = self._particles
        if known is None or known[0] is not state.masses or known[1] is not state.batch:
            weights = state.masses.double() / (2.0 * self._units.acceleration)
            self._particles = known = state.masses, state.batch, weights
        squares = torch.linalg.vecdot(state.velocities, state.velocities)
        total = known[2].new_zeros(state.n_systems)
        return total.index_add_(0, state.batch, known[2] * squares)

    def _diagnosis(self, before: Snapshot, after: Snapshot, s: int, limit: Tensor) -> str:
        units, dt = self._units, after.propagator.stride
        atoms = before.state.batch == s
        heat = float(temperature(after.state, units)[s])
        allowed = float(limit[s] / (1.5 * units.boltzmann * atoms.sum()))
        energy = ""
        if before.evaluation is not None and after.evaluation is not None:
            change = float(after.evaluation.energy[s] - before.evaluation.energy[s])
            energy = f" and its energy changed by {change:.4g} {units.energy} in that step"
        speeds = before.state.velocities[atoms].norm(dim=-1)
        fastest = int(speeds.argmax())
        kind = int(before.state.numbers[atoms][fastest])
        return (
            f"blew up in step {after.step} ({after.step * dt:g} {units.time}): its temperature is "
            f"{heat:.4g} {units.temperature} ({allowed:.4g} is allowed){energy}; before it atom "
            f"{fastest} (type {kind}) was the fastest, at {float(speeds[fastest]):.3g} "
            f"{units.velocity}. Use a shorter step than {dt:g} {units.time}, or check what "
            "moves that atom there"
        )


class Trust:
    """Ends systems that blow up and, at frames, those that have left their propagator's domain; those of
    long strides after each.

    Args:
        start: The state the run begins with.
    """

    def __init__(self, start: State, propagator: Propagator):
        self._stability = Stability(start, propagator)

    def stopped(self, before: Snapshot, after: Snapshot, at_frame: bool) -> dict[int, str]:
        """See `Guard`."""
        blown = self._stability.stopped(before, after, at_frame)
        look = at_frame or after.propagator.always_watched
        return systems_outside(after) | blown if look else blown


def systems_outside(snapshot: Snapshot) -> dict[int, str]:
    """Running systems where the propagator should not be trusted, each with the reason."""
    if odd := implausible_systems(snapshot.state, snapshot.propagator.units):
        return odd
    found = snapshot.propagator.outside(snapshot.state, snapshot.evaluation)
    return {s: f"left the simulator's domain: {reason}" for s, reason in found.items()}


class Finiteness:
    """Ends systems of which a number is no longer finite: for whoever measures how wrong they go."""

    def stopped(self, before: Snapshot, after: Snapshot, at_frame: bool) -> dict[int, str]:
        """See `Guard`."""
        state = after.state
        each = (state.positions + state.velocities).sum(-1)
        if after.evaluation is not None:
            each = each + after.evaluation.forces.to(each).sum(-1)
        if bool(each.isfinite().all()):
            return {}
        lost = state.batch[~each.isfinite()].unique().tolist()
        return dict.fromkeys(lost, f"its numbers are no longer finite after step {after.step}")

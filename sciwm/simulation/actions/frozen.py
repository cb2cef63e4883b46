"""Particles that stay where they are."""

from dataclasses import dataclass

from sciwm.simulation.actions.action import Action, Particles


@dataclass(frozen=True)
class Frozen(Action):
    """Some particles stay where they are; the others feel them as before."""

    breaks = frozenset({"momentum", "angular momentum"})

    particles: Particles

"""Outcomes read off a minimum: gap, dipole moment, vertical affinities, solvation."""

import math
from collections.abc import Sequence

import torch

from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.discovery.problem.hypothesis import Failure
from sciwm.discovery.problem.outcomes.outcome import Outcome, Value, failure_of
from sciwm.discovery.problem.outcomes.relaxation import Minimum, minima
from sciwm.simulation.simulator import PROPERTIES, PropertySimulator, SimulatorError


class RelaxedProperty(Outcome):
    """A property of a molecule at the minimum nearest to the given structure; of a vector, its length.

    Args:
        property: Its name, such as "gap", "dipole", "electron_affinity" (vertical),
            "ionisation_energy" (vertical) or "solvation_energy".
    """

    def __init__(self, property: str):
        if property not in PROPERTIES or PROPERTIES[property].per_atom:
            offered = [name for name, kind in PROPERTIES.items() if not kind.per_atom]
            raise ValueError(f"no property {property!r}; use one of {', '.join(offered)}")
        self.property = property

    @property
    def name(self) -> str:
        return self.property

    @property
    def unit(self) -> str:
        return PROPERTIES[self.property].unit

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.property,)

    def evaluate_many(
        self, world: PropertySimulator, structures: Sequence[Frame], seed: int = 0
    ) -> list[Value | Failure]:
        found: list[Value | Failure] = []
        for one in minima(world, structures):
            found.append(one if isinstance(one, Failure) else self._read(world, one))
        return found

    def _read(self, world: PropertySimulator, minimum: Minimum) -> Value | Failure:
        state = State.from_frame(minimum.frame, torch.float64)
        try:
            observed = world.observe(state, [self.property])[self.property][0]
        except SimulatorError as error:
            return failure_of(error)
        value = float(observed if observed.dim() == 0 else observed.norm())
        if not math.isfinite(value):
            return Failure("calculation", f"{self.property} is {value}")
        frame = minimum.frame.with_(
            properties={self.property: observed.detach().double().cpu().numpy()}
        )
        return Value(value, 0.0, [frame], minimum.flag)

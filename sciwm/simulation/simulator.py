"""What a simulation needs of the world: energies and forces, learned or from first principles.

Integrators, relaxation, observables and checks are written against this protocol, so a learned
model and a reference program run through the same code and their difference is the model's error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sciwm.core.properties import PROPERTIES as PROPERTIES
from sciwm.core.properties import PropertyDefinition as PropertyDefinition
from sciwm.core.state import State
from sciwm.core.units import UnitSystem


@dataclass(frozen=True)
class Evaluation:
    """Energies and their derivatives at one state.

    Attributes:
        energy: (S,) potential energy of each system.
        forces: (A, 3).
        stress: (S, 3, 3), energy per volume, positive under tension; None if not asked for.
        force_error: (A,) root mean square error to expect of the force on each particle; None where the
            simulator cannot tell, or makes none.
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor | None = None
    force_error: Tensor | None = None


class Simulator(Protocol):
    """Gives the forces that move a state."""

    @property
    def units(self) -> UnitSystem:
        """The units its energies and forces are in."""

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        """Energy and forces of every system of the state, and stress if asked for.

        Raises:
            SimulatorError: If the energy of some system cannot be had.
        """

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        """Systems where it should not be trusted, each with the reason; empty for a reference."""


class SimulatorError(RuntimeError):
    """A system whose energy could not be computed.

    Attributes:
        system: Index of the system in the state.
    """

    def __init__(self, message: str, system: int = 0):
        super().__init__(message)
        self.system = system


class PropertySimulator(Simulator, Protocol):
    """A simulator that also measures."""

    def observe(self, state: State, names: Sequence[str]) -> dict[str, Tensor]:
        """(S, *shape), or (A, *shape) for what every atom has, in the units of `PROPERTIES`.

        Raises:
            SimulatorError: If it does not offer a property, or cannot compute it.
        """


class FieldSimulator(Simulator, Protocol):
    """A simulator that finds charges itself, and how an electric field from outside pulls at them."""

    @property
    def feels_fields(self) -> bool:
        """Whether it can tell; a learned one needs a dipole."""

    def field_response(self, state: State, field: Tensor) -> tuple[Tensor, Tensor]:
        """(S,) energies and (A, 3) forces that a uniform field adds.

        Args:
            field: (S, 3), energy per charge and length.

        Raises:
            SimulatorError: If a system repeats, or cannot be computed.
        """


def require_no_period(state: State) -> None:
    """Raises SimulatorError if a system repeats, and so has no dipole."""
    repeating = state.pbc.any(dim=1)
    if bool(repeating.any()):
        system = int(torch.nonzero(repeating)[0, 0])
        raise SimulatorError(
            f"system {system} repeats, so what a field does to its own charges is not defined; give the "
            "field `charges`, one for each particle",
            system,
        )

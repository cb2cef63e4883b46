"""Integrators: how a state moves under a simulator's forces.

Each stride is one time step and costs one evaluation. Accelerations are units.acceleration F / m.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.propagators.propagator import Propagator, require_stride
from sciwm.simulation.simulator import Evaluation, Simulator


class Integrator(Propagator, ABC):
    """Moves states by the forces of a simulator.

    Args:
        dt: Time step, in the units' time.
    """

    def __init__(self, simulator: Simulator, dt: float):
        self.simulator = simulator
        self.stride = require_stride(dt)
        self.impulse = 0.5 * dt * simulator.units.acceleration
        """Times force over mass, the velocity gained in half a step."""

    @property
    def units(self) -> UnitSystem:
        return self.simulator.units

    @abstractmethod
    def select(self, keep: Sequence[int]) -> "Integrator": ...

    def start(self, state: State) -> Evaluation:
        return self.simulator.evaluate(state)

    def outside(self, state: State, evaluation: Evaluation | None) -> dict[int, str]:
        assert evaluation is not None
        return self.simulator.outside(state, evaluation)

    @property
    def origin(self) -> tuple[str, str]:
        return type(self.simulator).__name__, getattr(self.simulator, "fingerprint", "")

    def kicked(self, state: State, evaluation: Evaluation | None) -> Tensor:
        """(A, 3) velocities after the forces have acted for half a step."""
        assert evaluation is not None
        forces = evaluation.forces.to(state.velocities)
        return torch.addcdiv(state.velocities, forces, state.masses[:, None], value=self.impulse)


def temperature_text(temperature: float | Tensor) -> str | float:
    """Temperatures as a file's settings hold them."""
    if isinstance(temperature, Tensor):
        return " ".join(f"{value:g}" for value in temperature.flatten().tolist())
    return temperature

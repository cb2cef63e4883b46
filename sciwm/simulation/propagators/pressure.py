"""Constant pressure, around any thermostat."""

import copy
import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from sciwm.core.bounds import require_counts, require_positive
from sciwm.core.random import VOLUMES, RandomStreams
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.propagators.integrator import Integrator
from sciwm.simulation.propagators.propagator import Conserved, Propagator
from sciwm.simulation.simulator import Evaluation
from sciwm.simulation.velocities import kinetic_energy, sum_by_system, temperature_of_systems

COMPRESSIBILITY = {"molecular": 7.2, "reduced": 0.1}
"""Of water, in Å³/eV, and of a Lennard-Jones liquid. It and the time constant set how fast volumes relax, not
which are visited."""


class CellRescaling(Propagator):
    """Stochastic cell rescaling: volumes of the isothermal-isobaric ensemble (Bernetti & Bussi,
    J. Chem. Phys. 153, 114107 (2020), the isotropic scheme).

    With ε = ln V, dε = -(β / τ) (P₀ - P) dt + √(2 k T β / (V τ)) dW, where P = 2 K / (3 V) - tr(stress) / 3.
    Positions are scaled about the centre of mass, the cell with them, and velocities inversely.

    | symbol | variable          |
    |--------|-------------------|
    | P₀     | `pressure`        |
    | β      | `compressibility` |
    | τ      | `time_constant`   |
    | ε      | `change`, of it   |

    Args:
        inner: Moves particles, and holds the temperature.
        pressure: Energy per volume.
        time_constant: In the units' time.
        compressibility: Volume per energy; by default that of a usual liquid.
        every: Strides of the inner propagator between changes of the volume, each of which costs two
            evaluations.
        seed: Of the noise, together with each system's `State.streams`.
    """

    conserves: frozenset[Conserved] = frozenset()

    def __init__(
        self,
        inner: Integrator,
        pressure: float,
        time_constant: float,
        compressibility: float | None = None,
        every: int = 10,
        seed: int = 0,
    ):
        if inner.temperature is None:
            raise ValueError(
                "constant pressure needs a thermostat: volumes would be those of no temperature"
            )
        usual = COMPRESSIBILITY[inner.units.name]
        self.compressibility = usual if compressibility is None else compressibility
        require_positive(time_constant=time_constant, compressibility=self.compressibility)
        require_counts(every=every)
        if not math.isfinite(pressure):
            raise ValueError(f"a pressure must be a number, got {pressure}")
        self.inner = inner
        self.stride = inner.stride
        self.pressure = pressure
        self.time_constant = time_constant
        self.every = every
        self._noise = RandomStreams(seed, VOLUMES)

    @property
    def units(self) -> UnitSystem:
        return self.inner.units

    @property
    def temperature(self) -> float | Tensor | None:
        return self.inner.temperature

    def start(self, state: State) -> Evaluation:
        if not bool(state.pbc.all()):
            raise ValueError(
                "only systems that repeat in all three directions have a pressure; leave it out"
            )
        return self.inner.start(state)

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation | None]:
        state, evaluation = self.inner.advance(state, evaluation, index)
        if (index + 1) % self.every:
            return state, evaluation
        state = self._rescaled(state, index)
        return state, self.inner.simulator.evaluate(state)

    def _rescaled(self, state: State, index: int) -> State:
        simulator = self.inner.simulator
        tension = simulator.evaluate(state, stress=True).stress
        assert tension is not None
        volume = torch.linalg.det(state.cell).abs()
        inside = 2.0 / 3.0 * kinetic_energy(state, self.units) / volume
        found = inside - tension.diagonal(dim1=1, dim2=2).sum(-1) / 3.0
        rate = self.compressibility / self.time_constant * self.every * self.stride
        held = self.inner.temperature
        assert held is not None
        heat = self.units.boltzmann * temperature_of_systems(held, state)
        first = torch.cumsum(state.counts, 0) - state.counts
        noise = self._noise.at(index // self.every, state)[first, 0]
        change = rate * (found - self.pressure) + (2.0 * heat * rate / volume).sqrt() * noise
        scale = (change / 3.0).exp()
        each = scale[state.batch][:, None]
        masses = state.masses[:, None]
        centre = sum_by_system(masses * state.positions, state) / sum_by_system(masses, state)
        away = state.positions - centre[state.batch]
        moved = state.moved(centre[state.batch] + each * away, state.velocities / each)
        moved.cell = state.cell * scale[:, None, None]
        return moved

    def outside(self, state: State, evaluation: Evaluation | None) -> dict[int, str]:
        return self.inner.outside(state, evaluation)

    def select(self, keep: Sequence[int]) -> "CellRescaling":
        chosen = copy.copy(self)
        chosen.inner = self.inner.select(keep)
        chosen._noise = RandomStreams(self._noise.seed, VOLUMES)
        return chosen

    def held_at(self, temperature: float | Tensor) -> Self:
        chosen = copy.copy(self)
        chosen.inner = self.inner.held_at(temperature)
        return chosen

    @property
    def parameters(self) -> dict[str, str | float]:
        return self.inner.parameters | {
            "barostat": "stochastic cell rescaling, isotropic",
            "pressure": self.pressure,
            "pressure_time_constant": self.time_constant,
            "compressibility": self.compressibility,
            "every": self.every,
            "pressure_seed": self._noise.seed,
        }

    @property
    def origin(self) -> tuple[str, str]:
        return self.inner.origin

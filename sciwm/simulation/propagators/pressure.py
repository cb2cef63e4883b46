"""Constant pressure, around any thermostat."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from sciwm.core.bounds import require_counts, require_positive
from sciwm.core.random import VOLUMES, RandomStreams
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.simulation.propagators.integrator import Integrator
from sciwm.simulation.propagators.propagator import Conserved, Propagator
from sciwm.simulation.simulator import Evaluation
from sciwm.simulation.velocities import sum_by_system, temperature_of_systems

COMPRESSIBILITY = {"molecular": 7.2, "reduced": 0.1}
"""Of water, in Å³/eV, and of a Lennard-Jones liquid. It and the time constant set how fast volumes relax, not
which are visited."""


class CellRescaling(Propagator, ABC):
    """Stochastic cell rescaling: cells of the isothermal-isobaric ensemble (Bernetti & Bussi,
    J. Chem. Phys. 153, 114107 (2020)).

    Every cell takes a strain, which the difference of the pressure tensor, Σ m v v / V - stress, from that
    outside drives, with the noise that belongs to it. Positions are strained about the centre of mass, the
    cell with them, and velocities inversely.

    | symbol | variable          |
    |--------|-------------------|
    | P₀     | `pressure`        |
    | β      | `compressibility` |
    | τ      | `time_constant`   |

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
    shape: ClassVar[str]
    """What becomes of the cell, in a word."""

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
        masses = state.masses[:, None]
        flow = (masses * state.velocities)[:, :, None] * state.velocities[:, None]
        inside = sum_by_system(flow.flatten(1), state).reshape(-1, 3, 3) / self.units.acceleration
        outside = self.pressure * torch.eye(3).to(tension)
        excess = inside / volume[:, None, None] - tension - outside
        rate = self.compressibility / self.time_constant * self.every * self.stride
        held = self.inner.temperature
        assert held is not None
        heat = self.units.boltzmann * temperature_of_systems(held, state)
        spread = (2.0 * rate * heat / volume).sqrt()
        strain = self._strain(rate * excess, spread, self._normals(state, index // self.every))
        grown, shrunk = torch.matrix_exp(strain), torch.matrix_exp(-strain)
        centre = (sum_by_system(masses * state.positions, state) / sum_by_system(masses, state))[
            state.batch
        ]
        away = _each(state.positions - centre, grown, state)
        moved = state.moved(centre + away, _each(state.velocities, shrunk, state))
        moved.cell = torch.bmm(state.cell, grown)
        return moved

    @abstractmethod
    def _strain(self, drift: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        """(S, 3, 3) symmetric.

        Args:
            drift: (S, 3, 3) β Δt / τ (P - P₀).
            spread: (S,) √(2 k T β Δt / (V τ)).
            noise: (S, n) normal numbers, as `_normals` gives them.
        """

    def _normals(self, state: State, number: int) -> Tensor:
        """(S, 6) of each system's own."""
        first = torch.cumsum(state.counts, 0) - state.counts
        both = [self._noise.at(2 * number + half, state)[first] for half in (0, 1)]
        return torch.cat(both, dim=1)

    def outside(self, state: State, evaluation: Evaluation | None) -> dict[int, str]:
        return self.inner.outside(state, evaluation)

    def select(self, keep: Sequence[int]) -> Self:
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
            "barostat": f"stochastic cell rescaling, {self.shape}",
            "pressure": self.pressure,
            "pressure_time_constant": self.time_constant,
            "compressibility": self.compressibility,
            "every": self.every,
            "pressure_seed": self._noise.seed,
        }

    @property
    def origin(self) -> tuple[str, str]:
        return self.inner.origin


class IsotropicRescaling(CellRescaling):
    """The cell keeps its shape: with ε = ln V, dε = -(β / τ) (P₀ - P) dt + √(2 k T β / (V τ)) dW, where P is
    a third of the trace (equation 5 there).
    """

    shape = "isotropic"

    def _strain(self, drift: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        change = drift.diagonal(dim1=1, dim2=2).mean(-1) + spread * noise[:, 0]
        return change[:, None, None] / 3.0 * torch.eye(3).to(drift)

    def _normals(self, state: State, number: int) -> Tensor:
        first = torch.cumsum(state.counts, 0) - state.counts
        return self._noise.at(number, state)[first]


class SemiIsotropicRescaling(CellRescaling):
    """Layers: the area across z and the length along it change each for itself, under the same pressure
    (equations 7 there, without surface tension).
    """

    shape = "semi-isotropic"

    def start(self, state: State) -> Evaluation:
        if bool(state.cell[:, 2, :2].any() | state.cell[:, :2, 2].any()):
            raise ValueError(
                "semi-isotropic pressure needs cells whose third vector is along z and whose first two are "
                "across it; turn the system, or let the full cell change"
            )
        return super().start(state)

    def _strain(self, drift: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        along = drift[:, 2, 2] / 3.0 + spread / 3.0**0.5 * noise[:, 0]
        area = (drift[:, 0, 0] + drift[:, 1, 1]) / 3.0 + spread * (2.0 / 3.0) ** 0.5 * noise[:, 1]
        return torch.diag_embed(torch.stack([area / 2.0, area / 2.0, along], dim=1))


class FullCellRescaling(CellRescaling):
    """All lengths and angles change: solids under hydrostatic pressure. A strain η is symmetric,
    dη = (β / 3 τ) (P - P₀ 1) dt + √(2 k T β / (3 V τ)) dS, where dS has variance dt on the diagonal and
    dt / 2 off it, and the cell becomes h exp(η). Cells h then have the density V^(N-2) exp(-(U + P₀ V) / k T)
    over their nine numbers (after Del Tatto et al., Appl. Sci. 12, 1139 (2022)).
    """

    shape = "full cell"

    def _strain(self, drift: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        normal = torch.diag_embed(noise[:, :3])
        for k, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
            normal[:, i, j] = normal[:, j, i] = noise[:, 3 + k] / 2.0**0.5
        even = 0.5 * (drift + drift.transpose(1, 2))
        return even / 3.0 + (spread / 3.0**0.5)[:, None, None] * normal


def _each(vectors: Tensor, matrices: Tensor, state: State) -> Tensor:
    """(A, 3) vectors times the matrix of their system."""
    return torch.bmm(vectors[:, None], matrices[state.batch])[:, 0]

"""A cluster of thirteen Lennard-Jones particles is led to its lowest minimum by its temperature.

The minimum, an icosahedron, lies at -44.3268 (Wales & Doye, J. Phys. Chem. A 101, 5111 (1997), table 1); a
quench ends in one of many others.
"""

import numpy as np
import torch

from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.core.units import REDUCED, UnitSystem
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.models.dynamics.pair_potential import PairPotential
from sciwm.models.dynamics.potential import Potential
from sciwm.models.encoders.radial import InverseMultiquadricBasis
from sciwm.planning.controls import Knobs
from sciwm.planning.environments.setting import Setting
from sciwm.planning.problem import Problem
from sciwm.simulation.actions import TemperatureSchedule, Trap
from sciwm.simulation.collective_variables import KineticTemperature, PotentialEnergy
from sciwm.simulation.propagators import Langevin, Propagator
from sciwm.simulation.simulator import Evaluation, Simulator

COUNT = 13
HOTTEST, COLDEST = 0.4, 0.02
TIGHT = 0.02
"""Stiffness of a trap that keeps evaporated particles near."""


class LennardJones:
    """U = 4 Σ (r⁻¹² - r⁻⁶) over the pairs of each system, all of which have as many particles; no cutoff."""

    units: UnitSystem = REDUCED

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        """Energies and forces."""
        x = state.positions.reshape(state.n_systems, -1, 3)
        arms = x[:, :, None] - x[:, None]
        itself = torch.eye(x.shape[1]).to(x)
        square = arms.square().sum(-1) + itself
        sixth = (1.0 - itself) / square**3
        energy = 2.0 * (sixth**2 - sixth).sum((1, 2))
        pull = 24.0 * (2.0 * sixth**2 - sixth) / square
        return Evaluation(energy, (pull[..., None] * arms).sum(2).reshape(-1, 3))

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        """Nowhere."""
        return {}


def moved_by(simulator: Simulator) -> Propagator:
    """Langevin dynamics, whose temperature is what is chosen."""
    return Langevin(simulator, 0.02, HOTTEST, 0.5)


def untrained() -> Potential:
    """A pair potential that has learned nothing yet."""
    return PairPotential(InverseMultiquadricBasis(size=24, narrowest=0.1, widest=5.0), 2)


def annealing(seed: int = 0) -> Setting:
    """Return: how low the energy is in the end; the last stage is always cold.

    Args:
        seed: Of where the particles start, hot and in no order.
    """
    rng = np.random.default_rng(seed)
    points = np.empty((0, 3))
    while len(points) < COUNT:
        place = rng.uniform(-1.6, 1.6, size=(1, 3))
        if not len(points) or np.linalg.norm(points - place, axis=1).min() > 0.95:
            points = np.concatenate([points, place])
    frame = Frame(np.ones(COUNT, dtype=np.int64), points, masses=np.ones(COUNT))
    hold = Trap(list(range(COUNT)), TIGHT, [0.0, 0.0, 0.0])
    knob = TemperatureSchedule([0.0], [f"{COLDEST} .. {HOTTEST}"])
    problem = Problem(
        start=State.from_frame(frame, torch.float64),
        controls=Knobs([knob], 8, REDUCED),
        stage=5.0,
        measures={"energy": PotentialEnergy()},
        objective=Objective.parse("minimize energy", {"energy": ""}),
        propagator=moved_by,
        every=50,
        temperature=HOTTEST,
        always=[hold],
    )
    observed = {"energy": PotentialEnergy(), "heat": KineticTemperature()}
    return Setting(problem, LennardJones(), untrained, observed)

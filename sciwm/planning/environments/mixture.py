"""Light and heavy particles of equal charge, mixed in a trap, are separated by a field that changes in time.

They repel one another and the field pulls at all of them alike: only their masses tell them apart, so that
the field has to be in time with the motion of one kind and out of time with that of the other.
"""

import numpy as np
import torch

from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.core.units import REDUCED
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.planning.controls import Knobs
from sciwm.planning.environments.charges import SoftenedCoulomb, pair_law
from sciwm.planning.environments.setting import Setting
from sciwm.planning.problem import Problem
from sciwm.simulation.actions import Trap, UniformField
from sciwm.simulation.collective_variables import Place, Velocity
from sciwm.simulation.propagators import Langevin, Propagator
from sciwm.simulation.simulator import Simulator

LIGHT, HEAVY = [0, 2, 4, 6], [1, 3, 5, 7]
MASSES = 0.5, 2.0
CHARGE = 0.3
STIFFNESS = 1.0


def moved_by(simulator: Simulator) -> Propagator:
    """Langevin dynamics, nearly cold, with little friction."""
    return Langevin(simulator, 0.04, 0.002, 0.05)


def mixture(stiffness: float = STIFFNESS) -> Setting:
    """Return: how far the light particles end to the right of the heavy ones, on the mean.

    Args:
        stiffness: Of the trap, which is known as the field is: part of the apparatus.
    """
    turns = np.arange(8) * (2 * np.pi / 8)
    points = np.zeros((8, 3))
    points[:, 0], points[:, 1] = 0.8 * np.cos(turns), 0.8 * np.sin(turns)
    masses = np.full(8, MASSES[1])
    masses[LIGHT] = MASSES[0]
    frame = Frame(
        numbers=np.ones(8, dtype=np.int64),
        positions=points,
        masses=masses,
        charges=np.full(8, CHARGE),
        dimension=2,
    )
    measures = {"light": Place(LIGHT, "x"), "heavy": Place(HEAVY, "x")}
    problem = Problem(
        start=State.from_frame(frame, torch.float64),
        controls=Knobs([UniformField(["-1 .. 1", 0.0, 0.0])], 14, REDUCED),
        stage=0.48,
        measures=measures,
        objective=Objective.parse("maximize light - heavy", {"light": "", "heavy": ""}),
        propagator=moved_by,
        every=2,
        temperature=0.002,
        always=[Trap([*range(8)], stiffness, [0.0, 0.0, 0.0])],
    )
    observed = {
        f"{name} {kind}": variable(particles, "x")
        for name, variable in (("place", Place), ("speed", Velocity))
        for kind, particles in (("light", LIGHT), ("heavy", HEAVY))
    }
    return Setting(problem, SoftenedCoulomb(), lambda: pair_law(2), observed)

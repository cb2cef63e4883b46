"""An ion is moved to a place among others by an electric field that acts on all of them."""

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
from sciwm.simulation.actions import Frozen, UniformField
from sciwm.simulation.collective_variables import Place, Velocity
from sciwm.simulation.propagators import Langevin, Propagator
from sciwm.simulation.simulator import Simulator

PLACES = [(-1.5, 0.0), (0.0, 1.2), (0.3, -1.0), (-0.5, 0.9), (0.6, 0.4)]
CHARGES = [1.0, -1.0, 1.0, -1.5, 1.5]
TARGET = (1.5, 0.5)


def moved_by(simulator: Simulator) -> Propagator:
    """Langevin dynamics, nearly cold."""
    return Langevin(simulator, 0.04, 0.002, 0.5)


def ions(target: tuple[float, float] = TARGET) -> Setting:
    """Return: how near the target the first ion ends; the last two ions are held."""
    points = np.zeros((5, 3))
    points[:, :2] = PLACES
    frame = Frame(
        numbers=np.ones(5, dtype=np.int64),
        positions=points,
        masses=np.ones(5),
        charges=np.array(CHARGES),
        dimension=2,
    )
    problem = Problem(
        start=State.from_frame(frame, torch.float64),
        controls=Knobs([UniformField(["-2 .. 2", "-2 .. 2", 0.0])], 10, REDUCED),
        stage=0.4,
        measures={"x": Place([0], "x"), "y": Place([0], "y")},
        objective=Objective.parse(
            f"minimize sqrt((x - {target[0]})**2 + (y - {target[1]})**2)", {"x": "", "y": ""}
        ),
        propagator=moved_by,
        every=2,
        temperature=0.002,
        always=[Frozen([3, 4])],
    )
    observed = {
        f"{name} {axis} {ion}": kind([ion], axis)
        for name, kind in (("place", Place), ("speed", Velocity))
        for axis in ("x", "y")
        for ion in range(3)
    }
    return Setting(problem, SoftenedCoulomb(), lambda: pair_law(2), observed)

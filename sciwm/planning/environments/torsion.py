"""The hydroxyl group of ethanol is pulled over its barrier, from gauche to trans, for the least work.

The true simulator is GFN2-xTB; the world that comes with the package knows molecules like this one.
"""

import torch

from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.evaluation.run import model_file
from sciwm.models import archive
from sciwm.models.dynamics.potential import Potential
from sciwm.planning.controls import Knobs
from sciwm.planning.environments.setting import Setting
from sciwm.planning.problem import Problem, measured_in
from sciwm.simulation.actions import SteeredTorsion
from sciwm.simulation.collective_variables import Torsion, Work
from sciwm.simulation.propagators import Langevin, Propagator
from sciwm.simulation.references.xtb import GFN2
from sciwm.simulation.simulator import Simulator

HYDROXYL = [8, 2, 1, 0]
"""H-O-C-C."""


def moved_by(simulator: Simulator) -> Propagator:
    """Langevin dynamics at 300 K."""
    return Langevin(simulator, 1.0, 300.0, 0.01)


def world() -> Potential:
    """The world that comes with the package, which is not trained any more."""
    return archive.load(model_file("organic")).potential


def torsion() -> Setting:
    """Return: the work, and 0.02 eV for each degree that is missing to trans."""
    measures = {"torsion": Torsion(HYDROXYL), "work": Work()}
    spring = SteeredTorsion(HYDROXYL, "50 .. 400 fs", "0.5 .. 8 eV", 60.0, "60 .. 300")
    goal = "minimize work + 0.02 eV * (180 deg - abs(torsion)) / 1 deg"
    problem = Problem(
        start=State.from_smiles("CCO", dtype=torch.float32),
        controls=Knobs([spring], 1, MOLECULAR),
        stage=400.0,
        measures=measures,
        objective=Objective.parse(goal, measured_in(measures, MOLECULAR)),
        propagator=moved_by,
        temperature=300.0,
    )
    return Setting(problem, GFN2(), world, measures)

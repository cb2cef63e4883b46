"""A particle is pushed over the barrier of a double well by a force that is too weak to carry it over.

The barrier is 2 high and its slope up to 3.1; the force is 1.5 at most, so the particle has to be swung. It
feels friction and heat.
"""

from sciwm.core.units import REDUCED
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.planning.controls import Knobs
from sciwm.planning.environments.landscape import ORIGIN, RIGHT, UP, WALKER, DoubleWell, untrained
from sciwm.planning.environments.setting import Setting
from sciwm.planning.problem import Problem
from sciwm.simulation.actions import ConstantForce, Frozen
from sciwm.simulation.collective_variables import Place, Velocity
from sciwm.simulation.propagators import Langevin, Propagator
from sciwm.simulation.simulator import Simulator

ANCHORS = [(-3.0, -3.0), (3.0, -3.0), (-3.0, 3.0)]


def moved_by(simulator: Simulator) -> Propagator:
    """Langevin dynamics at a four-hundredth of the barrier's height."""
    return Langevin(simulator, 0.06, 0.005, 0.1)


def double_well(begin: float = -1.0) -> Setting:
    """Return: how near the bottom of the other well the particle ends.

    Args:
        begin: The bottom of a well, at -1 or 1.
    """
    truth = DoubleWell()
    measures = {"x": Place([WALKER], "x")}
    problem = Problem(
        start=truth.start((begin, 0.0), ANCHORS),
        controls=Knobs([ConstantForce([WALKER], ["-1.5 .. 1.5", 0.0, 0.0])], 12, REDUCED),
        stage=0.48,
        measures=measures,
        objective=Objective.parse(f"minimize abs(x - {-begin:g})", {"x": ""}),
        propagator=moved_by,
        every=2,
        temperature=0.005,
        always=[Frozen([ORIGIN, RIGHT, UP])],
    )
    observed = {"x": Place([WALKER], "x"), "speed": Velocity([WALKER], "x")}
    return Setting(problem, truth, lambda: untrained(10.0), observed)

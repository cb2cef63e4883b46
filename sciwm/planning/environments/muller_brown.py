"""A particle is led from one minimum of the Müller-Brown surface to another, against friction and heat."""

from sciwm.core.units import REDUCED
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.planning.controls import Knobs
from sciwm.planning.environments.landscape import ORIGIN, RIGHT, UP, WALKER, MullerBrown, untrained
from sciwm.planning.environments.setting import Setting
from sciwm.planning.problem import Problem
from sciwm.simulation.actions import ConstantForce, Frozen
from sciwm.simulation.collective_variables import Place, Velocity
from sciwm.simulation.propagators import Langevin, Propagator
from sciwm.simulation.simulator import Simulator

START, TARGET = (-0.558, 1.442), (0.623, 0.028)
ANCHORS = [(-3.0, -2.0), (3.0, -2.0), (-3.0, 4.0)]


def moved_by(simulator: Simulator) -> Propagator:
    """Langevin dynamics at a hundredth of the barrier's height."""
    return Langevin(simulator, 0.04, 0.02, 1.0)


def muller_brown(target: tuple[float, float] = TARGET) -> Setting:
    """Return: how near the target the particle ends."""
    truth = MullerBrown()
    problem = Problem(
        start=truth.start(START, ANCHORS),
        controls=Knobs([ConstantForce([WALKER], ["-5 .. 5", "-5 .. 5", 0.0])], 10, REDUCED),
        stage=0.4,
        measures={"x": Place([WALKER], "x"), "y": Place([WALKER], "y")},
        objective=Objective.parse(
            f"minimize sqrt((x - {target[0]})**2 + (y - {target[1]})**2)", {"x": "", "y": ""}
        ),
        propagator=moved_by,
        every=2,
        temperature=0.02,
        always=[Frozen([ORIGIN, RIGHT, UP])],
    )
    observed = {
        f"{name} {axis}": kind([WALKER], axis)
        for name, kind in (("place", Place), ("speed", Velocity))
        for axis in ("x", "y")
    }
    return Setting(problem, truth, lambda: untrained(9.0), observed)

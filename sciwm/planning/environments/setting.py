"""What makes up a task: a problem, the simulator that is true, and a model that can learn it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sciwm.models.dynamics.potential import Potential
from sciwm.planning.problem import Problem
from sciwm.simulation.collective_variables import CollectiveVariable
from sciwm.simulation.simulator import Simulator


@dataclass(frozen=True)
class Setting:
    """A task.

    Attributes:
        problem: What can be done, and what is wanted.
        truth: The true simulator.
        untrained: A model of a world that has learned nothing yet.
        observed: What an agent is shown of the system at each stage.
    """

    problem: Problem
    truth: Simulator
    untrained: Callable[[], Potential]
    observed: Mapping[str, CollectiveVariable]

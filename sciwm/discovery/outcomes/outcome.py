"""What is worth knowing of a molecule, as a recipe that runs alike on a learned world and a reference."""

import abc
from dataclasses import dataclass, field

from sciwm.core.frame import Frame
from sciwm.discovery.hypothesis import Failure, Stage
from sciwm.simulation.simulator import PropertySimulator


@dataclass(frozen=True, eq=False)
class Value:
    """One outcome of one structure in one world.

    Attributes:
        mean: In the outcome's unit.
        spread: One standard error of sampling; zero where the recipe draws no samples.
        seconds: Processor time it took.
        frames: Structures met on the way, with energies and forces: training data.
        flag: Why the world should not be trusted here; None where it should.
    """

    mean: float
    spread: float = 0.0
    seconds: float = 0.0
    frames: list[Frame] = field(default_factory=list)
    flag: str | None = None


class OutcomeError(RuntimeError):
    """A structure whose outcome cannot be had.

    Attributes:
        failure: Where and why.
    """

    def __init__(self, stage: Stage, reason: str):
        super().__init__(f"{stage}: {reason}")
        self.failure = Failure(stage, reason)


class Outcome(abc.ABC):
    """A recipe.

    Attributes:
        name: As objectives and tables call it.
        unit: Of its value.
    """

    name: str
    unit: str

    @abc.abstractmethod
    def evaluate(self, world: PropertySimulator, structure: Frame, seed: int = 0) -> Value:
        """Raises OutcomeError where there is no sound value."""

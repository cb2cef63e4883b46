"""What is worth knowing of a molecule, as a recipe that runs alike on a learned world and a reference."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field

from sciwm.core.frame import Array, Frame
from sciwm.discovery.problem.hypothesis import Failure, Stage
from sciwm.simulation.references.reference import WorkerError
from sciwm.simulation.simulator import PropertySimulator


@dataclass(frozen=True, eq=False)
class Value:
    """One outcome of one structure in one world.

    Attributes:
        mean: In the outcome's unit.
        spread: One standard error of sampling; zero where the recipe draws no samples.
        frames: Structures met on the way, with energies and forces: training data.
        flag: Why the world should not be trusted here; None where it should.
        curve: (2, M) abscissa and ordinate, where the outcome is read off a curve.
    """

    mean: float
    spread: float = 0.0
    frames: list[Frame] = field(default_factory=list)
    flag: str | None = None
    curve: Array | None = None


class OutcomeError(RuntimeError):
    """A structure whose outcome cannot be had.

    Attributes:
        failure: Where and why.
    """

    def __init__(self, failure: Failure):
        super().__init__(f"{failure.stage}: {failure.reason}")
        self.failure = failure


class Outcome(abc.ABC):
    """A recipe.

    Every constructor argument is kept under its own name, so that a recipe can be written down.
    """

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """As objectives and tables call it."""

    @property
    @abc.abstractmethod
    def unit(self) -> str:
        """Of its value."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Properties that it asks of its world besides energies and forces."""
        return ()

    @abc.abstractmethod
    def evaluate_many(
        self, world: PropertySimulator, structures: Sequence[Frame], seed: int = 0
    ) -> list[Value | Failure]:
        """The outcome of each structure, side by side; where there is no sound value, why."""

    def evaluate(self, world: PropertySimulator, structure: Frame, seed: int = 0) -> Value:
        """The outcome of one structure.

        Raises:
            OutcomeError: If it has no sound value.
        """
        [found] = self.evaluate_many(world, [structure], seed)
        if isinstance(found, Failure):
            raise OutcomeError(found)
        return found


def failure_of(error: Exception) -> Failure:
    """What a simulator's error means for a candidate."""
    stage: Stage = "worker" if isinstance(error, WorkerError) else "calculation"
    return Failure(stage, str(error))

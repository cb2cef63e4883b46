"""An outcome: the length of a molecule at rest, in a learned world or with a reference."""

from collections.abc import Sequence

from scipy.spatial.distance import pdist

from sciwm.core.frame import Frame
from sciwm.discovery.problem.hypothesis import Failure
from sciwm.discovery.problem.outcomes.outcome import Outcome, Value
from sciwm.discovery.problem.outcomes.relaxation import minima
from sciwm.simulation.simulator import PropertySimulator


class MolecularLength(Outcome):
    """The largest distance between two atoms at the minimum nearest to the given structure."""

    name = "molecular_length"
    unit = "Å"

    def evaluate_many(
        self, world: PropertySimulator, structures: Sequence[Frame], seed: int = 0
    ) -> list[Value | Failure]:
        """Of each structure; those that have no minimum say why."""
        return [
            one
            if isinstance(one, Failure)
            else Value(float(pdist(one.frame.positions).max()), frames=[one.frame], flag=one.flag)
            for one in minima(world, structures)
        ]

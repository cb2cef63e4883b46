"""Several models of the same world: where they disagree, none of them should be believed.

Members share their data and differ in seed and in what they drew of it (deep ensembles,
Lakshminarayanan et al. 2017, arXiv:1612.01474; `FrameData(bootstrap=True)`). Each is a simulator of
its own, in which a recipe can be run from start to end.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.models.dynamics.potential import Potential
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.simulator import Evaluation


class Ensemble:
    """The mean of several learned worlds, and how far they are apart.

    Args:
        models: At least two, in the same units.
        limit: Disagreement on the force on an atom above which a system is outside; `calibrate`
            measures one.

    Attributes:
        members: A simulator for each model.
        limit: See above; infinite until given or measured.
    """

    def __init__(self, models: Sequence[Potential], limit: float = math.inf):
        if len(models) < 2:
            raise ValueError(f"an ensemble needs at least two models, got {len(models)}")
        names = sorted({model.unit_system for model in models})
        if len(names) > 1:
            raise ValueError(f"the models of an ensemble must share their units, got {names}")
        if limit <= 0:
            raise ValueError(f"limit must be positive, got {limit}")
        self.members = [LearnedSimulator(model) for model in models]
        self.limit = limit

    @property
    def units(self) -> UnitSystem:
        return self.members[0].units

    @property
    def fingerprint(self) -> str:
        """Tells its members from all others."""
        return " ".join(member.fingerprint for member in self.members)

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        """The mean energy, whose derivatives are the mean forces and stress."""
        return _mean([member.evaluate(state, stress) for member in self.members])

    def disagreement(self, state: State) -> tuple[Evaluation, Tensor]:
        """The mean, and (A,) the standard deviation of the force on each atom among the members.

        The deviation of a vector is the root of the sum of its components' variances.
        """
        found = [member.evaluate(state) for member in self.members]
        forces = torch.stack([one.forces.double() for one in found])
        return _mean(found), forces.var(dim=0).sum(-1).sqrt()

    def calibrate(self, states: Iterable[State]) -> float:
        """Sets the limit to the largest disagreement on states that all members were validated on.

        Raises:
            ValueError: If there are none.
        """
        largest = [float(self.disagreement(state)[1].max()) for state in states]
        if not largest:
            raise ValueError("an ensemble is calibrated on validation states, got none")
        self.limit = max(largest)
        return self.limit

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        """Systems outside the domain of a member, or on which the members disagree."""
        reasons: dict[int, str] = {}
        for member in self.members:
            reasons = member.outside(state, evaluation) | reasons
        if math.isinf(self.limit) or self.members[0].model.domain.unseen(
            state.numbers, state.batch
        ):
            return reasons
        _, spread = self.disagreement(state)
        for atom in torch.nonzero(spread > self.limit)[:, 0].tolist():
            reasons.setdefault(
                int(state.batch[atom]),
                f"the models disagree by {float(spread[atom]):.3g} {self.units.force} on the force on "
                f"atom {atom}, more than ever in validation ({self.limit:.3g})",
            )
        return reasons

    def observe(self, state: State, names: Sequence[str]) -> dict[str, Tensor]:
        """The mean of what the members observe; see `PropertySimulator`."""
        found = [member.observe(state, names) for member in self.members]
        return {name: torch.stack([one[name] for one in found]).mean(dim=0) for name in names}


def _mean(found: list[Evaluation]) -> Evaluation:
    tensions = [one.stress for one in found if one.stress is not None]
    return Evaluation(
        energy=torch.stack([one.energy for one in found]).mean(dim=0),
        forces=torch.stack([one.forces for one in found]).mean(dim=0),
        stress=torch.stack(tensions).mean(dim=0) if tensions else None,
    )

"""What a molecule's outcomes are worth to an objective, with all that follows from its SMILES alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from rdkit import Chem

from sciwm.core.frame import Array
from sciwm.core.molecules import parsed
from sciwm.discovery.problem.descriptors import DESCRIPTORS, described
from sciwm.discovery.problem.hypothesis import Hypothesis, Measurement
from sciwm.discovery.problem.objective.objective import Objective

Merit = Callable[[Sequence[str], Mapping[str, Array]], Array]
"""N molecules by SMILES and their outcomes by name, each (N,), to scores (N, G), larger is better.

-inf where a requirement is broken, NaN where something is unknown.
"""


def merit_of(objective: Objective) -> Merit:
    """The objective with its requirements, over outcomes and exact descriptors."""
    exact = [name for name in objective.outcomes if name in DESCRIPTORS]
    known: dict[str, list[float]] = {}

    def merit(smiles: Sequence[str], values: Mapping[str, Array]) -> Array:
        for one in smiles:
            if exact and one not in known:
                molecule = parsed(one)
                known[one] = [described(name, molecule) for name in exact]
        unknown = np.full(len(smiles), np.nan)
        table = {name: values.get(name, unknown) for name in objective.outcomes}
        for k, name in enumerate(exact):
            table[name] = np.array([known[one][k] for one in smiles])
        scores = objective.evaluate(table)
        blank = np.isnan(np.array([table[name] for name in objective.outcomes])).any(axis=0)
        scores[~objective.feasible(table)] = -np.inf
        scores[blank] = np.nan
        return scores

    return merit


def met(hypotheses: Sequence[Hypothesis], objective: Objective) -> list[Hypothesis]:
    """The hypotheses, those without their measured score whose measurements break a requirement."""
    merit = merit_of(objective)
    scored = [h for h in hypotheses if h.measured_score]
    names = {name for h in scored for name in h.measurements}
    values = {
        name: np.array(
            [h.measurements[name].value if name in h.measurements else np.nan for h in scored]
        )
        for name in names
    }
    worth = merit([h.candidate.smiles for h in scored], values) if scored else np.zeros((0, 1))
    broken = {
        h.candidate.smiles
        for h, score in zip(scored, worth, strict=True)
        if np.isneginf(score).any()
    }
    return [
        replace(h, measured_score=()) if h.candidate.smiles in broken else h for h in hypotheses
    ]


class NothingScoredError(ValueError):
    """An objective that has no finite value for anything that was measured."""


class Scores:
    """What outcomes and exact descriptors are worth to an objective.

    Args:
        outcomes: Names of those that are imagined and measured.

    Raises:
        ValueError: If the objective names what is neither an outcome nor a descriptor.
    """

    def __init__(self, objective: Objective, outcomes: Sequence[str]):
        self.objective = objective
        self.outcomes = list(outcomes)
        unknown = [
            name
            for name in objective.outcomes
            if name not in self.outcomes and name not in DESCRIPTORS
        ]
        if unknown:
            raise ValueError(
                f"the objective needs {', '.join(unknown)}, which no recipe gives; add its recipe to "
                f"the outcomes, which are {', '.join(self.outcomes)}"
            )

    def measured(self, smiles: str, measurements: Mapping[str, Measurement]) -> tuple[float, ...]:
        """Of each goal; empty where a requirement is not met or something is not finite."""
        columns = self._columns(smiles, measurements)
        score = self.objective.evaluate(columns)[0]
        met = bool(self.objective.feasible(columns)[0])
        return tuple(score.tolist()) if met and np.isfinite(score).all() else ()

    def flaws(self, hypotheses: Sequence[Hypothesis]) -> dict[str, str]:
        """Why a score is not finite although all that it depends on is known, by SMILES."""
        found = {}
        for one in hypotheses:
            if one.measured_score or one.failure is not None:
                continue
            columns = self._columns(one.candidate.smiles, one.measurements)
            flaw = self.objective.flaw({name: column[0] for name, column in columns.items()})
            if flaw is not None:
                found[one.candidate.smiles] = flaw
        return found

    def require_some(self, hypotheses: Sequence[Hypothesis]) -> None:
        """Raises NothingScoredError if something was measured, and not one score is finite."""
        judged = [one for one in hypotheses if one.failure is None]
        flaws = self.flaws(judged)
        if judged and len(flaws) == len(judged):
            smiles, flaw = next(iter(flaws.items()))
            raise NothingScoredError(
                f"not one of {len(judged)} molecules has a finite score, as {smiles}: {flaw}; mend the "
                "objective and begin another campaign"
            )

    def with_descriptors(
        self, smiles: Sequence[str], mean: Array, spread: Array
    ) -> tuple[list[str], Array, Array]:
        """Names, means and spreads of outcomes and of the descriptors that the objective names.

        Args:
            mean: (N, O) of the outcomes.
            spread: (N, O) of them; descriptors have none.
        """
        exact = [name for name in self.objective.outcomes if name in DESCRIPTORS]
        molecules = [Chem.MolFromSmiles(one) for one in smiles]
        columns = [
            np.array([described(name, molecule) for molecule in molecules]) for name in exact
        ]
        if columns:
            mean = np.column_stack([mean, *columns])
            spread = np.column_stack([spread, *(np.zeros(len(smiles)) for _ in exact)])
        return [*self.outcomes, *exact], mean, spread

    def _columns(self, smiles: str, measurements: Mapping[str, Measurement]) -> dict[str, Array]:
        """(1,) of every outcome and descriptor; NaN where it was not measured."""
        found = np.array(
            [
                [measurements[name].value if name in measurements else math.nan]
                for name in self.outcomes
            ]
        ).T
        names, table, _ = self.with_descriptors([smiles], found, np.zeros_like(found))
        return {name: table[:, k] for k, name in enumerate(names)}

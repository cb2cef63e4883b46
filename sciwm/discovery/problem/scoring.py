"""What a molecule's outcomes are worth to an objective, with all that follows from its SMILES alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sciwm.core.frame import Array
from sciwm.core.molecules import parsed
from sciwm.discovery.problem.descriptors import DESCRIPTORS, described
from sciwm.discovery.problem.hypothesis import Hypothesis
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

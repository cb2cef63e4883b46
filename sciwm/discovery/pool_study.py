"""A campaign replayed on a table whose answers are known: how many calls would it have taken?

The answers of a molecule are shown to the predictor once it has been chosen and not before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sciwm.core.frame import Array
from sciwm.discovery.planners.acquisition import Acquisition, choose
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.discovery.surrogate.calibration import AdaptiveConformal
from sciwm.discovery.surrogate.fingerprints import morgan
from sciwm.discovery.surrogate.predictors.predictor import Predictor
from sciwm.discovery.surrogate.predictors.tanimoto import TanimotoGaussianProcess


@dataclass(eq=False)
class PoolStudy:
    """What was evaluated.

    Attributes:
        order: Rows of the table as they were chosen, the random start first.
        inside: For each round, whether each measurement of each outcome (q, K) lay in its 90 %
            interval; empty where nothing was predicted.
        unscaled: Likewise for intervals of 1.645 of the model's own spreads.
    """

    order: list[int]
    inside: list[NDArray[np.bool_]] = field(default_factory=list)
    unscaled: list[NDArray[np.bool_]] = field(default_factory=list)


def study_pool(
    smiles: Sequence[str],
    values: Array,
    objective: Objective,
    predictor: Predictor,
    acquisition: Acquisition,
    seed: int,
    start: int = 10,
    batch: int = 1,
    limit: int | None = None,
    targets: Sequence[int] = (),
    diversity: float = 0.0,
    draws: int = 256,
) -> PoolStudy:
    """Chooses until all targets are found, the limit is reached, or the table is used up.

    Args:
        smiles: N molecules.
        values: (N, K) their outcomes, the columns of `predictor.outcomes`.
        objective: Of these outcomes.
        predictor: Fitted anew each round.
        acquisition: Says what is worth choosing.
        seed: Of the start and of whatever else is left to chance.
        start: Molecules drawn at random first.
        batch: Molecules of a round.
        limit: Most molecules evaluated; the whole table where absent.
        targets: Rows that end the replay once all are found.
        diversity: See `choose`.
        draws: Of the objective for each molecule.
    """
    rng = np.random.default_rng(seed)
    names = predictor.outcomes
    truth = objective.evaluate({name: values[:, k] for k, name in enumerate(names)})
    feasible = objective.feasible({name: values[:, k] for k, name in enumerate(names)})
    found = PoolStudy([int(i) for i in rng.permutation(len(smiles))[:start]])
    limit = min(limit or len(smiles), len(smiles))
    intervals = [AdaptiveConformal() for _ in names]
    while len(found.order) < limit and not (targets and set(targets) <= set(found.order)):
        order = np.array(found.order)
        predictor.fit([smiles[i] for i in order], values[order])
        if len(found.order) == start and isinstance(predictor, TanimotoGaussianProcess):
            known = predictor.leave_one_out()
            for k, one in enumerate(intervals):
                one.seed(known.mean[:, k], known.spread[:, k], values[order, k])
        rest = np.setdiff1d(np.arange(len(smiles)), order)
        expected = predictor.predict([smiles[i] for i in rest])
        samples = objective.sample(expected.mean, expected.spread, names, draws, rng)
        measured = truth[order][feasible[order] & np.isfinite(truth[order]).all(axis=1)]
        scores = acquisition.score(samples, measured, rng)
        q = min(batch, limit - len(order))
        # Fingerprints only matter to a batch that is to be diverse.
        prints = morgan([smiles[i] for i in rest] if diversity else [])
        places = choose(scores, prints, q, diversity, rng)
        if not len(places):
            break
        mean, spread = expected.mean[places], expected.spread[places]
        actual = values[rest[places]]
        inside = np.empty(actual.shape, dtype=bool)
        for k, one in enumerate(intervals):
            lower, upper = one.interval(mean[:, k], spread[:, k])
            inside[:, k] = (lower <= actual[:, k]) & (actual[:, k] <= upper)
            one.update(mean[:, k], spread[:, k], actual[:, k])
        found.inside.append(inside)
        found.unscaled.append(np.abs(actual - mean) <= 1.6449 * spread)
        found.order += [int(i) for i in rest[places]]
    return found

"""What was measured becomes a fitted predictor, with intervals from how wrong it has been."""

import copy
import math
from collections.abc import Collection, Sequence

import numpy as np

from sciwm.discovery.problem.hypothesis import Hypothesis, Measurement
from sciwm.discovery.surrogate.calibration import AdaptiveConformal
from sciwm.discovery.surrogate.predictors.predictor import Predictor

FOLDS = 5
"""Parts of the first measurements that each in turn are predicted from the others."""


def fit_with_intervals(
    predictor: Predictor, measured: Sequence[Hypothesis], taught: Collection[str]
) -> dict[str, AdaptiveConformal]:
    """Fits the predictor to all that was measured, and gives the intervals of its outcomes.

    Intervals start from molecules that were measured before anything was predicted, each predicted
    from the others, and then follow the predictions of every round.

    Args:
        measured: In the order in which they were proposed.
        taught: SMILES that worlds have learned from: no test of them.
    """
    smiles = [one.candidate.smiles for one in measured]
    missing = Measurement(math.nan)
    values = np.array(
        [
            [one.measurements.get(name, missing).value for name in predictor.outcomes]
            for one in measured
        ]
    )
    first = np.array(
        [not one.predictions and one.candidate.smiles not in taught for one in measured]
    )
    intervals = {name: AdaptiveConformal() for name in predictor.outcomes}
    for fold in range(FOLDS):
        held = np.flatnonzero(first)[fold::FOLDS]
        kept = np.setdiff1d(np.arange(len(smiles)), held)
        if not len(held) or not np.isfinite(values[kept]).any(axis=0).all():
            continue
        stranger = copy.copy(predictor)
        stranger.fit([smiles[k] for k in kept], values[kept])
        said = stranger.predict([smiles[k] for k in held])
        for k, name in enumerate(predictor.outcomes):
            intervals[name].seed(said.mean[:, k], said.spread[:, k], values[held, k])
    for before in sorted({one.round for one in measured}):
        batch = [one for one in measured if one.round == before and one.predictions]
        for name in predictor.outcomes:
            told = [one for one in batch if name in one.predictions and name in one.measurements]
            if told:
                intervals[name].update(
                    np.array([one.predictions[name].mean for one in told]),
                    np.array([one.predictions[name].spread for one in told]),
                    np.array([one.measurements[name].value for one in told]),
                )
    predictor.fit(smiles, values)
    return intervals

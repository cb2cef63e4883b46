"""A learned world corrected by what it got wrong on molecules that were measured."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sciwm.core.frame import Array
from sciwm.discovery.surrogate.predictors.predictor import Expectation, Predictor
from sciwm.discovery.surrogate.predictors.tanimoto import TanimotoGaussianProcess


class ImaginingPredictor(Predictor, Protocol):
    """A predictor that may have been taught some molecules before it is fitted."""

    @property
    def taught(self) -> frozenset[str]:
        """Their SMILES."""


class CorrectedOutcomes:
    """The base's outcome plus a Gaussian process for its error (Ramakrishnan et al. 2015, Δ-learning).

    Where the base has no value the process alone predicts the outcome from all that was measured,
    and the molecule keeps its flag.

    Args:
        base: What imagines outcomes.
    """

    def __init__(self, base: ImaginingPredictor):
        self.base = base
        self._errors = TanimotoGaussianProcess(base.outcomes)
        self._values = TanimotoGaussianProcess(base.outcomes)
        self._fitted = self._corrected = False

    @property
    def outcomes(self) -> tuple[str, ...]:
        """See `Predictor`."""
        return self.base.outcomes

    @property
    def version(self) -> str:
        """See `Predictor`."""
        return f"{self.base.version}+{self._values.version}" if self._fitted else self.base.version

    def fit(self, smiles: Sequence[str], values: Array) -> None:
        """See `Predictor`."""
        self.base.fit(smiles, values)
        if np.isfinite(values).any(axis=0).all():
            self._values.fit(smiles, values)
            self._fitted = True
        wrong = values - self.base.predict(smiles).mean
        # Errors on what the worlds were taught say nothing of those on anything else.
        wrong[[one in self.base.taught for one in smiles]] = np.nan
        self._corrected = bool((np.isfinite(wrong).sum(axis=0) >= 3).all())
        if self._corrected:
            self._errors.fit(smiles, wrong)

    def predict(self, smiles: Sequence[str]) -> Expectation:
        """See `Predictor`."""
        imagined = self.base.predict(smiles)
        mean, spread = imagined.mean.copy(), imagined.spread.copy()
        if self._corrected:
            error = self._errors.predict(smiles)
            mean, spread = mean + error.mean, np.hypot(spread, error.spread)
        if self._fitted:
            plain = self._values.predict(smiles)
            unknown = ~np.isfinite(mean)
            mean = np.where(unknown, plain.mean, mean)
            spread = np.where(unknown, plain.spread, spread)
        return Expectation(mean, spread, imagined.flags)

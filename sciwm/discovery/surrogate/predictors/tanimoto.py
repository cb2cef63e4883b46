"""Gaussian process regression on molecular fingerprints: the first model of every campaign."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from scipy.linalg import cho_solve, solve_triangular

from sciwm.core.frame import Array
from sciwm.discovery.surrogate.fingerprints import Fingerprints, morgan, morgan_of, similarity
from sciwm.discovery.surrogate.predictors.kernels import (
    Similarities,
    Solution,
    fit_hyperparameters,
    solve,
)
from sciwm.discovery.surrogate.predictors.predictor import Expectation

_FITTED_ROWS = 1000
"""Training molecules that hyperparameters are fitted to; all are used to predict."""

_CHUNK = 2000


@dataclass(frozen=True, eq=False)
class _Column:
    """One outcome's process, in standard deviations of its values."""

    rows: NDArray[np.int64]
    logs: Array
    solution: Solution
    centre: float
    scale: float


class TanimotoGaussianProcess:
    """A process of its own for each outcome (Ralaivola et al. 2005, Griffiths et al. 2022).

    The covariance is the Tanimoto similarity of counted Morgan environments and, with features, a
    linear and a Gaussian part in them: a cheap calculation then gives the trend, and structure
    explains what it misses. The spread is that of a measurement, with the unresolved variance in.

    Args:
        outcomes: Names of the K outcomes.
        features: From N SMILES to (N, P) numbers, such as energies of a cheap method; NaN where
            there are none. Columns are standardised by the training molecules.
        radius: Of the environments, in bonds.
    """

    def __init__(
        self,
        outcomes: Sequence[str],
        features: Callable[[Sequence[str]], Array] | None = None,
        radius: int = 2,
    ):
        self._outcomes = tuple(outcomes)
        self._features = features
        self._radius = radius
        self._columns: list[_Column] = []
        self._version = "untrained"

    @property
    def outcomes(self) -> tuple[str, ...]:
        """See `Predictor`."""
        return self._outcomes

    @property
    def version(self) -> str:
        """See `Predictor`."""
        return self._version

    def fit(self, smiles: Sequence[str], values: Array) -> None:
        """Learns from N molecules; a molecule may come more than once.

        Args:
            smiles: N molecules; those that cannot be read are passed over.
            values: (N, K), NaN where an outcome is missing.

        Raises:
            ValueError: If the shapes do not fit, or an outcome has no finite value.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.shape != (len(smiles), len(self._outcomes)):
            raise ValueError(
                f"{len(smiles)} molecules and {len(self._outcomes)} outcomes need values of that "
                f"shape, got {values.shape}"
            )
        self._prints = morgan(smiles, self._radius)
        raw = self._raw_features(smiles)
        if raw is not None:
            with np.errstate(all="ignore"):
                known = np.isfinite(raw)
                count = np.maximum(known.sum(axis=0), 1)
                self._centre = np.where(known, raw, 0).sum(axis=0) / count
                variance = (np.where(known, raw - self._centre, 0) ** 2).sum(axis=0) / count
            self._scale = np.where(variance > 0, np.sqrt(variance), 1.0)
        self._table = self._standardised(raw)
        readable = self._prints.totals > 0
        everything = self._similarities(self._prints, self._table)
        self._columns = []
        for k, name in enumerate(self._outcomes):
            rows = np.flatnonzero(np.isfinite(values[:, k]) & readable)
            if not len(rows):
                raise ValueError(f"no molecule has a finite value of {name}; nothing to learn")
            self._columns.append(_learnt(everything.take(rows), values[rows, k], rows))
        self._values = values
        digest = hashlib.sha256("\n".join(smiles).encode() + values.tobytes())
        digest.update(b"" if self._table is None else self._table.tobytes())
        self._version = f"tanimoto-{digest.hexdigest()[:12]}"

    def predict(self, smiles: Sequence[str]) -> Expectation:
        """Whatever the number of molecules, memory beyond the answer stays the same.

        Raises:
            RuntimeError: If it has not been fitted.
        """
        if not self._columns:
            raise RuntimeError("nothing has been learnt yet; call fit first")
        chunks = [smiles[start : start + _CHUNK] for start in range(0, len(smiles), _CHUNK)]
        parts = [
            self._predict(morgan(some, self._radius), self._raw_features(some)) for some in chunks
        ]
        shape = (0, len(self._outcomes))
        return Expectation(
            np.concatenate([np.zeros(shape), *(part.mean for part in parts)]),
            np.concatenate([np.zeros(shape), *(part.spread for part in parts)]),
            [flag for part in parts for flag in part.flags],
        )

    def predict_read(self, molecules: Sequence[Chem.Mol]) -> Expectation:
        """As `predict`, of molecules that were read already and are forgotten again.

        Raises:
            RuntimeError: If it has not been fitted, or has features, which are found by SMILES.
        """
        if not self._columns or self._features is not None:
            raise RuntimeError("only a fitted process without features predicts from molecules")
        return self._predict(morgan_of(molecules, self._radius), None)

    def leave_one_out(self) -> Expectation:
        """What it expects of each training molecule from all others, (N, K), NaN where unmeasured.

        Hyperparameters stay (Rasmussen and Williams 2006, equation 5.12). Starts a calibration.

        Raises:
            RuntimeError: If it has not been fitted.
        """
        if not self._columns:
            raise RuntimeError("nothing has been learnt yet; call fit first")
        mean = np.full(self._values.shape, np.nan)
        spread = np.full(self._values.shape, np.nan)
        for k, column in enumerate(self._columns):
            inverse = cho_solve((column.solution.factor, True), np.eye(len(column.rows)))
            variance = 1 / np.diag(inverse)
            shift = column.scale * column.solution.weights * variance
            mean[column.rows, k] = self._values[column.rows, k] - shift
            spread[column.rows, k] = column.scale * np.sqrt(variance)
        return Expectation(mean, spread, [None] * len(mean))

    def _predict(self, prints: Fingerprints, raw: Array | None) -> Expectation:
        table = self._standardised(raw)
        across = self._similarities(prints, table, self._prints, self._table)
        mean = np.empty((len(prints), len(self._columns)))
        spread = np.empty_like(mean)
        for k, column in enumerate(self._columns):
            found = across.covariance(column.logs)[:, column.rows]
            whole = np.exp(column.logs[:2]).sum()  # the noise and the Tanimoto part
            if table is not None:
                whole = whole + np.exp(column.logs[2]) * (table**2).mean(axis=1)
                whole += np.exp(column.logs[3])
            mean[:, k] = column.solution.mean + found @ column.solution.weights
            known = solve_triangular(column.solution.factor, found.T, lower=True)
            variance = np.maximum(whole - (known**2).sum(axis=0), np.exp(column.logs[0]))
            spread[:, k] = np.sqrt(variance)
            mean[:, k] = column.centre + column.scale * mean[:, k]
            spread[:, k] *= column.scale
        unread = prints.totals == 0
        mean[unread] = np.nan
        flags: list[str | None] = [
            "no molecule that can be read" if one else None for one in unread
        ]
        if raw is not None:
            for i in np.flatnonzero(~unread & ~np.isfinite(raw).all(axis=1)):
                flags[i] = "features missing"
        return Expectation(mean, spread, flags)

    def _raw_features(self, smiles: Sequence[str]) -> Array | None:
        return None if self._features is None else np.asarray(self._features(smiles), np.float64)

    def _standardised(self, raw: Array | None) -> Array | None:
        """Missing ones count as average."""
        if raw is None:
            return None
        return np.where(np.isfinite(raw), (raw - self._centre) / self._scale, 0.0)

    @staticmethod
    def _similarities(
        prints: Fingerprints,
        table: Array | None,
        others: Fingerprints | None = None,
        other_table: Array | None = None,
    ) -> Similarities:
        tanimoto = similarity(prints, prints if others is None else others)
        if table is None:
            return Similarities(tanimoto)
        against = table if other_table is None else other_table
        products = table @ against.T / table.shape[1]
        squares = (table**2).mean(axis=1)[:, None] + (against**2).mean(axis=1)[None]
        return Similarities(tanimoto, products, np.maximum(squares - 2 * products, 0))


def _learnt(similarities: Similarities, values: Array, rows: NDArray[np.int64]) -> _Column:
    centre = float(values.mean())
    scale = float(values.std()) or 1.0
    scaled = (values - centre) / scale
    sample = np.arange(len(values))
    if len(sample) > _FITTED_ROWS:
        sample = np.sort(np.random.default_rng(0).permutation(sample)[:_FITTED_ROWS])
    logs = fit_hyperparameters(similarities.take(sample), scaled[sample])
    return _Column(rows, logs, solve(similarities, scaled, logs), centre, scale)

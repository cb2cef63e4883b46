"""Molecules as counts of their atom environments, and how similar two of them are.

Counts are written in unary, one column per environment and level, so that the sum of the smaller
counts of two molecules is a product of sparse matrices of ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from scipy.sparse import csr_matrix, vstack

from sciwm.core.frame import Array
from sciwm.core.molecules import parsed

_HIGHEST = 64
"""Beyond this an environment is not counted further."""

_COLUMNS = (1 << 32) * _HIGHEST


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Environments of N molecules.

    Attributes:
        ones: (N, F) sparse, one where a molecule has an environment at least `level` times.
        totals: (N,) ones of each molecule; zero for one that could not be read.
    """

    ones: csr_matrix
    totals: Array

    def __len__(self) -> int:
        return len(self.totals)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> "Fingerprints":
        return Fingerprints(self.ones[rows], self.totals[rows])

    def joined(self, other: "Fingerprints") -> "Fingerprints":
        return Fingerprints(
            vstack([self.ones, other.ones]).tocsr(), np.concatenate([self.totals, other.totals])
        )


def morgan(smiles: Sequence[str], radius: int = 2, counts: bool = True) -> Fingerprints:
    """Circular environments (Rogers and Hahn 2010); a molecule that cannot be read has none.

    Args:
        smiles: N molecules.
        radius: In bonds.
        counts: Whether to count environments, rather than to note which are there.
    """
    return _stacked([_environments(one, radius, counts) for one in smiles])


def morgan_of(molecules: Sequence[Chem.Mol], radius: int = 2, counts: bool = True) -> Fingerprints:
    """As `morgan`, of molecules that were read already; nothing of them is remembered."""
    return _stacked([_columns(one, radius, counts) for one in molecules])


def _stacked(rows: Sequence[NDArray[np.int64]]) -> Fingerprints:
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    indices = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
    ones = csr_matrix((np.ones(len(indices)), indices, starts), shape=(len(rows), _COLUMNS))
    return Fingerprints(ones, np.diff(starts).astype(np.float64))


def similarity(a: Fingerprints, b: Fingerprints) -> Array:
    """(N, M) Tanimoto similarities, shared over all environments (Ralaivola et al. 2005).

    One between two molecules without any environment, zero between one with and one without.
    """
    # Only columns that occur: a product of matrices as wide as all hash values needs their memory.
    columns = np.unique(np.concatenate([a.ones.indices, b.ones.indices]))
    left, right = (
        csr_matrix(
            (x.ones.data, np.searchsorted(columns, x.ones.indices), x.ones.indptr),
            shape=(len(x), len(columns)),
        )
        for x in (a, b)
    )
    shared = (left @ right.T).toarray()
    union = a.totals[:, None] + b.totals[None] - shared
    return np.divide(shared, union, out=np.ones_like(shared), where=union > 0)


@lru_cache(maxsize=100_000)  # a campaign asks for the same molecules every round
def _environments(smiles: str, radius: int, counts: bool) -> NDArray[np.int64]:
    try:
        molecule = parsed(smiles)
    except ValueError:
        return np.zeros(0, dtype=np.int64)
    return _columns(molecule, radius, counts)


@cache
def _generator(radius: int) -> rdFingerprintGenerator.FingerprintGenerator64:
    return rdFingerprintGenerator.GetMorganGenerator(radius=radius, includeChirality=True)


def _columns(molecule: Chem.Mol, radius: int, counts: bool) -> NDArray[np.int64]:
    found = _generator(radius).GetSparseCountFingerprint(molecule).GetNonzeroElements()
    columns = [
        key * _HIGHEST + level
        for key, count in found.items()
        for level in range(min(count, _HIGHEST) if counts else 1)
    ]
    return np.array(sorted(columns), dtype=np.int64)

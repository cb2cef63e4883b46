"""Numbers computed beforehand, by a cheap method say, looked up by molecule."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase

from sciwm.core.frame import Array
from sciwm.core.spreadsheet import unescape


class FeatureTable:
    """Columns of a CSV as features of a predictor; the same molecule may be written differently.

    Args:
        path: The CSV.
        columns: P names.
        smiles: Name of the column of molecules.

    Raises:
        ValueError: If a column is missing, or a cell that is not empty is no number.
    """

    def __init__(self, path: str | Path, columns: Sequence[str], smiles: str = "smiles"):
        self.columns = tuple(columns)
        self._rows: dict[str, list[float]] = {}
        with Path(path).open(newline="") as stream:
            reader = csv.DictReader(stream)
            missing = {smiles, *columns} - set(reader.fieldnames or [])
            if missing:
                raise ValueError(
                    f"{path} has no column {', '.join(sorted(missing))}; it has "
                    f"{', '.join(reader.fieldnames or [])}"
                )
            for line, row in enumerate(reader, start=2):
                try:
                    numbers = [float(row[column] or "nan") for column in columns]
                except ValueError as error:
                    raise ValueError(f"{path}, line {line}: {error}") from None
                self._rows[_canonical(unescape(row[smiles]))] = numbers

    def __call__(self, smiles: Sequence[str]) -> Array:
        """(N, P), NaN for molecules that the table does not hold."""
        nothing = [np.nan] * len(self.columns)
        found = [self._rows.get(one) or self._rows.get(_canonical(one), nothing) for one in smiles]
        return np.array(found, dtype=np.float64).reshape(len(smiles), len(self.columns))


def _canonical(smiles: str) -> str:
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    return smiles if molecule is None else Chem.MolToSmiles(molecule)

"""Published lists of unwanted substructures, searched fast enough to screen millions of molecules."""

import csv
import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, RDConfig
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

CATALOGUES = {
    "PAINS": FilterCatalogParams.FilterCatalogs.PAINS,
    "BRENK": FilterCatalogParams.FilterCatalogs.BRENK,
}
"""Frequent hitters of assays (Baell and Holloway 2010), and groups that are reactive, toxic or
unstable (Brenk et al. 2008)."""

# An atom of a pattern that can only be one element, as RDKit writes it back.
_DEFINITE = re.compile(r"\[?(?:#(?P<number>\d+)|(?P<symbol>[cnos]|Br|Cl|F))(?:&[^,;]*)?(?:;.*)?\]?")
_ORDERS = {"-": 1.0, "=": 2.0, "#": 3.0, ":": 1.5}
_ANY_ORDER = 0.0

Needs = Counter[int]
"""How many atoms of each element, and bonds of each kind, a pattern cannot do without; by key."""


class AlertCatalogue:
    """One catalogue; finds its first alert in a molecule.

    A pattern that needs more bonds of some kind than the molecule has cannot match, which rules
    out most of the 480 PAINS patterns by one comparison of small integers. Patterns whose text
    RDKit does not ship are always searched for.
    """

    def __init__(self, name: str):
        if name not in CATALOGUES:
            raise ValueError(f"unknown alert catalogue {name!r}; use one of {sorted(CATALOGUES)}")
        parameters = FilterCatalogParams()
        parameters.AddCatalog(CATALOGUES[name])
        self._catalogue = FilterCatalog(parameters)
        patterns = _pains() if name == "PAINS" else {}
        entries = range(self._catalogue.GetNumEntries())
        names = [self._catalogue.GetEntryWithIdx(i).GetDescription() for i in entries]
        needs = [patterns.get(name, Counter()) for name in names]
        self._columns = np.array(sorted(set().union(*needs)), dtype=np.int64)
        self._needs = np.array([[need[key] for key in self._columns.tolist()] for need in needs])

    def first(self, molecule: Chem.Mol) -> str | None:
        """Name of the first alert that a sanitised molecule raises; None where it is clean."""
        if not len(self._columns):
            match = self._catalogue.GetFirstMatch(molecule)
            return match.GetDescription() if match else None
        enough = (self._needs <= _contents(molecule, self._columns)).all(axis=1)
        for i in np.flatnonzero(enough):
            entry = self._catalogue.GetEntryWithIdx(int(i))
            if entry.HasFilterMatch(molecule):
                return entry.GetDescription()
        return None


@cache
def _pains() -> dict[str, Needs]:
    path = Path(RDConfig.RDDataDir) / "Pains" / "wehi_pains.csv"
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    return {
        name.removeprefix("<regId=").removesuffix(">"): _pattern_needs(smarts)
        for smarts, name in rows
    }


def _pattern_needs(smarts: str) -> Needs:
    pattern = Chem.MolFromSmarts(smarts, mergeHs=True)
    elements = [_element(atom.GetSmarts()) for atom in pattern.GetAtoms()]
    needs: Needs = Counter(element for element in elements if element)
    for bond in pattern.GetBonds():
        first, second = elements[bond.GetBeginAtomIdx()], elements[bond.GetEndAtomIdx()]
        if first and second:
            needs[_bond_key(first, second, _ANY_ORDER)] += 1
            order = _ORDERS.get(Chem.Bond.GetSmarts(bond))
            if order:
                needs[_bond_key(first, second, order)] += 1
    return needs


def _bond_key(first: int, second: int, order: float) -> int:
    # Above all atomic numbers, which are the keys of atoms.
    return (min(first, second) * 128 + max(first, second)) * 8 + round(2 * order)


def _element(smarts: str) -> int:
    match = _DEFINITE.fullmatch(smarts)
    if match is None:
        return 0  # no element in particular
    if match["number"]:
        return int(match["number"])
    return Chem.GetPeriodicTable().GetAtomicNumber(match["symbol"].capitalize())


def _contents(molecule: Chem.Mol, columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each key occurs in a molecule, in the order of the keys."""
    elements = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], dtype=np.int64)
    orders = np.triu(Chem.GetAdjacencyMatrix(molecule, useBO=True))
    first, second = orders.nonzero()
    ends = np.sort(np.stack([elements[first], elements[second]]), axis=0)
    pairs = (ends[0] * 128 + ends[1]) * 8
    kinds = pairs + np.rint(2 * orders[first, second]).astype(np.int64)
    keys = np.concatenate([elements, pairs, kinds])
    places = np.minimum(np.searchsorted(columns, keys), len(columns) - 1)
    return np.bincount(places[columns[places] == keys], minlength=len(columns))

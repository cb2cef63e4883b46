"""Which element each particle is, where the trajectory itself does not say."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from ase.symbols import string2symbols

from sciwm.data.importers.source import ImportOptions, SourceError, foreign_reader
from sciwm.data.importers.virtual_sites import NO_ELEMENT, is_virtual_name

_ISOTOPES = {"D": 1, "T": 1}


def atomic_number(symbol: str) -> int | None:
    """The atomic number of a symbol, or of digits; None if there is no such element."""
    if symbol.isdigit():
        return int(symbol)
    return _ISOTOPES.get(symbol) or atomic_numbers.get(symbol)


def numbers_from_symbols(symbols: np.ndarray, path: Path, position: str) -> np.ndarray:
    """(N,) int64 atomic numbers of an array of symbols.

    Raises:
        SourceError: If one of them is no element.
    """
    distinct, inverse = np.unique(symbols, return_inverse=True)
    known = [atomic_number(str(symbol)) for symbol in distinct]
    if None in known:
        unknown = str(distinct[known.index(None)])
        raise SourceError(
            path,
            position,
            f"{unknown!r} is not a chemical element",
            "Name elements as in C, Al, Og",
        )
    return np.array(known, dtype=np.int64)[inverse.ravel()]


def numbers_of_types(types: np.ndarray, options: ImportOptions, path: Path) -> np.ndarray | None:
    """(N,) atomic numbers of particles of types 1, 2, ...; None if the options list no types.

    Raises:
        SourceError: If the list is too short, or names something that is no element.
    """
    text = options.elements or ""
    if "," not in text and atomic_number(text) is None:
        return None
    table = numbers_from_symbols(np.array(re.split(r"[,\s]+", text.strip())), path, "elements")
    if types.max() > len(table) or types.min() < 1:
        raise SourceError(
            path,
            "",
            f"particle types run from {types.min()} to {types.max()}, but elements "
            f"{text!r} names {len(table)}",
            "Name one element per type, as in Na,Cl",
        )
    return table[types - 1]


def numbers_of_atoms(count: int, options: ImportOptions, path: Path) -> np.ndarray:
    """(N,) atomic numbers from the topology or the formula given with the source.

    Raises:
        SourceError: If neither is given, or it has another number of atoms.
    """
    if options.topology is not None:
        numbers = topology_numbers(options.topology)
        origin = f"the topology {options.topology}"
    elif options.elements is not None:
        try:
            symbols = string2symbols(options.elements)
        except (ValueError, KeyError, IndexError) as error:
            raise SourceError(
                path,
                "",
                f"elements {options.elements!r} is not a formula",
                'Give one symbol per atom in order, as in "(OHH)64" or "Na256Cl256"',
            ) from error
        numbers = numbers_from_symbols(np.array(symbols), path, "elements")
        origin = f"elements {options.elements!r}"
    else:
        raise SourceError(
            path,
            "",
            "the format does not say which element each atom is",
            "Pass a topology (--topology system.pdb, also .gro, .psf, .prmtop, .tpr), or a formula "
            'in the order of the atoms (--elements "(OHH)64")',
        )
    if len(numbers) != count:
        raise SourceError(
            path,
            "",
            f"has {count} atoms, but {origin} has {len(numbers)}",
            "Pass the one that belongs to this file",
        )
    return numbers


def topology_numbers(path: Path) -> np.ndarray:
    """(N,) atomic numbers read by MDAnalysis, guessed from atom names where no element is stated.

    Raises:
        SourceError: If MDAnalysis is missing, or cannot read the file or guess an element.
    """
    if not path.exists():
        raise SourceError(path, "", "the topology does not exist", "Check the path")
    MDAnalysis = required_mdanalysis(path)
    with foreign_reader(path, "topology"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Trajectories name no atoms, and their compiled readers trust what a damaged file says.
        if MDAnalysis.core._get_readers.get_parser_for(str(path)).__name__ == "MinimalParser":
            raise SourceError(
                path, "", "is a trajectory, and names no atoms", "Pass a PDB, GRO or PSF file"
            )
        atoms = MDAnalysis.Universe(str(path), to_guess=()).atoms
        names = atoms.names if hasattr(atoms, "names") else atoms.types
        stated = atoms.elements if hasattr(atoms, "elements") else None
        masses = atoms.masses if hasattr(atoms, "masses") else None
    return numbers_from_names(names, stated, masses, path)


def numbers_from_names(
    names: np.ndarray, stated: np.ndarray | None, masses: np.ndarray | None, path: Path
) -> np.ndarray:
    """(N,) int64 atomic numbers, guessed by MDAnalysis from the names of atoms where none is stated.

    Virtual sites, known by their names or by having neither mass nor element, get
    `NO_ELEMENT`.

    Raises:
        SourceError: If MDAnalysis is missing, or cannot guess an element.
    """
    if masses is not None and not np.any(masses):
        masses = None  # not stated, as against virtual
    guesser = required_mdanalysis(path).guesser.default_guesser.DefaultGuesser(None)
    known: dict[tuple[str, str, bool | None], int] = {}
    numbers = np.zeros(len(names), dtype=np.int64)
    for index, name in enumerate(map(str, names)):
        element = "" if stated is None else str(stated[index])
        massless = None if masses is None else bool(masses[index] == 0)
        key = name, element, massless
        if key not in known:
            known[key] = _number_of_atom(guesser, path, index, *key)
        numbers[index] = known[key]
    return numbers


def _number_of_atom(
    guesser: Any, path: Path, index: int, name: str, element: str, massless: bool | None
) -> int:
    stated = atomic_number(element.capitalize())
    if stated:
        return stated
    # Guessing would make phosphorus of EP and LP, and oxygen of CHARMM's OM.
    if massless or (massless is None and is_virtual_name(name)):
        return NO_ELEMENT
    guessed = atomic_number(str(element or guesser.guess_atom_element(name)).capitalize())
    if guessed is None or (guessed == NO_ELEMENT and not is_virtual_name(name)):
        raise SourceError(
            path,
            f"atom {index + 1}",
            f"cannot tell the element of {name!r}",
            "Fill in the element column of the topology",
        )
    return guessed


def required_mdanalysis(path: Path) -> Any:
    """The module MDAnalysis.

    Raises:
        SourceError: If it is not installed.
    """
    try:
        import MDAnalysis
        import MDAnalysis.guesser.default_guesser
    except ImportError as error:
        raise SourceError(
            path,
            "",
            "is read by MDAnalysis, which is not installed",
            "Install it with: pip install 'sciwm[md]'",
        ) from error
    return MDAnalysis

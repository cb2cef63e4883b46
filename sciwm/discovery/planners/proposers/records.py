"""Libraries of molecules on disk, read row by row in flat memory.

A row that cannot be used comes with a problem and never stops the reading.
"""

import csv
import gzip
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase

from sciwm.core.frame import Frame
from sciwm.core.spreadsheet import unescape

SMILES_COLUMNS = ("smiles", "canonsmiles", "canonical_smiles", "isomeric_smiles", "structure")
"""Names of columns that hold SMILES, in lower case and in order of preference."""

LONGEST_LINE = 1 << 20
"""Bytes; the rest of a longer line is skipped."""

LONGEST_RECORD = 100
"""Lines that a quoted field of a table may span before its quote counts as never closed."""

LONGEST_BLOCK = 20_000
"""Lines of one record of an SD file."""


@dataclass(frozen=True, eq=False)
class LibraryRecord:
    """One record of a library.

    Attributes:
        line: Where it begins, counted from 1.
        smiles: As written, not checked; empty where there is none.
        columns: What else the record holds, by column; the name of a molecule is `name`.
        resume: Lines up to its end; reading with `start=resume` goes on behind it.
        problem: Why the row cannot be used; None where it can.
        structure: The three-dimensional structure, where the record holds all hydrogens.
    """

    line: int
    smiles: str
    columns: dict[str, str]
    resume: int
    problem: str | None = None
    structure: Frame | None = field(default=None, repr=False)


@dataclass(frozen=True)
class _Line:
    number: int
    text: str
    problem: str | None = None


def read_library(
    path: str | Path, smiles_column: str | None = None, start: int = 0
) -> Iterator[LibraryRecord]:
    """The records of a .smi, .txt, .csv, .tsv or .sdf file, each of which may be gzipped.

    Args:
        path: The file. Text files hold a SMILES and, after white space, a name.
        smiles_column: Of a table; found by its name where it has a usual one.
        start: Lines already read, from a row's `resume`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, or no column of a table holds SMILES.
    """
    path = Path(path)
    kind = path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix
    kind = kind.lower()
    if kind not in (".smi", ".txt", ".csv", ".tsv", ".sdf"):
        raise ValueError(
            f"{path.name!r} is no library; give a .smi, .txt, .csv, .tsv or .sdf file, which may "
            "be gzipped"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no library {path}")
    if smiles_column is not None and kind not in (".csv", ".tsv"):
        raise ValueError(f"{path.name!r} has no columns; leave {smiles_column=} out")
    if kind in (".csv", ".tsv"):
        return _table(path, smiles_column, start)
    return _sd_file(path, start) if kind == ".sdf" else _smiles_file(path, start)


def _lines(path: Path) -> Iterator[_Line]:
    """Lines without their ends; a damaged archive ends with a line that says so."""
    with path.open("rb") as plain, ExitStack() as stack:
        packed = path.suffix.lower() == ".gz"
        file = stack.enter_context(gzip.GzipFile(fileobj=plain)) if packed else plain
        number = 0
        while True:
            number += 1
            try:
                raw = file.readline(LONGEST_LINE)
                whole = raw
                while whole and not whole.endswith(b"\n") and len(whole) == LONGEST_LINE:
                    whole = file.readline(LONGEST_LINE)
            except (EOFError, OSError, zlib.error) as error:
                yield _Line(number, "", f"the file is damaged from here on ({error})")
                return
            if not raw:
                return
            yield _decoded(number, raw, len(raw) == LONGEST_LINE and not raw.endswith(b"\n"))


def _decoded(number: int, raw: bytes, too_long: bool) -> _Line:
    if too_long:
        return _Line(number, "", f"a line of more than {LONGEST_LINE} bytes")
    if b"\0" in raw:
        return _Line(number, "", "a zero byte; is this text in UTF-8?")
    raw = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return _Line(number, "", f"not in UTF-8 (byte {raw[error.start]:#04x} at {error.start})")
    return _Line(number, text.rstrip("\r\n"))


def _smiles_file(path: Path, start: int) -> Iterator[LibraryRecord]:
    for line in _lines(path):
        if line.number <= start:
            continue
        words = line.text.split(maxsplit=1)
        if line.problem or not words:
            yield LibraryRecord(line.number, "", {}, line.number, line.problem or "an empty line")
        elif words[0].startswith("#") or (line.number == 1 and words[0].lower() in SMILES_COLUMNS):
            continue  # a remark or a head; no SMILES begins with either
        else:
            columns = {"name": words[1].strip()} if len(words) > 1 else {}
            yield LibraryRecord(line.number, words[0], columns, line.number)


def _table(path: Path, smiles_column: str | None, start: int) -> Iterator[LibraryRecord]:
    lines = _lines(path)
    head = next(lines, _Line(1, "", "an empty file"))
    if head.problem:
        raise ValueError(f"{path.name} has no head that can be read: {head.problem}")
    delimiter = "\t" if ".tsv" in path.suffixes else max(",;\t", key=head.text.count)
    head_cells = next(csv.reader([head.text], delimiter=delimiter), [])
    names = [unescape(name.strip()) for name in head_cells]
    place = _smiles_place(path, names, smiles_column)
    # A plain function up to here, so that the call that names a wrong column reports it.
    return _table_rows(lines, names, place, delimiter, start)


def _smiles_place(path: Path, names: list[str], wanted: str | None) -> int:
    if wanted is not None:
        if wanted not in names:
            raise ValueError(f"{path.name} has no column {wanted!r}; its columns are {names}")
        return names.index(wanted)
    lowered = [name.lower().replace(" ", "_") for name in names]
    for usual in SMILES_COLUMNS:
        if usual in lowered:
            return lowered.index(usual)
    raise ValueError(
        f"no column of {path.name} is called SMILES; name the one that holds them. Its columns "
        f"are {names}"
    )


def _table_rows(
    lines: Iterator[_Line], names: list[str], place: int, delimiter: str, start: int
) -> Iterator[LibraryRecord]:
    waiting: deque[_Line] = deque()
    while True:
        taken: list[_Line] = []
        fields, problem = _record(waiting, lines, taken, delimiter, start)
        if not taken:
            return
        if problem is None and len(fields) != len(names):
            problem = f"{len(fields)} fields in a table of {len(names)} columns"
        if problem and len(taken) > 1:
            # A stray quote swallowed what follows; only its own line is lost.
            waiting.extendleft(reversed(taken[1:]))
            problem = f"a quote that is not closed, or {problem}"
            taken = taken[:1]
        first, last = taken[0].number, taken[-1].number
        if problem:
            yield LibraryRecord(first, "", {}, last, problem)
            continue
        columns = dict(zip(names, map(unescape, fields), strict=True))
        smiles = columns.pop(names[place]).strip()
        yield LibraryRecord(first, smiles, columns, last, None if smiles else "an empty SMILES")


def _record(
    waiting: deque[_Line],
    lines: Iterator[_Line],
    taken: list[_Line],
    delimiter: str,
    start: int,
) -> tuple[list[str], str | None]:
    """The fields of the next record, and what is wrong with it; `taken` gets its lines."""

    def feed() -> Iterator[str]:
        while len(taken) < LONGEST_RECORD:
            line = waiting.popleft() if waiting else next(lines, None)
            while line is not None and line.number <= start:
                line = next(lines, None)
            if line is None:
                return
            taken.append(line)
            if line.problem:
                return
            yield line.text + "\n"

    fields: list[str] = []
    try:
        fields = next(csv.reader(feed(), delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        return [], str(error)
    if taken and taken[-1].problem:
        return [], taken[-1].problem
    if taken and not any(fields):
        return [], "an empty line"
    return fields, None


def _sd_file(path: Path, start: int) -> Iterator[LibraryRecord]:
    block: list[_Line] = []
    for line in _lines(path):
        if line.number <= start:
            continue
        if line.text.startswith("$$$$"):
            yield _sd_row(block, line.number)
            block = []
        elif len(block) <= LONGEST_BLOCK:
            block.append(line)
    if any(line.text.strip() or line.problem for line in block):
        yield _sd_row(block, block[-1].number)


def _sd_row(block: list[_Line], last: int) -> LibraryRecord:
    first = block[0].number if block else last
    problems = [line.problem for line in block if line.problem]
    if problems:
        return LibraryRecord(first, "", {}, last, problems[0])
    if len(block) > LONGEST_BLOCK:
        return LibraryRecord(first, "", {}, last, f"a record of more than {LONGEST_BLOCK} lines")
    text = "\n".join(line.text for line in block) + "\n$$$$\n"
    supplier = Chem.SDMolSupplier()
    with rdBase.BlockLogs():
        try:
            supplier.SetData(text, removeHs=False)
            molecule = next(iter(supplier), None)
        except (ValueError, RuntimeError):
            molecule = None
        if molecule is None:
            return LibraryRecord(first, "", {}, last, "a record that RDKit cannot read")
        columns = molecule.GetPropsAsDict(autoConvertStrings=False)
        columns = {key: str(value) for key, value in columns.items()}
        if molecule.HasProp("_Name") and molecule.GetProp("_Name"):
            columns.setdefault("name", molecule.GetProp("_Name"))
        smiles = Chem.MolToSmiles(Chem.RemoveHs(molecule))
    problem = None if smiles else "a molecule without atoms"
    return LibraryRecord(first, smiles, columns, last, problem, _structure(molecule, smiles))


def _structure(molecule: Chem.Mol, smiles: str) -> Frame | None:
    whole = molecule.GetNumAtoms() == molecule.GetNumAtoms(onlyExplicit=False)
    if not whole or not molecule.GetNumConformers() or not molecule.GetConformer().Is3D():
        return None
    return Frame(
        numbers=np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], dtype=np.int64),
        positions=molecule.GetConformer().GetPositions().astype(np.float64),
        total_charge=float(Chem.GetFormalCharge(molecule)),
        smiles=smiles,
    )

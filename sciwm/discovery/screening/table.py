"""The table of a screening: its columns, its best rows, and the same as Parquet."""

import csv
import heapq
import io
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sciwm.core.replacement import replacing
from sciwm.core.spreadsheet import ESCAPED, escape, unescape
from sciwm.discovery.planners.proposers.library import LibraryRecord
from sciwm.discovery.screening.judge import Record

OURS = ("line", "smiles")

LONGEST_CELL = 4000
"""Characters of a library's cell that are kept: a line may hold a million, which no table reader takes."""


class Table:
    """Rows as bytes of CSV.

    Args:
        given: Columns of the library.
        found: Columns of what is said of its molecules.
    """

    def __init__(self, given: Sequence[str], found: Sequence[str]):
        # A library may itself be a table of scores or of outcomes; neither hides the other.
        ours = {*OURS, *found}
        taken = ours.union(given)
        self._given: dict[str, str] = {}
        for name in given:
            self._given[name] = _free(f"library_{name}", taken) if name in ours else name
            taken.add(self._given[name])
        self.columns = [*OURS, *self._given.values(), *found]

    def head(self) -> bytes:
        """The first line."""
        return _written([self.columns])

    def rows(self, rows: Sequence[LibraryRecord], records: Sequence[Record]) -> bytes:
        """A line for each row, with what is said of it."""
        lines = []
        for row, record in zip(rows, records, strict=True):
            cells = {
                "line": str(row.line),
                "smiles": row.smiles[:LONGEST_CELL],
                **{
                    self._given[name]: text[:LONGEST_CELL]
                    for name, text in row.columns.items()
                    if name in self._given
                },
                **record,
            }
            lines.append([cells.get(name, "") for name in self.columns])
        return _written(lines)


def best(table: Path, n: int = 10) -> list[dict[str, str]]:
    """The rows of a table with the highest (first) score that are feasible and not flagged.

    The same SMILES counts once, where it comes first.
    """
    heap: list[tuple[float, int, dict[str, str]]] = []
    there: set[str] = set()
    with open(table, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        name = _goals(reader.fieldnames or [])[0]
        for k, row in enumerate(reader):
            if row["feasible"] != "1" or not row[name] or row["flag"] or row["smiles"] in there:
                continue
            there.add(row["smiles"])
            heapq.heappush(heap, (float(row[name]), -k, row))
            if len(heap) > n:
                there.remove(heapq.heappop(heap)[2]["smiles"])
    found = [row for _, _, row in sorted(heap, key=lambda one: one[:2], reverse=True)]
    return [{unescape(name): unescape(cell) for name, cell in row.items()} for row in found]


def require_scores(table: Path) -> None:
    """Raises ValueError, with the commonest reason, if not one row of a table has a finite score."""
    reasons: Counter[str] = Counter()
    with open(table, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        goals = _goals(reader.fieldnames or [])
        for row in reader:
            if all(row[name] for name in goals):
                return
            reasons[unescape(row["problem"] or row["flag"])] += 1
    reason, count = reasons.most_common(1)[0]
    raise ValueError(
        f"none of {reasons.total():,} molecules has a finite score, so nothing is ranked; {count:,} of "
        f"them: {reason}. Mend the objective or the library; {table} tells it row by row"
    )


def to_parquet(table: Path, target: Path) -> None:
    """The same table as Parquet, converted block by block.

    Raises:
        ImportError: If pyarrow is not installed.
    """
    try:
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Parquet needs pyarrow; pip install 'sciwm[parquet]', or name a .csv file"
        ) from error
    with open(table, newline="", encoding="utf-8") as file:
        names = next(csv.reader(file))
    # Types are fixed beforehand: a block of empty cells must not decide them.
    texts = {*names[: names.index("problem") + 1], "flag"}
    whole = {"line": pyarrow.int64(), "feasible": pyarrow.int8()}
    kinds = {
        name: whole.get(name, pyarrow.string() if name in texts else pyarrow.float64())
        for name in names
    }
    with (
        replacing(target) as output,
        pyarrow.csv.open_csv(
            table,
            pyarrow.csv.ReadOptions(block_size=1 << 24),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(column_types=kinds, strings_can_be_null=False),
        ) as reader,
        pyarrow.parquet.ParquetWriter(
            output, pyarrow.schema([one.with_name(unescape(one.name)) for one in reader.schema])
        ) as writer,
    ):
        for batch in reader:
            columns = [
                pyarrow.compute.replace_substring_regex(column, ESCAPED, r"\1")
                if pyarrow.types.is_string(column.type)
                else column
                for column in batch.columns
            ]
            writer.write_batch(pyarrow.RecordBatch.from_arrays(columns, schema=writer.schema))


def _goals(columns: Sequence[str]) -> list[str]:
    """Columns of scores; a library may have columns of that name too, but before ours."""
    found = columns[list(columns).index("problem") :]
    return [name for name in found if re.fullmatch(r"score(_\d+)?", name)]


def _free(name: str, taken: set[str]) -> str:
    names = itertools.chain([name], (f"{name}_{k}" for k in itertools.count(2)))
    return next(one for one in names if one not in taken)


def _written(lines: Sequence[Sequence[str]]) -> bytes:
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerows([escape(cell) for cell in line] for line in lines)
    return stream.getvalue().encode()

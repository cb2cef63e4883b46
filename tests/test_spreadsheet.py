"""No table that we write runs anything in a spreadsheet, and all of it is read back unchanged."""

import csv
import re
from pathlib import Path

import pytest

from sciwm.cli import main
from sciwm.core.spreadsheet import escape, unescape
from sciwm.discovery.experiment.ledger.export import write_csv
from sciwm.discovery.planners.proposers.library import read_library
from sciwm.discovery.problem.hypothesis import Candidate, Failure, Hypothesis
from sciwm.discovery.screening.table import best

FORMULAS = [
    '=HYPERLINK("http://x","y")',
    "@SUM(1)",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "-",
    "\t=1",
    "\r=1",
    "=1\n=2",
    "＝1",
    "-nan",
    "1e5=",
    "'=1",
    "''-1",
]
NUMBERS = ["-1.5", "+2", "-.5e-3", "0", "-1E6", "3."]
PLAIN = ["", "abc", "'abc", "a=b", "'", "é", " =1"]


def run_by_a_spreadsheet(cells: list[str]) -> list[str]:
    """Cells that begin as OWASP's page on CSV injection lists them, and are no numbers."""
    found = []
    for cell in cells:
        number = re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", cell)
        if cell[:1] in tuple("=+-@\t\r\n＝＋－＠") and cell and not number:
            found.append(cell)
    return found


@pytest.mark.parametrize("text", FORMULAS + NUMBERS + PLAIN)
def test_what_is_escaped_is_harmless_and_comes_back(text):
    assert run_by_a_spreadsheet([escape(text)]) == []
    assert unescape(escape(text)) == text
    assert unescape(escape(escape(text))) == escape(text)
    if text in NUMBERS + PLAIN:
        assert escape(text) == text


def test_the_check_catches_a_table_as_it_was_written_before():
    assert len(run_by_a_spreadsheet(FORMULAS)) == len(FORMULAS) - 3


def cells_of(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [cell for row in csv.reader(file) for cell in row]


def test_a_screening_runs_nothing_and_is_a_library_again(tmp_path, capsys):
    library, out = tmp_path / "library.csv", tmp_path / "table.csv"
    # A line end that a library's own reader takes away is not asked for.
    formulas = [text for text in FORMULAS if not text.startswith("\r")]
    with library.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["smiles", "=note"])
        table.writerows([["CCO", text] for text in formulas])
        table.writerow(["=cmd|' /C calc'!A0", "-1.5"])
    words = ["screen", str(library), "--objective", "maximize sa_score", "--out"]
    assert main([*words, str(out)]) == 0
    assert run_by_a_spreadsheet(cells_of(out)) == []
    assert "-1.5" in cells_of(out)
    # Apostrophes that the library itself has before a formula are of the same kind.
    given = [unescape(text) for text in formulas]
    assert [row.columns["=note"] for row in read_library(out)] == [*given, "-1.5"]
    assert [row.smiles for row in read_library(out)][-1].startswith("=cmd")
    assert best(out)[0]["=note"] == given[0]

    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs sciwm[parquet]")
    assert main([*words, str(tmp_path / "table.parquet")]) == 0
    rows = parquet.read_table(tmp_path / "table.parquet").to_pylist()
    assert [row["=note"] for row in rows] == [*given, "-1.5"]


def test_hypotheses_run_nothing(tmp_path):
    failure = Failure("calculation", "-1+1 went wrong")
    candidate = Candidate("CCO", "=proposer")
    one = Hypothesis(candidate, 0, "chosen", "@why", score=(-1.5,), failure=failure)
    write_csv(tmp_path / "table.csv", [one], {"CCO": "+frames"}, {"CCO": "=flaw"})
    cells = cells_of(tmp_path / "table.csv")
    assert run_by_a_spreadsheet(cells) == []
    assert "-1.5" in cells
    told = {unescape(cell) for cell in cells}
    assert {"=proposer", "@why", "+frames", "=flaw", failure.reason} <= told

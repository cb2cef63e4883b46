"""Notebooks run from top to bottom, hold no outputs, and define nothing that belongs in the package."""

import ast
import os
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import HUNG
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

BUDGETS = {
    '"1ps"': '"300fs"',
    '"--task.cpu_seconds", "60"': '"--task.cpu_seconds", "15"',
    "population=24, rounds=4": "population=8, rounds=2",
    "trials=20": "trials=4",
}
"""What is cut down, so that the tests stay quick; the code is run as it is otherwise."""


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def leftovers(notebook):
    return [cell.id for cell in code(notebook) if cell.outputs or cell.execution_count]


def definitions(notebook):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    trees = [ast.parse(cell.source) for cell in code(notebook)]
    return [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)]


def execute(notebook, folder):
    (folder / "notebooks").mkdir(exist_ok=True)
    for name in ("configs", "datasets"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    for cell in code(notebook):
        for long, short in BUDGETS.items():
            cell.source = cell.source.replace(long, short)
    client = NotebookClient(
        notebook, timeout=HUNG, resources={"metadata": {"path": str(folder / "notebooks")}}
    )
    client.execute()
    return notebook


@pytest.fixture(autouse=True)
def this_interpreter(monkeypatch):
    """Kernels are those of the environment that runs the tests, wherever it lies."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")


def test_what_is_cut_down_is_there():
    text = "".join(cell.source for path in NOTEBOOKS for cell in code(nbformat.read(path, 4)))
    assert [long for long in BUDGETS if long not in text] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_defines_nothing(path):
    notebook = nbformat.read(path, as_version=4)
    assert leftovers(notebook) == []
    assert definitions(notebook) == []
    assert all(len(cell.source.splitlines()) <= 16 for cell in code(notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # of Jupyter's own, in the kernel's threads
def test_a_notebook_runs_and_shows_pictures(path, tmp_path):
    notebook = execute(nbformat.read(path, as_version=4), tmp_path)
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 2
    errors = [o.text for o in outputs if o.get("name") == "stderr" and "Traceback" in o.text]
    assert errors == []


def test_there_is_a_notebook():
    assert NOTEBOOKS


def test_the_checks_catch_outputs_definitions_and_failing_cells(tmp_path):
    cell = nbformat.v4.new_code_cell("def lost(): ...\n1 / 0", execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    assert leftovers(notebook) == [cell.id]
    assert definitions(notebook) == ["lost"]
    with pytest.raises(CellExecutionError):
        execute(notebook, tmp_path)

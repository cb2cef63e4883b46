"""What the README and the documentation tell people to type works.

Every block of the README is run, and those of other pages before which `<!-- run -->` stands. `test_docs`
looks at what stands in the rest.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sciwm.cli import main

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RUN = "<!-- run -->\n"
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}

BUDGETS = {
    "train mine.h5md": "train mine.h5md --max_steps 250 --task.compiled false",
    "--task.cpu_seconds 600": "--max_steps 80",
    "discover configs/quinones.yaml": "discover configs/quinones.yaml --plan.calls 4 --plan.start 4",
    "10ps": "20fs",
    "250fs": "30fs",
    '"1ps"': '"20fs"',
}
"""What is cut down, so that the tests stay quick; everything else is run as it stands. Training counts in
steps, so that models are the same on slow machines."""


def blocks(language):
    """Blocks of the README, then those of the pages that are to be run, with their places."""
    fence = rf"^```{language}\n(.*?)^```"
    found = [("README.md", block) for block in re.findall(fence, README, re.S | re.M)]
    for name, text in PAGES.items():
        found += [(name, block) for block in re.findall(f"^{RUN}{fence[1:]}", text, re.S | re.M)]
    return found


def shortened(block):
    for long, short in BUDGETS.items():
        block = block.replace(long, short)
    return block


def commands(block):
    lines = (line.split("#")[0].strip() for line in block.splitlines())
    return [shlex.split(line) for line in lines if line]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with what the texts assume: the project's files, and some data of one's own."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("configs", "datasets", "Makefile", "pyproject.toml", "constraints.txt"):
        (folder / name).symlink_to(ROOT / name)
    frames = (ROOT / "datasets" / "ethanol_xtb" / "ethanol_400K.extxyz").read_text().splitlines()
    (folder / "mine.extxyz").write_text("\n".join(frames[: 210 * 11]) + "\n")
    (folder / "new.extxyz").write_text("\n".join(frames[-20 * 11 :]) + "\n")
    (folder / "library.smi").write_text("CCO ethanol\nCCCO\nnot a molecule\n")
    acceptors = ("O=CC=O,7.6", "C=CC=O,6.4", "CC(C)=O,4.7", "CC=O,5.2", "C=O,5.6", "N#CC=C,5.9")
    (folder / "measured.csv").write_text("\n".join(["smiles,ea", *acceptors]) + "\n")
    return folder


def run(command, folder):
    """One command of a shell block: in a process of its own where it would change global settings."""
    if command[0] == "make":
        dry = ["make", "--dry-run", *command[1:]]
        return subprocess.run(dry, cwd=folder, capture_output=True).returncode
    if command[:2] == ["sciwm", "train"]:
        program = str(Path(sys.executable).with_name("sciwm"))
        done = subprocess.run([program, *command[1:]], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return 0
    assert command[0] == "sciwm", f"a text runs {command[0]}, which this test does not know"
    return main(command[1:])


@pytest.fixture(scope="module")
def mine(project):
    """The state after all shell blocks, with the exit status of each command."""
    statuses = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for _, block in blocks("sh"):
            for command in commands(shortened(block)):
                statuses[" ".join(command)] = run(command, project)
    return statuses


def test_every_shell_command_succeeds(mine):
    assert len(mine) >= 15
    assert {command: status for command, status in mine.items() if status != 0} == {}


def test_every_python_block_runs(mine, project, monkeypatch):
    found = blocks("python")
    assert {name for name, _ in found} >= {"README.md", "simulation.md", "references.md"}
    (project / "runs").mkdir(exist_ok=True)
    if not (project / "runs" / "ethanol").exists():
        shutil.copytree(project / "runs" / "mine", project / "runs" / "ethanol")
    monkeypatch.chdir(project)
    for name, block in found:
        exec(compile(shortened(block), name, "exec"), {})


def test_the_picture_is_small():
    assert (ROOT / "overview.png").stat().st_size <= 200_000


def test_every_block_that_is_marked_is_found_and_every_budget_that_is_cut_is_there():
    marks = sum(text.count(RUN) for text in PAGES.values())
    marked = [name for language in ("sh", "python") for name, _ in blocks(language)]
    assert len([name for name in marked if name != "README.md"]) == marks
    run = "".join(block for language in ("sh", "python") for _, block in blocks(language))
    assert [long for long in BUDGETS if long not in run] == []


def test_these_checks_catch_what_would_rot(project, tmp_path):
    assert run(["make", "everything"], project) != 0
    assert main(["import", str(tmp_path / "none.xyz"), "--to", str(tmp_path / "none.h5md")]) != 0
    with pytest.raises(AssertionError, match="does not know"):
        run(["rm", "-rf", "runs"], project)

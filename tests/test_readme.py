"""What the README tells people to type works, and what it points to is there."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sciwm.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

BUDGETS = {
    "--task.cpu_seconds 600": "--task.cpu_seconds 8",
    "discover configs/quinones.yaml": "discover configs/quinones.yaml --plan.calls 4 --plan.start 4",
    "10ps": "20fs",
    "250fs": "30fs",
    '"1ps"': '"20fs"',
}
"""Times that are cut down, so that the tests stay quick; everything else is run as it stands."""


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def shortened(block):
    for long, short in BUDGETS.items():
        block = block.replace(long, short)
    return block


def commands(block):
    lines = (line.split("#")[0].strip() for line in block.splitlines())
    return [shlex.split(line) for line in lines if line]


def broken_links(text, folder):
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    targets += re.findall(r'src="([^"]+)"', text)
    return [t for t in targets if "://" not in t and not (folder / t).exists()]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with what the README assumes: the project's files, and some data of one's own."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("configs", "datasets", "Makefile", "pyproject.toml", "constraints.txt"):
        (folder / name).symlink_to(ROOT / name)
    frames = (ROOT / "datasets" / "ethanol_xtb" / "ethanol_400K.extxyz").read_text().splitlines()
    (folder / "mine.extxyz").write_text("\n".join(frames[: 150 * 11]) + "\n")
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
    assert command[0] == "sciwm", f"the README runs {command[0]}, which this test does not know"
    return main(command[1:])


@pytest.fixture(scope="module")
def mine(project):
    """The state after all shell blocks, with the exit status of each command."""
    statuses = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for block in blocks(README, "sh"):
            for command in commands(shortened(block)):
                statuses[" ".join(command)] = run(command, project)
    return statuses


def test_every_shell_command_succeeds(mine):
    assert len(mine) >= 6
    assert {command: status for command, status in mine.items() if status != 0} == {}


def test_every_python_block_runs(mine, project, monkeypatch):
    found = blocks(README, "python")
    assert found
    (project / "runs").mkdir(exist_ok=True)
    if not (project / "runs" / "ethanol").exists():
        shutil.copytree(project / "runs" / "mine", project / "runs" / "ethanol")
    monkeypatch.chdir(project)
    for block in found:
        exec(compile(shortened(block), "README.md", "exec"), {})


def test_every_link_and_picture_is_there():
    assert broken_links(README, ROOT) == []
    assert (ROOT / "overview.png").stat().st_size <= 200_000


def test_the_budgets_that_are_cut_are_in_the_readme():
    assert [long for long in BUDGETS if long not in README] == []


def test_these_checks_catch_what_would_rot(project, tmp_path):
    assert broken_links("[gone](sciwm/gone.py)", ROOT) == ["sciwm/gone.py"]
    assert run(["make", "everything"], project) != 0
    assert main(["import", str(tmp_path / "none.xyz"), "--to", str(tmp_path / "none.h5md")]) != 0
    with pytest.raises(AssertionError, match="does not know"):
        run(["rm", "-rf", "runs"], project)

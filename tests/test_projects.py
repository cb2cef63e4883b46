"""What a user has who installed the package and nothing else: job files, example projects, a doctor."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HUNG

from sciwm.cli import main
from sciwm.cli.job_files import job_file, shipped_jobs
from sciwm.cli.new import PROJECTS
from sciwm.interfaces import installation

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[1]


def test_job_files_are_found_by_name_and_those_in_the_folder_go_first(tmp_path, monkeypatch):
    assert set(shipped_jobs()) == {file.stem for file in (ROOT / "configs").glob("*.yaml")}
    monkeypatch.chdir(tmp_path)
    assert job_file("acac").read_text() == (ROOT / "configs/acac.yaml").read_text()
    assert job_file("configs/acac.yaml") == job_file("acac")
    (tmp_path / "acac").write_text("mine")
    assert job_file("acac").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match=r"no job file 'acacia'.*acac, .*water"):
        job_file("acacia")


@pytest.mark.parametrize("project", PROJECTS)
def test_an_example_project_overwrites_nothing(tmp_path, monkeypatch, capsys, project):
    monkeypatch.chdir(tmp_path)
    assert main(["new", project]) == 0
    said = capsys.readouterr().out
    readme = (tmp_path / project / "README.md").read_text()
    for command, _ in PROJECTS[project].commands:
        assert command in said
        assert command in readme
    (tmp_path / project / "README.md").unlink()
    first = next((tmp_path / project).iterdir())
    first.write_text("mine")
    assert main(["new", project]) == 2
    assert "exists" in capsys.readouterr().err
    assert first.read_text() == "mine"


def test_an_unknown_project_is_told_which_there_are(capsys):
    assert main(["new", "proteins"]) == 2
    assert "ethanol, particles, campaign" in capsys.readouterr().err


def test_the_doctor_knows_what_is_there_and_what_is_not(capsys, monkeypatch):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "ms, after" in said
    assert "tblite" in installation.extras()["xtb"]
    assert "missing" not in installation.extras()["xtb"]
    known = installation.importlib.metadata.version

    def without_tblite(name: str) -> str:
        if name == "tblite":
            raise installation.importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(installation.importlib.metadata, "version", without_tblite)
    assert "pip install 'sciwm[xtb]'" in installation.extras()["xtb"]
    monkeypatch.setenv("PATH", "/nowhere")
    assert "SLOW" in "\n".join(line for line in installation.report() if "compiler" in line)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which a wheel of this tree is installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("sciwm", "configs", "datasets"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [*pip, "--no-index", "--target", target, str(source)],
        capture_output=True, text=True, timeout=HUNG, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return target


def test_the_wheel_holds_worlds_jobs_and_data(installed):
    for folder in ("sciwm/worlds", "configs", "datasets/ethanol_xtb", "datasets/charged_nbody"):
        there = installed / "sciwm" / folder.removeprefix("sciwm/")
        wanted = {file.name for file in (ROOT / folder).iterdir() if file.is_file()}
        assert wanted <= {file.name for file in there.iterdir()}
    assert (installed / "sciwm/py.typed").is_file()


def test_the_wheel_alone_makes_a_project_trains_simulates_and_screens(installed, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def ran(*arguments: str) -> str:
        command = [sys.executable, "-W", "ignore", "-m", "sciwm", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HUNG
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import sciwm; print(sciwm.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert found.stdout.startswith(str(installed))
    ran("new", "particles", "--folder", ".")
    ran("train", "particles.yaml", "--max_steps", "20", "--validate_every", "10")
    moved = ("simulate", "runs/particles", "softened.h5md", "0.1", "--dt", "0.01", "--frames", "0")
    ran(*moved, "--out", "imagined.h5md")
    ran("train", "softened.h5md", "--max_steps", "20", "--validate_every", "10")
    ran("train", "particles", "--name", "by_name", "--max_steps", "20", "--validate_every", "10")
    ran("simulate", "organic", "CO", "5fs", "--temperature", "300K", "--out", "methanol.h5md")
    (tmp_path / "library.smi").write_text("CO\nCCO\n")
    ran("screen", "library.smi", "--objective", "maximize sa_score", "--out", "ranked.csv")
    assert "6 particles: H C O" in ran("info", "methanol.h5md")
    assert len((tmp_path / "ranked.csv").read_text().splitlines()) == 3

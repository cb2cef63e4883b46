"""`make` runs commands that exist, in an order that leaves nothing to do the second time."""

import shlex
import shutil
import subprocess
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path

import pytest

from sciwm.cli import COMMANDS

ROOT = Path(__file__).parents[1]

# Does what each command leaves behind, and nothing else. `check` also rewrites the model.
STAND_IN = """#!/bin/sh
set -eu
echo "$@" >> commands.log
run=runs/ethanol
leave() { mkdir -p "$(dirname "$1")"; sleep 0.02; touch "$1"; }
case "$1" in
  import) leave $run/train.h5md ;;
  train) model="runs/$(basename "$2" .yaml)/model.pt"; test ! -e "$model"; leave "$model" ;;
  check) leave $run/model.pt; leave $run/check.json; exit 1 ;;
  evaluate) leave $run/evaluation/metrics.json ;;
  simulate) for out; do :; done; test ! -e "$out"; leave "$out" ;;
  report) leave $run/report.html ;;
  discover) leave runs/polar/ledger.sqlite; leave runs/polar/report.html ;;
esac
"""


@pytest.fixture
def project(tmp_path):
    """The project's Makefile with stand-ins for everything that it runs."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    jobs = [f"configs/{name}.yaml" for name in ("ethanol", "ethanol_cheap", "polar")]
    for name in ("pyproject.toml", "constraints.txt", *jobs):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    data = tmp_path / "datasets" / "ethanol_xtb"
    data.mkdir(parents=True)
    for name in ("ethanol_400K.extxyz", "ethanol_nve.h5md"):
        (data / name).touch()
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "sciwm").write_text(STAND_IN)
    (binaries / "sciwm").chmod(0o755)
    (tmp_path / ".venv" / ".done").touch()
    return tmp_path


def made(project, *goals):
    """The sciwm commands that one call of make runs."""
    log = project / "commands.log"
    log.unlink(missing_ok=True)
    done = subprocess.run(["make", *goals], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    commands = log.read_text().splitlines() if log.exists() else []
    assert all(command in done.stdout for command in commands)  # shown as they run
    return commands


def edit(path):
    """Makes a file newer than all that is there: the clock of files stands still for a few ms."""
    newest = max(file.stat().st_mtime_ns for file in path.parents[1].rglob("*") if file.is_file())
    while path.stat().st_mtime_ns <= newest:
        path.touch()


def verbs(commands):
    return [command.split()[0] for command in commands]


def test_make_does_the_whole_job_in_order_and_nothing_the_second_time(project):
    whole = ["import", "train", "check", "evaluate", "simulate", "train", "simulate", "report"]
    assert verbs(made(project)) == [*whole, "compile", "discover"]
    assert made(project) == []


def test_a_campaign_whose_job_has_changed_starts_anew_and_an_interrupted_one_goes_on(project):
    relic = project / "runs" / "polar" / "relic"
    relic.parent.mkdir(parents=True)
    relic.touch()
    made(project)
    assert relic.exists()
    edit(project / "configs" / "polar.yaml")
    assert verbs(made(project)) == ["compile", "discover"]
    assert not relic.exists()


def test_the_second_call_would_show_a_rule_that_depends_on_what_checks_rewrite(project):
    makefile = project / "Makefile"
    text = makefile.read_text()
    assert "metrics.json: $(RUN)/check.json" in text
    makefile.write_text(
        text.replace("metrics.json: $(RUN)/check.json", "metrics.json: $(RUN)/model.pt")
        .replace("imagined.h5md: $(RUN)/check.json", "imagined.h5md: $(RUN)/model.pt")
        .replace("$(RUN)/strides.h5md\n\t", "$(RUN)/strides.h5md $(RUN)/check.json\n\t")
    )
    made(project)
    assert made(project) != []


def test_a_changed_job_file_is_trained_again_and_all_that_follows_with_it(project):
    made(project)
    edit(project / "configs" / "ethanol.yaml")
    assert verbs(made(project)) == ["train", "check", "evaluate", "simulate", "simulate", "report"]


def test_an_interrupted_training_keeps_its_checkpoints(project):
    checkpoints = project / "runs" / "ethanol" / "checkpoints"
    checkpoints.mkdir(parents=True)
    made(project)
    assert checkpoints.is_dir()
    edit(project / "configs" / "ethanol.yaml")
    made(project)
    assert not checkpoints.exists()


def faults(command):
    """What is wrong with a command line, judged by the signature of the function it calls."""
    verb, *arguments = shlex.split(command)
    if verb not in COMMANDS:
        return [f"no command {verb}"]
    function = getattr(import_module(COMMANDS[verb][0]), "import_" if verb == "import" else verb)
    parameters = signature(function).parameters.values()
    options = {f"--{p.name}" for p in parameters if p.kind is Parameter.KEYWORD_ONLY}
    needed = [
        p for p in parameters if p.kind is not Parameter.KEYWORD_ONLY and p.default is p.empty
    ]
    used = [argument for argument in arguments if argument.startswith("--")]
    places = len(arguments) - 2 * len(used)
    if verb == "train":
        options |= {option for option in used if "." in option or option == "--seed"}  # the job's
    found = [f"{verb} has no option {option}" for option in used if option not in options]
    if places != len(needed):
        found.append(f"{verb} takes {len(needed)} arguments, not {places}")
    return found


def test_every_command_of_the_demo_exists_with_its_options(project):
    assert [fault for command in made(project) for fault in faults(command)] == []


@pytest.mark.parametrize(
    "command", ["imagine runs/x", "check runs/x --dta y", "report", "evaluate runs/x y --data z"]
)
def test_a_wrong_command_is_found_out(command):
    assert faults(command)


def test_the_files_that_the_demo_starts_from_are_there():
    for name in ("ethanol_400K.extxyz", "ethanol_nve.h5md"):
        assert (ROOT / "datasets" / "ethanol_xtb" / name).is_file()

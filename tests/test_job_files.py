"""Settings that stand for more than the memory holds, or that no trainer has, end in one sentence."""

import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml

from sciwm import cli
from sciwm.cli import main
from sciwm.core.construction import construct
from sciwm.core.yaml_text import MOST_VALUES, read_yaml, require_bounded
from sciwm.models import Encoder, ForceField, archive

pytestmark = pytest.mark.long

LEVELS = [
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in pairwise("abcdefghi")
]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(LEVELS)
"""A billion words in 500 characters."""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "stands for more than"),
        ("a: &a {b: *a}", "what it is part of"),
        ("a: *b", "what it is part of"),
        ("[" * 1000 + "]" * 1000, "nested more than"),
        ("a: " + "x" * (1 << 20), "characters"),
        ("a: [1, 2", "expected"),
    ],
    ids=["bomb", "loop", "unknown alias", "deep", "long", "broken"],
)
def test_texts_that_grow_are_refused_before_they_do(tmp_path, text, said):
    tracemalloc.start()
    with pytest.raises(yaml.YAMLError, match=said):
        require_bounded(text)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"(?s)job\.yaml is not YAML.*{said}"):
        read_yaml(tmp_path / "job.yaml")


def test_values_are_counted_as_yaml_itself_replaces_aliases():
    """The largest text that passes has as many values as it may, and one more does not."""

    def size(value):
        inside = value.values() if isinstance(value, dict) else value
        keys = len(value) if isinstance(value, dict) else 0
        return 1 + keys + sum(map(size, inside)) if isinstance(value, (dict, list)) else 1

    text = "base: &base {x: 1, y: [2, 3]}\nmany: [" + ", ".join(["*base"] * 14_284) + "]"
    require_bounded(text)
    assert MOST_VALUES - 7 < size(yaml.safe_load(text)) <= MOST_VALUES
    with pytest.raises(yaml.YAMLError):
        require_bounded(text.replace("*base]", "*base, *base]"))


def test_honest_aliases_work(tmp_path):
    (tmp_path / "job.yaml").write_text("a: &a [1, 2]\nb: {c: *a}\n")
    assert read_yaml(tmp_path / "job.yaml") == {"a": [1, 2], "b": {"c": [1, 2]}}


@pytest.mark.parametrize(("command", "where"), [("train", "file"), ("discover", "option")])
def test_a_job_that_grows_is_refused_by_the_command(tmp_path, command, where, labelled):
    """In a process of its own, with a limit of memory that growing would break."""
    job = tmp_path / "job.yaml"
    job.write_text(BOMB if where == "file" else "")
    arguments = [command, str(job)]
    if where == "option":
        inline = ", ".join(f"{line}" for line in BOMB.splitlines())
        arguments += ["--trainer" if command == "train" else "--reference", "{" + inline + "}"]
    code = (
        "import resource, sys; from sciwm.cli import main; "
        "resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30)); sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


TRAINING = """
data: {{class_path: sciwm.data.modules.FrameData, init_args: {{train: {data}, valid: 8}}}}
task:
  class_path: sciwm.training.ForceTask
  init_args:
    model:
      class_path: sciwm.models.ForceField
      init_args:
        encoder: {{class_path: sciwm.models.Encoder, init_args: {encoder}}}
        reference_energies: {{H: 0.0, O: 0.0}}
max_steps: 2
trainer: {trainer}
"""


def trained(tmp_path, data, trainer="{accelerator: cpu}", encoder="{cutoff: 3.0, channels: 4}"):
    job = tmp_path / "job.yaml"
    job.write_text(TRAINING.format(data=data, trainer=trainer, encoder=encoder))
    try:
        return main(["train", str(job), "--folder", str(tmp_path / "runs")])
    except SystemExit as stop:  # from jsonargparse
        return stop.code


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        pytest.param(
            "{accelerator: gpu}",
            "No supported gpu backend",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        ("{accelerator: abacus}", "abacus"),
        ("{acelerator: cpu}", "no option acelerator; did you mean accelerator"),
        ("{accelerator: cpu, 0: cpu, x: 1}", "no option 0, x"),
        ("{accelerator: cpu, devices: -3}", "devices"),
        ("{accelerator: cpu, devices: [a]}", "devices"),
        ("{accelerator: cpu, precision: 5}", "5"),
        ("{accelerator: cpu, strategy: nothing}", "nothing"),
        ("{accelerator: cpu, limit_train_batches: -1}", "limit_train_batches"),
        ("{accelerator: cpu, limit_val_batches: 1.0e-9}", "limit_val_batches"),
        ("{accelerator: cpu, limit_val_batches: 0}", "never validated"),
        ("{accelerator: cpu, limit_train_batches: 0}", "never validated"),
        ("{accelerator: cpu, fast_dev_run: true}", "never validated"),
        ("{callbacks: [x]}", "callbacks is set by the training itself"),
        ("{max_steps: 7}", "set by max_steps of the job"),
    ],
)
def test_options_that_no_trainer_has_are_told(tmp_path, labelled, capsys, trainer, said):
    assert trained(tmp_path, labelled, trainer) == 2
    error = capsys.readouterr().err
    assert error.startswith("sciwm train: ")
    assert said in error


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("valid: 8", "data.valid"),
        ("channels: 4", "task.model.encoder.channels"),
    ],
)
def test_nothing_where_a_value_is_needed_is_told(
    tmp_path, labelled, capsys, monkeypatch, place, named
):
    key = place.partition(":")[0]
    monkeypatch.setattr(sys.modules[__name__], "TRAINING", TRAINING.replace(place, f"{key}: null"))
    encoder = "{cutoff: 3.0, channels: null}" if key == "channels" else "{channels: 4}"
    assert trained(tmp_path, labelled, encoder=encoder) == 2
    assert f"{named} cannot be null" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", "[]"),
        ("metrics.json", '{"last": 3}'),
        ("metrics.json", '{"last": {"valid/force": "x"}}'),
        ("provenance.json", "[1]"),
        ("evaluation/metrics.json", "3"),
        ("config.yaml", "data: {init_args: {train: 3}}"),
    ],
)
def test_a_report_on_a_folder_that_was_tampered_with_says_which_file(
    tmp_path, labelled, capsys, name, text
):
    model = ForceField(Encoder(3.0, channels=4, lmax=1))
    model.domain.seen[[1, 8]] = True
    archive.save(archive.Archive(model), tmp_path / "model.pt")
    (tmp_path / "config.yaml").write_text(f"data: {{init_args: {{train: [{labelled}]}}}}")
    (tmp_path / "evaluation").mkdir()
    (tmp_path / name).write_text(text)
    assert main(["report", str(tmp_path)]) == 2
    assert str(tmp_path / name) in capsys.readouterr().err


def test_arguments_that_have_no_names_are_told():
    with pytest.raises(ValueError, match=r"init_args of .* is 3"):
        construct({"class_path": "sciwm.discovery.plan.CampaignPlan", "init_args": 3})
    with pytest.raises(ValueError, match=r"cannot be built from \['0', 'calls'\]"):
        construct(
            {"class_path": "sciwm.discovery.plan.CampaignPlan", "init_args": {"calls": 2, 0: 1}}
        )


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ("{channels: 1000000000}", "channels must lie in 1..10000"),
        ("{channels: -1}", "channels must lie"),
        ("{lmax: 1000}", "lmax must lie in 1..11"),
        ("{layers: 1000000000}", "layers must lie in 1..100"),
        ("{basis_size: 0}", "basis_size must lie"),
        ("{cutoff: .nan}", "cutoff"),
    ],
)
def test_sizes_of_a_model_that_nobody_can_train_are_told(tmp_path, labelled, capsys, encoder, said):
    assert trained(tmp_path, labelled, encoder=encoder) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert said in error


def test_every_command_reads_options_with_the_bounded_parser():
    """One that has a parser of its own would show here."""
    folder = Path(cli.__file__).parent
    makers = {file.name for file in folder.glob("*.py") if "ArgumentParser" in file.read_text()}
    assert makers == {"parser.py"}


CAMPAIGN = """
objective: maximize molecular_weight; require sa_score < 4
proposers:
- class_path: sciwm.discovery.planners.proposers.genetic.Genetic
  init_args: {start: [CCO, CCN], max_heavy: 4}
plan: {calls: 2, start: 1, batch: 1, pool: 4, generations: 1}
workers: 1
"""


@pytest.mark.parametrize(
    ("place", "named"),
    [("batch: 1", "plan.batch"), ("pool: 4", "plan.pool"), ("workers: 1", "workers")],
)
def test_nothing_where_a_campaign_needs_a_value_is_told(tmp_path, capsys, place, named):
    job = tmp_path / "job.yaml"
    job.write_text(CAMPAIGN.replace(place, f"{place.partition(':')[0]}: null"))
    assert main(["discover", str(job), "--folder", str(tmp_path / "runs")]) == 2
    assert f"{named} cannot be null" in capsys.readouterr().err


def test_a_campaign_of_descriptors_alone_ends_before_anything_is_paid(tmp_path, capsys):
    job = tmp_path / "job.yaml"
    job.write_text(CAMPAIGN)
    assert main(["discover", str(job), "--folder", str(tmp_path / "runs")]) == 2
    assert "needs nothing that a reference gives" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()

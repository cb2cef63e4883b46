"""Arguments of the command line: names of options are spelled anew, values never."""

import argparse
import shutil
from pathlib import Path

import pytest

from sciwm.cli import call, main
from sciwm.cli.arguments import readable

JOB = str(Path(__file__).parents[1] / "configs" / "ethanol.yaml")

VALUES = ["d/a-b.h5md", "-2:", "-300K", "a--b", "-", "x=-y-z", "-0.5", "1-2", ""]


def told(arguments):
    """What a command with some options is called with."""
    found = {}

    def command(
        source: str, *, to_file: str = "", frames: str = "", skip_bad: bool = False, seed: int = 0
    ) -> int:
        found.update(source=source, to_file=to_file, frames=frames, skip_bad=skip_bad, seed=seed)
        return 0

    call(command, arguments, "test")
    return found


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", ["to-file", "to_file"])
def test_a_value_after_an_equals_sign_arrives_as_it_was_written(name, value):
    # The standard parser is asked what it makes of the same words.
    plain = argparse.ArgumentParser()
    plain.add_argument("source")
    plain.add_argument("--to-file", "--to_file")
    words = ["in-file", f"--{name}={value}"]
    assert told(words)["to_file"] == plain.parse_args(words).to_file == value


@pytest.mark.parametrize("value", ["-2:", "-300K", "-", "-0.5", "a-b"])
def test_a_value_may_begin_with_a_minus(value):
    assert told(["in", "--frames", value, "--skip-bad"])["frames"] == value
    assert told(["in", "--skip-bad", "--frames", value, "--seed", "-3"])["seed"] == -3


def test_what_follows_two_dashes_is_no_option():
    assert told(["--skip-bad", "--", "--skip-bad"])["source"] == "--skip-bad"


def test_names_of_parts_stay_as_they_are():
    assert readable(["--my-units.a-b=V-s"], {"my_units"}) == ["--my_units.a-b=V-s"]
    assert readable(["--other-units", "V"], {"my_units"}) == ["--other-units", "V"]


def test_help_is_no_value():
    assert readable(["--frames", "-h"]) == ["--frames", "-h"]


class TestErrors:
    @pytest.mark.parametrize(
        ("given", "told"),
        [
            (["--task.learning_rate", "fast"], "task.learning_rate: expected float, got fast"),
            (
                ["--task.model.init_args.encoder.init_args.channels", "many"],
                "task.model.encoder.channels: expected int, got many",
            ),
            (["--task.model", "none"], "task.model: expected dot import path string, got none"),
            (["--data.init_args.trian", "x"], "data: Option 'trian' is not accepted"),
            (["--no_such", "3"], "unrecognized arguments: --no_such 3"),
        ],
    )
    def test_what_is_wrong_is_told_in_one_line(self, given, told, capsys):
        with pytest.raises(SystemExit) as end:
            main(["train", JOB, *given])
        assert end.value.code == 2
        assert capsys.readouterr().err == (
            f"sciwm train: {told}; `sciwm train --options` lists all options\n"
        )

    def test_what_a_class_refuses_is_told_in_one_line(
        self, tmp_path, labelled, monkeypatch, capsys
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "runs/ethanol").mkdir(parents=True)
        shutil.copy(labelled, tmp_path / "runs/ethanol/train.h5md")
        cutoff = ["--task.model.init_args.encoder.init_args.cutoff", "1e40"]
        assert main(["train", JOB, *cutoff]) == 2
        assert capsys.readouterr().err.endswith(
            "sciwm train: cutoff must be at most 1e+12, got 1e+40\n"
        )

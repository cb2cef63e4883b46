"""The check of a GPU goes through its parts on a processor, and notices numbers that are not the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]

RUN = """
import dataclasses, runpy, sys

names = runpy.run_path("scripts/gpu_check.py", run_name="checked")["main"].__globals__
names["main"](device="cpu", small=True, json_file=sys.argv[1])

right, asked = names["predict"], []

def wrong(model, state):
    found = right(model, state)
    asked.append(state)
    return dataclasses.replace(found, forces=found.forces * (1 + 1e-8 * len(asked)))

names["predict"] = wrong
names["main"](device="cpu", small=True, json_file=sys.argv[2])
"""
"""Once as it is, and once on a device whose forces are slightly other at each call."""


def test_all_parts_run_and_a_device_with_other_forces_fails(tmp_path):
    files = [tmp_path / "sound.json", tmp_path / "broken.json"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, *map(str, files)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    sound, broken = (json.loads(file.read_text()) for file in files)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "failed: same_numbers" in done.stderr
    assert "error" in broken["same_numbers"]
    for name in ("training", "same_numbers", "motion", "one_of_several"):
        assert "error" not in sound[name], sound[name]
    assert sound["training"]["validation_errors_differ_by"] == 0
    assert sound["one_of_several"]["loss"] == sound["training"]["here"]["loss"]
    assert sound["motion"]["4"]["system_steps_per_second"] > 0

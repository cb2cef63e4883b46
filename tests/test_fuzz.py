"""A share of the fuzz: sound input gets through, planted faults are told, hostile input does no harm."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Processes are started one after another; only a hang is worth ending.
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]

SEED = 2
CASES = 130
FAMILIES = ["import", "stored", "model", "objective", "job", "option"]

RUN = """
import json, os, sys, time
from pathlib import Path

from fuzzing.jail import Inmate, IMPLAUSIBLE
from fuzzing.session import Session, implausible

scratch, seed, cases, families = Path(sys.argv[1]), *json.loads(sys.argv[2])
session = Session(scratch, scratch / "kept", seed, families)
found = {"sound": {name: (one.verdict, one.said) for name, one in session.sound().items()}}

def spin():
    while True:
        pass

def fall():
    raise KeyError("x")

def say(status, text):
    print(text, file=sys.stderr)
    return status

planted = {
    "abort": os.abort,
    "spin": spin,
    "fall": fall,
    "memory": lambda: len(bytearray(1 << 40)),
    "leave": lambda: sys.exit(2),
    "silent": lambda: 7,
    "two paragraphs": lambda: say(2, "sciwm x: one\\n\\nother"),
    "one paragraph": lambda: say(2, "a warning\\nsciwm x: one\\n  ^ here"),
    "impossible": lambda: say(IMPLAUSIBLE, "positions"),
    "done": lambda: 0,
}
found["planted"] = {}
for name, act in planted.items():
    folder = scratch / name
    folder.mkdir()
    inmate = Inmate(act, folder, longest=1)
    while (outcome := inmate.outcome()) is None:
        time.sleep(0.01)
    found["planted"][name] = outcome.verdict, outcome.where
for number in range(cases):
    session.begin(number, jobs=2)
session.finish()
found["failures"], found["counts"] = list(session.failures), session.counts()
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What one session finds, in a process that may be forked."""
    scratch = tmp_path_factory.mktemp("fuzz")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            RUN,
            str(scratch),
            json.dumps([SEED, CASES, FAMILIES]),
        ],
        cwd=scratch,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_everything_is_accepted_before_it_is_damaged(found):
    assert len(found["sound"]) > 25
    assert {name: said for name, (verdict, said) in found["sound"].items() if verdict != "ok"} == {}


def test_what_a_case_can_do_is_told_apart(found):
    verdicts = {name: verdict for name, (verdict, _) in found["planted"].items()}
    assert verdicts == {
        "abort": "crash",
        "spin": "hang",
        "fall": "traceback",
        "memory": "traceback",
        "leave": "unclear error",
        "silent": "unclear error",
        "two paragraphs": "unclear error",
        "one paragraph": "clear error",
        "impossible": "implausible",
        "done": "ok",
    }
    assert found["planted"]["fall"][1].startswith("KeyError")
    assert found["planted"]["abort"][1].startswith("SIGABRT")


def test_hostile_input_ends_in_clear_errors(found):
    assert found["failures"] == []
    assert set(found["counts"]) == {"ok", "clear error"}
    assert set(found["counts"]["clear error"]) == set(FAMILIES)

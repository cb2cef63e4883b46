"""What scripts say about how to call them is so."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    path for path in (ROOT / "scripts").glob("*.py") if "auto_cli(" in path.read_text()
)

PARSE = """
import io, json, runpy, sys
from contextlib import redirect_stderr
from jsonargparse import auto_parser

refused = {}
for script, calls in json.load(sys.stdin).items():
    parser = auto_parser(runpy.run_path(script, run_name="described")["main"])
    said = io.StringIO()
    for words in calls:
        try:
            with redirect_stderr(said):
                parser.parse_args(words)
        except SystemExit:
            refused[f"{script} {words}"] = said.getvalue()
    assert "--help" in parser.format_help()
json.dump(refused, sys.stdout)
"""
"""Reads how scripts are called, without running them; one process, as loading them takes seconds."""


def documented(text):
    """The words of every call in a text, with those in brackets; calls without any promise nothing."""
    calls = []
    for script, line in re.findall(r"python (scripts/\w+\.py)((?:\\+\n|[^\n`])*)", text):
        words, optional = [], False
        for word in shlex.split(re.sub(r"\\+\n", " ", line)):
            optional |= word.startswith("[-")
            word = word.removeprefix("[") if word.startswith("[-") else word
            if optional and word.endswith("]"):
                word, optional = word.removesuffix("]"), False
            words.append(word)
        calls += [(script, words)] if words else []
    return calls


def refused(calls):
    """The calls that the scripts would not take, with what they say."""
    sorted_by_script = {}
    for script, words in calls:
        sorted_by_script.setdefault(script, []).append(words)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSE],
        input=json.dumps(sorted_by_script),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def calls():
    texts = {path: path.read_text() for path in SCRIPTS}
    further = [ROOT / "README.md", ROOT / "scripts" / "results" / "README.md"]
    texts |= {path: path.read_text() for path in (*further, *(ROOT / "docs").glob("*.md"))}
    found = [call for text in texts.values() for call in documented(text)]
    return [(script, words) for script, words in found if ROOT / script in SCRIPTS]


def test_calls_are_found_in_every_script(calls):
    assert {ROOT / script for script, _ in calls} == set(SCRIPTS)
    assert documented("    python scripts/x.py [--a '[0, 1]'] [--b] C\n") == [
        ("scripts/x.py", ["--a", "[0, 1]", "--b", "C"])
    ]


def test_every_documented_call_is_understood_and_others_are_not(calls):
    wrong = ("scripts/bench_io.py", ["--weight", "1"])
    several = ("scripts/bench_acac.py", ["--test", '["600K=a.xyz", "500K=b.xyz"]'])
    assert set(refused([*calls, several, wrong])) == {f"{wrong[0]} {wrong[1]}"}

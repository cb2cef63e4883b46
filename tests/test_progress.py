"""Whoever waits at a terminal sees a bar; a log gets a line now and then, with rate and time left."""

import io
import re
import sys

import pytest
from tqdm import tqdm

from sciwm.core import progress
from sciwm.core.progress import Bar


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass as the test says."""
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def written(monkeypatch, clock, stream, kind=Bar, seconds=600, **options):
    """What a bar writes while it is updated once a second."""
    monkeypatch.setattr(sys, "stderr", stream)
    if kind is tqdm:
        options["file"] = stream
    bar = kind(total=2 * seconds, unit="step", **options)
    for _ in range(seconds):
        clock[0] += 1.0
        bar.update()
    bar.close()
    return stream.getvalue()


def test_a_log_gets_a_line_now_and_then(monkeypatch, clock):
    text = written(monkeypatch, clock, io.StringIO(), desc="work")
    lines = text.splitlines()
    assert 5 <= len(lines) <= 600 / progress.LINES
    assert "\r" not in text
    assert text.endswith("\n")
    for line in lines:
        assert re.fullmatch(r"work: +\d+% \d+/1200 \[\d\d:\d\d<\d\d:\d\d, +1\.00step/s\]", line), (
            line
        )


def test_a_log_of_quick_work_stays_empty(monkeypatch, clock):
    assert written(monkeypatch, clock, io.StringIO(), seconds=20) == ""


def test_a_terminal_gets_a_bar(monkeypatch, clock):
    text = written(monkeypatch, clock, Screen(), ncols=80, ascii=True)
    assert text.count("\r") > 100
    assert "###" in text


def test_the_check_catches_a_bar_that_fills_a_log(monkeypatch, clock):
    text = written(monkeypatch, clock, io.StringIO(), kind=tqdm, mininterval=0.1)
    assert text.count("\r") > 100


def test_every_bar_of_the_package_is_of_this_kind():
    import sciwm

    root = sciwm.__path__[0]
    from pathlib import Path

    users = [
        path.name
        for path in Path(root).rglob("*.py")
        if re.search(
            r"^\s*(from tqdm|import tqdm|from rich|.*TQDMProgressBar)", path.read_text(), re.M
        )
    ]
    assert sorted(users) == ["pool.py", "progress.py"]  # the pool silences those of its workers

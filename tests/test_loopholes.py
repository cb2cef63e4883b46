"""Planted flaws of worlds are noticed when their plans are carried out."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

from planted_loopholes import CASES, compared


@pytest.mark.parametrize("case", CASES, ids=lambda one: one.name)
def test_a_return_that_lies_in_a_flaw_is_flagged_and_an_honest_one_is_not(case):
    assert compared(case, 11, flawed=True).loophole is not None
    assert compared(case, 11, flawed=False).loophole is None


def test_there_are_ten_at_least():
    assert len({one.name for one in CASES}) >= 10

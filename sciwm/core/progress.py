"""How far long work has come, for whoever waits: a bar at a terminal, a line now and then in a log."""

import sys
from collections.abc import Iterable
from time import monotonic
from typing import Any

from tqdm import tqdm

LINES = 60.0
"""Seconds between two lines where there is no terminal."""


def _in_notebook() -> bool:
    interactive = sys.modules.get("IPython")
    return interactive is not None and interactive.get_ipython() is not None


class Bar(tqdm):
    """A progress bar on the error output; in a log, lines with rate and time left.

    Args:
        iterable: What to go through; absent where `update` says how far things are.
        delay: Seconds before anything is shown.
        options: Further ones of tqdm, such as total, desc and unit.
    """

    def __init__(self, iterable: Iterable[Any] | None = None, delay: float = 1.0, **options: Any):
        self._told = monotonic()
        # A notebook is no terminal, but shows a bar all the same.
        self._lines = not (sys.stderr.isatty() or _in_notebook())
        if self._lines:
            # Numbers without a picture of a bar, which nothing has to take away at the end.
            options |= {"leave": False, "mininterval": 1.0}
            options["ncols"] = 0
            if "bar_format" in options:
                options["bar_format"] = options["bar_format"].replace("|{bar}| ", "")
        super().__init__(iterable, delay=delay, file=sys.stderr, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool | None:
        if not self._lines:
            return super().display(msg, pos)
        now = monotonic()
        if msg != "" and now - self._told >= LINES:
            self._told = now
            print(msg or self, file=sys.stderr, flush=True)
        return False

    def clear(self, nolock: bool = False) -> None:
        if not self._lines:
            super().clear(nolock)

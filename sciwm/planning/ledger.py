"""What a search has tried so far: a line each round, on disk before the next begins."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sciwm.planning.planners.planner import Round

FIELDS = ("plans", "merits", "lost")
"""Of every round."""


class PlanLedger:
    """The rounds of a search, in a file that is only ever added to.

    Args:
        path: The file; made where there is none.
        identity: What must be the same for a search to be gone on with.
        shape: (stages, size) of its plans.

    Attributes:
        rounds: So far.

    Raises:
        ValueError: If the file is of another search, or was spoiled.
    """

    def __init__(self, path: Path, identity: str, shape: tuple[int, int]):
        self._path = path
        self.rounds: list[Round] = []
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        # A kill may have left half a line, which is then no line.
        whole = [line for line in lines if line.endswith("\n")]
        contents = [self._content(line, number) for number, line in enumerate(whole, 1)]
        if contents and contents[0].get("identity") != identity:
            raise ValueError(
                f"{path} belongs to another plan: its job, a world or the start have changed. Give the same "
                "ones, or another --name"
            )
        for number, content in enumerate(contents[1:], 2):
            try:
                fields = {name: np.array(content[name], dtype=float) for name in FIELDS}
                if "gradients" in content:
                    fields["gradients"] = np.array(content["gradients"], dtype=float)
                one = Round(**fields)
                require_round(one, shape)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}, line {number}, is no round of this search; remove the file to search anew"
                ) from error
            self.rounds.append(one)
        if len(whole) < len(lines):
            path.write_text("".join(whole))
        if not contents:
            self._write({"identity": identity})

    def add(self, one: Round) -> None:
        """A round that was tried."""
        fields = {name: getattr(one, name).tolist() for name in FIELDS}
        self._write(
            fields if one.gradients is None else fields | {"gradients": one.gradients.tolist()}
        )
        self.rounds.append(one)

    def _content(self, line: str, number: int) -> dict[str, Any]:
        try:
            content = json.loads(line)
            assert isinstance(content, dict)
        except (ValueError, AssertionError) as error:
            raise ValueError(
                f"{self._path}, line {number}, cannot be read; remove the file to search anew"
            ) from error
        return content

    def _write(self, content: dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(content) + "\n")
            file.flush()
            os.fsync(file.fileno())


def require_round(one: Round, shape: tuple[int, int]) -> None:
    """Raises ValueError unless these are plans of a shape, from 0 to 1, with a merit each."""
    count = len(one.plans)
    whole = one.plans.shape == (count, *shape) and one.merits.shape == one.lost.shape == (count,)
    whole &= one.gradients is None or one.gradients.shape == one.plans.shape
    if not whole or not count or np.isnan(one.merits).any() or not (one.lost >= 0).all():
        raise ValueError(f"{one.plans.shape} plans with {one.merits.shape} merits are no round")
    if not ((one.plans >= 0) & (one.plans <= 1)).all():
        raise ValueError("numbers of plans are from 0 to 1")


class Unkept:
    """The rounds of a search that nobody goes on with later."""

    def __init__(self) -> None:
        self.rounds: list[Round] = []

    def add(self, one: Round) -> None:
        """A round that was tried."""
        self.rounds.append(one)


def best_so_far(rounds: Sequence[Round]) -> list[float]:
    """The merit of the best plan up to each round."""
    found: list[Round] = []
    for one in rounds:
        join = [*found[-1:], one]
        parts = {name: np.concatenate([getattr(r, name) for r in join]) for name in FIELDS}
        best = Round(**parts)
        row = best.order[:1]
        found.append(Round(best.plans[row], best.merits[row], best.lost[row]))
    return [one.best for one in found]

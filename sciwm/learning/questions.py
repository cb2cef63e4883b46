"""What the reference is to be asked: structures, each with why, in a file that is whole or not there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sciwm.core.frame import Array, Frame
from sciwm.core.replacement import replacing

Kind = Literal[
    "structure", "free atom", "shaken", "turned", "stretched", "fresh", "heated", "unsure"
]
"""Why something is asked: it is where all starts, the zero of energies, a first look about, a motion that
heat seldom shows, a measurement of the error, motion hotter than the goal's, or where the world stopped."""


@dataclass(frozen=True, eq=False)
class Question:
    """One structure to be labelled.

    Attributes:
        name: Unlike that of any other; it begins with the number of the round.
        kind: Why it is asked.
        reason: The same in words, as far as there is more to say.
        positions: (N, 3) of the atoms of the structure; of a free atom, (1, 3).
        number: Atomic number of a free atom; 0 for the structure.
    """

    name: str
    kind: Kind
    reason: str
    positions: Array
    number: int = 0

    def frame(self, structure: Frame) -> Frame:
        """What the reference is shown."""
        if self.number:
            return Frame(numbers=np.array([self.number]), positions=self.positions)
        return structure.with_(positions=self.positions)

    def content(self) -> dict[str, Any]:
        """For JSON, which keeps doubles exactly."""
        return vars(self) | {"positions": self.positions.tolist()}

    @staticmethod
    def of(content: dict[str, Any]) -> "Question":
        return Question(**content | {"positions": np.array(content["positions"], dtype=float)})


def write_questions(path: Path, questions: Sequence[Question]) -> None:
    """As JSON, all at once."""
    with replacing(path) as file:
        file.write(json.dumps([one.content() for one in questions]).encode())


def read_questions(path: Path) -> list[Question]:
    """Those that `write_questions` wrote."""
    return [Question.of(one) for one in json.loads(path.read_text())]

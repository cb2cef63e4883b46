"""All that a reference was asked and what it answered: a line each, on disk before the next is asked.

The file is only ever added to, and a line holds the label itself. So whatever else is lost can be made
again from it, and a kill can spoil but the last line, which is then no line.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sciwm.core.frame import Array, Frame
from sciwm.learning.questions import Question


class LearningLedgerError(ValueError):
    """A ledger that does not hold what was written."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of a question.

    Attributes:
        question: As it was asked.
        round: In which it was asked; later worlds were trained on it, that of the round was not.
        seconds: That the reference took.
        energy: eV; None where the reference failed.
        forces: (N, 3) eV/Å, likewise.
        failure: What the reference said; empty where it answered.
        force_error: Root mean square error of the components that the world of the round predicted, in
            eV/Å; None where there was no world, or no answer.
    """

    question: Question
    round: int
    seconds: float
    energy: float | None = None
    forces: Array | None = None
    failure: str = ""
    force_error: float | None = None

    @property
    def of_structure(self) -> bool:
        """Whether it is a label to learn."""
        return not self.failure and not self.question.number

    def frame(self, structure: Frame) -> Frame:
        """With its label."""
        return self.question.frame(structure).with_(energy=self.energy, forces=self.forces)

    def content(self) -> dict[str, Any]:
        """For JSON."""
        forces = None if self.forces is None else self.forces.tolist()
        return vars(self) | {"question": self.question.content(), "forces": forces}

    @staticmethod
    def of(content: dict[str, Any]) -> "Answer":
        forces = content["forces"]
        return Answer(
            **content
            | {
                "question": Question.of(content["question"]),
                "forces": None if forces is None else np.array(forces, dtype=float),
            }
        )


class LearningLedger:
    """The answers of a folder, in the order they were given.

    Args:
        path: The file; made when the first answer comes.

    Attributes:
        answers: By the names of their questions.

    Raises:
        LedgerError: If a line but the last cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self.answers: dict[str, Answer] = {}
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                answer = Answer.of(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise LearningLedgerError(
                    f"{path}, line {number}, cannot be read ({error}); restore a copy, or learn in "
                    "another folder"
                ) from error
            self.answers[answer.question.name] = answer
        if len(whole) < len(content):
            os.truncate(path, len(whole))  # what was being written when the process was killed

    def add(self, answer: Answer) -> None:
        """Writes an answer; it is on the disk when this returns."""
        with self.path.open("ab") as file:
            file.write(json.dumps(answer.content(), ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.answers[answer.question.name] = answer

    @property
    def seconds(self) -> float:
        """Of the reference."""
        return sum(answer.seconds for answer in self.answers.values())

    def labels(self, before: int) -> list[Answer]:
        """What a world of a round is trained on: every label asked in rounds before it."""
        return [one for one in self.answers.values() if one.of_structure and one.round < before]

    def fresh(self, round: int) -> list[Answer]:
        """What the error of the world of a round is measured on, failures included."""
        return [
            one
            for one in self.answers.values()
            if one.round == round and one.question.kind == "fresh"
        ]

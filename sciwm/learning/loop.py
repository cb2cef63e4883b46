"""Rounds of teaching: train, measure, ask, until the goal is met or the budget is spent."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sciwm.core.file_lock import sole_writer
from sciwm.core.frame import Frame
from sciwm.core.progress import Bar
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.data.collection import Collection, geometry_hash
from sciwm.evaluation.model_check import check_model
from sciwm.evaluation.run import model_file
from sciwm.learning.asking import ask, atom_energies, atom_questions
from sciwm.learning.exploration import first_questions, fresh_questions, new_questions
from sciwm.learning.goal import ErrorGoal
from sciwm.learning.history import LearningRound, round_of
from sciwm.learning.job import claim
from sciwm.learning.judging import FEWEST
from sciwm.learning.ledger import LearningLedger
from sciwm.learning.plan import LearningPlan
from sciwm.learning.questions import Question, read_questions, write_questions
from sciwm.learning.teaching import (
    divided,
    forget_round,
    new_force_field,
    train_world,
    write_labels,
)
from sciwm.models import archive
from sciwm.models.archive import Archive
from sciwm.models.dynamics.potential import Potential
from sciwm.simulation.simulator import Simulator

Ending = Literal["goal met", "budget spent", "nothing more to learn"]


class LearningError(RuntimeError):
    """Learning that cannot begin or go on."""


@dataclass(frozen=True)
class Learned:
    """How learning ended.

    Attributes:
        ending: Why.
        last: The last round; its world is the one that is kept.
        verdict: Of the checks of that world.
    """

    ending: Ending
    last: LearningRound
    verdict: str


def learn(
    structure: Frame,
    reference: Simulator,
    goal: ErrorGoal,
    folder: Path,
    plan: LearningPlan = LearningPlan(),  # noqa: B008, frozen
    start: str | None = None,
    tell: Callable[[LearningRound], None] | None = None,
) -> Learned:
    """Teaches a world the motion of a structure; the same call goes on where it was interrupted.

    The goal is met when the upper end of the error's interval on fresh frames is below it and no check
    fails.

    Args:
        start: A run folder or model file to start from, and not to forget.
        tell: Called with each round once it is measured.

    Raises:
        ValueError: If the reference is in reduced units, the encoder takes no such arguments, the world
            to start from does not know an element, or the folder is of another job.
        LearningError: If the reference cannot answer the structure itself, or too little to learn from.
        OSError: If another process learns in that folder.
    """
    if reference.units is not MOLECULAR:
        raise ValueError("the reference is in reduced units; learning is in Å, eV and K")
    new_force_field(plan, None)  # a mistake in it must show before anything is paid
    parent = None if start is None else model_file(start)
    if parent is not None:
        _require_known(archive.load(parent).potential, structure, str(start))
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder, "wait until it ends, or name another folder"):
        claim(folder, structure, reference, plan, parent)
        return _Learner(structure, reference, goal, folder, plan, parent).run(tell)


class _Learner:
    """One call of `learn`: its stages, each of which finds what an earlier call has done of it."""

    def __init__(
        self,
        structure: Frame,
        reference: Simulator,
        goal: ErrorGoal,
        folder: Path,
        plan: LearningPlan,
        parent: Path | None,
    ):
        self._structure, self._reference = structure, reference
        self._goal, self._folder, self._plan, self._parent = goal, folder, plan, parent
        self._ledger = LearningLedger(folder / "ledger.jsonl")

    def run(self, tell: Callable[[LearningRound], None] | None) -> Learned:
        number = self._last_round()
        if number == 0 and self._parent is None:
            self._begin()
            number = 1
        while True:
            source = self._world(number)
            world = source.potential
            self._measure(world, number)
            done = round_of(self._ledger, self._structure, number)
            if tell is not None:
                tell(done)
            met = self._small(done) and self._verdict(source, number) != "fail"
            ending: Ending | None = "goal met" if met else None
            if not met and self._to_spare() < 1:
                ending = "budget spent"
            if ending is None and not self._explored(world, number):
                ending = "nothing more to learn"
            if ending is not None:
                return Learned(ending, done, self._verdict(source, number))
            self._ask(self._explored(world, number), number, world)
            self._require_labels(number + 1)
            number += 1

    def _place(self, number: int) -> Path:
        return self._folder / "rounds" / f"{number:03d}"

    def _last_round(self) -> int:
        """The last one with a world; 0 before there is any."""
        worlds = (self._folder / "rounds").glob("*/world/model.pt")
        return max((int(path.parts[-3]) for path in worlds), default=0)

    def _begin(self) -> None:
        """Labels for a first world, where there is none to start from."""
        first = first_questions(self._structure, self._plan)
        self._ask(first[:1], 0, None)
        failure = self._ledger.answers[first[0].name].failure
        if failure:
            raise LearningError(
                f"the reference cannot answer for the structure itself: {failure}. Give it one that it "
                f"can, in another folder; {self._folder} keeps this failure"
            )
        self._ask([*atom_questions(self._structure), *first[1:]], 0, None)
        self._require_labels(1)

    def _require_labels(self, number: int) -> None:
        """Raises LearningError if a round has too few to train on."""
        labels = self._ledger.labels(number)
        learned, held = divided(labels)
        if len(learned) >= FEWEST and held:
            return
        failures = [one.failure for one in self._ledger.answers.values() if one.failure]
        raise LearningError(
            f"{len(labels)} labels are too few to learn from, after {len(self._ledger.answers)} calls of the "
            f"reference, of which {len(failures)} failed"
            + (f", the last so: {failures[-1]}" if failures else "; allow more")
        )

    def _world(self, number: int) -> Archive:
        """The trained world of a round, or the one to start from; also put where a user looks for it."""
        if number == 0:
            assert self._parent is not None
            source = archive.load(self._parent)
            source.check = {}  # which was of other matter
            return source
        folder = self._place(number)
        file = folder / "world" / "model.pt"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            before = self._place(number - 1) / "world" / "model.pt"
            train_world(
                folder,
                self._structure,
                self._ledger.labels(number),
                atom_energies(self._ledger, self._structure) if self._parent is None else None,
                before if before.is_file() else None,
                self._parent,
                number,
                self._plan,
            )
        forget_round(self._place(number - 1))
        source = archive.load(file)
        if self._structure.smiles:
            source.data["molecules"] = [self._structure.smiles]
        archive.save(source, self._folder / "model.pt")
        return source

    def _measure(self, world: Potential, number: int) -> None:
        """Asks fresh frames until all that are needed were asked, or the error is too large for certain."""
        for question in self._fresh(world, number):
            so_far = round_of(self._ledger, self._structure, number).measured
            large = so_far.frames >= FEWEST and so_far.low > self._goal.force_error
            if so_far.frames >= self._plan.fresh or large:
                return
            self._ask([question], number, world)

    def _small(self, done: LearningRound) -> bool:
        asked = len(self._ledger.fresh(done.number))
        exhausted = asked == len(read_questions(self._place(done.number) / "fresh.json"))
        return done.below(self._goal.force_error, self._plan.fresh, exhausted)

    def _verdict(self, source: Archive, number: int) -> str:
        """Of the checks, which are kept with the world."""
        labels = self._folder / "labels.h5md"
        known = self._ledger.labels(number + 1)
        if not source.check:
            write_labels(labels, [one.frame(self._structure) for one in known])
            source.check = check_model(
                source.potential, Collection([labels]), self._plan.temperature
            ).content()
            if number:
                archive.save(source, self._place(number) / "world" / "model.pt")
        archive.save(source, self._folder / "model.pt")
        return str(source.check["verdict"])

    def _fresh(self, world: Potential, number: int) -> list[Question]:
        return self._drawn(
            self._place(number) / "fresh.json",
            lambda: fresh_questions(world, self._structure, self._plan, number),
        )

    def _explored(self, world: Potential, number: int) -> list[Question]:
        def draw() -> list[Question]:
            labels = self._ledger.labels(number + 1)
            known = [one.frame(self._structure) for one in labels]
            count = min(self._plan.questions(len(labels)), self._to_spare())
            return new_questions(world, self._structure, known, self._plan, number, count)

        return self._drawn(self._place(number) / "explored.json", draw)

    def _drawn(self, path: Path, draw: Callable[[], list[Question]]) -> list[Question]:
        """Questions, drawn once and kept, so that they are the same after an interruption.

        Only of structures that were never asked, each once.
        """
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            seen = {self._key(one.question) for one in self._ledger.answers.values()}
            kept: list[Question] = []
            for question in draw():
                key = self._key(question)
                if key not in seen:
                    seen.add(key)
                    kept.append(question)
            write_questions(path, kept)
        return read_questions(path)

    def _key(self, question: Question) -> bytes:
        return geometry_hash(question.frame(self._structure))

    def _ask(self, questions: Sequence[Question], number: int, world: Potential | None) -> None:
        """Asks what was not asked before, as far as the budget goes."""
        answers = self._ledger.answers
        left = [question for question in questions if question.name not in answers]
        bar = Bar(
            total=self._plan.calls, initial=len(answers), desc="asking", unit="call", delay=2.0
        )
        try:
            for question in left:
                if self._calls_left() < 1:
                    return
                self._ledger.add(ask(self._reference, question, self._structure, number, world))
                bar.update()
        finally:
            bar.close()

    def _calls_left(self) -> int:
        """As many as are allowed, and as the time that is left is worth."""
        calls, seconds = len(self._ledger.answers), self._ledger.seconds
        left = float(self._plan.calls - calls)
        if math.isfinite(self._plan.seconds) and seconds > 0:
            left = min(left, (self._plan.seconds - seconds) / (seconds / calls))
        return max(math.floor(left), 0)

    def _to_spare(self) -> int:
        """Calls beside those that measure the next world: a world nobody measured is worth nothing."""
        return self._calls_left() - self._plan.fresh


def _require_known(world: Potential, structure: Frame, start: str) -> None:
    try:
        world.domain.require_species(State.from_frame(structure).numbers)
    except ValueError as error:
        raise ValueError(f"{start} cannot be started from: {error}") from error

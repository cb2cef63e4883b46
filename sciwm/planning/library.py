"""Plans that proved themselves: kept with what they did, tried first where something alike is wanted, dropped
when they fail.

What Voyager keeps as code (Wang et al., arXiv:2305.16291, section 2.2) is here a plan, and what admits it are
runs of the true simulator.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sciwm.core.file_lock import sole_writer
from sciwm.core.frame import Array
from sciwm.core.replacement import replacing
from sciwm.planning.motions import MotionStore
from sciwm.planning.problem import Problem
from sciwm.planning.trial import Trial
from sciwm.simulation.actions.action import Change, hints_of, kind_of
from sciwm.simulation.actions.list_file import ACTIONS

MOST = 8
"""Protocols that are tried first, at most."""


@dataclasses.dataclass(frozen=True, eq=False)
class Protocol:
    """A plan and what is known of it.

    Attributes:
        meaning: Of its numbers, as `meaning_of` tells it.
        plan: (stages, size).
        time: Of the whole plan, in the units of its world.
        temperature: At its start; None where energy is conserved.
        objective: It was found for.
        measured: Mean return in the true simulator, larger is better.
        worked: Digests of the runs in which it did in the true simulator what was predicted.
        failed: Of those in which it did not.
    """

    meaning: str
    plan: Array
    time: float
    temperature: float | None
    objective: str
    measured: float
    worked: list[str]
    failed: list[str]

    def content(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self) | {"plan": self.plan.tolist()}


class ProtocolLibrary:
    """Protocols in a file, which other processes may use as well.

    Args:
        path: The file; made when the first protocol is kept.

    Attributes:
        protocols: All that are in it.
        motions: True motions, in a folder beside it.

    Raises:
        ValueError: If it is no such file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.motions = MotionStore(path.with_name(f"{path.stem}_motions"))
        self.protocols: list[Protocol] = []
        self._read()

    def related(self, problem: Problem) -> list[Protocol]:
        """Those that choose the same in a system of the same particles, the most alike first.

        What is always done may differ in its quantities, and not in what it is done to.

        Alike is first what the same objective was for, then what took as long, then what did best.
        """
        form, time = _form(meaning_of(problem)), problem.stage * problem.controls.stages
        fitting = [one for one in self.protocols if _form(one.meaning) == form]
        fitting.sort(
            key=lambda one: (
                one.objective != str(problem.objective),
                abs(np.log(one.time / time)),
                -one.measured,
            )
        )
        return fitting[:MOST]

    def related_plans(self, problem: Problem) -> Array | None:
        """(K, stages, size) the plans of those; None where there is none."""
        stages, size = problem.controls.shape
        fitting = [one.plan for one in self.related(problem) if one.plan.shape[1] == size]
        found = [stretched(plan, stages) for plan in fitting]
        return np.stack(found) if found else None

    def keep(self, problem: Problem, trial: Trial) -> bool:
        """Keeps a plan that did in the true simulator what was predicted, and better than luck.

        That is: no run failed, the mean is above the lower end of the prediction, and by more than a
        standard error above what random plans were imagined to earn. Runs that were counted before are
        counted no more.

        Returns:
            Whether it did.
        """
        runs = trial.realised.scores[0]
        error = float(runs.std(ddof=1)) / len(runs) ** 0.5 if len(runs) > 1 else 0.0
        luck = np.nan_to_num(trial.found.luck, nan=-np.inf)
        worked = (
            trial.loophole is None
            and bool(np.isfinite(runs).all())
            and runs.mean() >= trial.found.interval[0]
            and runs.mean() - error > luck
        )
        if not worked:
            return False
        kept = Protocol(
            meaning_of(problem),
            trial.found.plan,
            problem.stage * problem.controls.stages,
            problem.temperature,
            str(problem.objective),
            float(runs.mean()),
            [_digest(trial)],
            [],
        )
        with self._changing():
            alike = [one for one in self.protocols if _same(one, kept)]
            self.protocols = [one for one in self.protocols if one not in alike]
            worked_in = sorted({*kept.worked, *(run for one in alike for run in one.worked)})
            failed_in = sorted({run for one in alike for run in one.failed})
            self.protocols.append(dataclasses.replace(kept, worked=worked_in, failed=failed_in))
        return True

    def fail(self, problem: Problem, trial: Trial) -> None:
        """A plan of these did not do what it had done; it is dropped once it fails more often than not."""
        plan, meaning = trial.found.plan, meaning_of(problem)
        with self._changing():
            changed = [
                dataclasses.replace(one, failed=sorted({*one.failed, _digest(trial)}))
                if one.meaning == meaning and np.array_equal(stretched(one.plan, len(plan)), plan)
                else one
                for one in self.protocols
            ]
            self.protocols = [one for one in changed if len(one.failed) <= len(one.worked)]

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """While it lasts nobody else changes the file; then it is written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with sole_writer(self.path, "give the same command again when it has ended"):
            self._read()
            yield
            self._write()

    def _read(self) -> None:
        try:
            rows = json.loads(self.path.read_text()) if self.path.exists() else []
            self.protocols = [
                Protocol(**row | {"plan": np.array(row["plan"], dtype=float)}) for row in rows
            ]
            for one in self.protocols:
                if not (one.plan.ndim == 2 and one.plan.size and one.time > 0):
                    raise ValueError("a plan has stages and numbers, and takes some time")
                if not ((one.plan >= 0) & (one.plan <= 1)).all():
                    raise ValueError("numbers of plans are from 0 to 1")
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{self.path} is no library of protocols that can be read: {error}; move it away, or name "
                "another file"
            ) from error

    def _write(self) -> None:
        with replacing(self.path) as file:
            content = [one.content() for one in self.protocols]
            file.write(json.dumps(content, indent=1, ensure_ascii=False).encode())


def meaning_of(problem: Problem) -> str:
    """What the numbers of a plan mean, as text that is equal where they mean the same."""
    content = problem.controls.written(), [one.written() for one in problem.always]
    return json.dumps([*content, problem.start.numbers.tolist()], ensure_ascii=False)


def _form(meaning: str) -> Any:
    """The same without the quantities of what is always done: in a trap that is a little stiffer, a plan may
    still do."""
    controls, always, numbers = json.loads(meaning)
    return controls, [_blank(one) for one in always], numbers


def _blank(written: Any) -> Any:
    """An action, as it is written down, without quantities; a change of particles as it is."""
    if not isinstance(written, dict):
        return written  # as versions before wrote it
    ((name, fields),) = written.items()
    kind = ACTIONS.get(name)
    if kind is None or issubclass(kind, Change):
        return written
    hints = hints_of(kind)
    kept = {key: value for key, value in fields.items() if kind_of(hints[key]) is None}
    if "actions" in kept:
        kept["actions"] = [_blank(one) for one in kept["actions"]]
    return {name: kept}


def stretched(plan: Array, stages: int) -> Array:
    """The same plan in another number of stages."""
    rows = (np.arange(stages) + 0.5) * len(plan) / stages
    return np.asarray(plan[rows.astype(int)])


def _digest(trial: Trial) -> str:
    """Tells runs of the true simulator from all others."""
    realised = trial.realised.scores[0], *trial.realised.paths.values()
    content = b"".join(np.ascontiguousarray(one).tobytes() for one in realised)
    return hashlib.sha256(content).hexdigest()[:16]


def _same(first: Protocol, second: Protocol) -> bool:
    return np.array_equal(first.plan, second.plan) and all(
        getattr(first, name) == getattr(second, name) for name in ("meaning", "objective")
    )

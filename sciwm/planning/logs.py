"""Worlds from motions that somebody recorded while something was done to the system, of which few tell what.

What was done is found from the forces: those that a world cannot account for came from outside. B. Baker
et al. (arXiv:2206.11795) label what players of a game did so, by a network that a few labelled films taught.
Here the law of an action is known, and only its numbers are not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sciwm.core.frame import Array, Frame
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.models.dynamics.potential import Potential
from sciwm.planning.controls import Knobs
from sciwm.planning.practice import Schedule, worlds_from
from sciwm.planning.problem import Problem
from sciwm.simulation.actions import outer_forces
from sciwm.simulation.simulator import Simulator

SAME = 1e-6
"""Of a stage: frames so near its ends are of no use, since what was done changed there."""

UNTOLD = 1e-9
"""Of the strongest effect that a number has on forces, the least that still tells it."""


@dataclass(frozen=True, eq=False)
class Log:
    """A motion that was recorded while something was done.

    Attributes:
        path: H5MD with one trajectory. Its forces are all that act, from within and from outside; its
            energies are of the system alone, as most programs have them by default.
        plan: (stages, size) what was done, from 0 to 1 (see `Controls`); None where nobody wrote it down.
    """

    path: Path
    plan: Array | None = None


def worlds_from_logs(
    problem: Problem,
    logs: Sequence[Log],
    untrained: Callable[[], Potential],
    folder: Path,
    seed: int,
    schedule: Schedule,
) -> tuple[list[Simulator], list[Array]]:
    """Worlds that learned from all logs, and (stages, size) what was done in each.

    Those that tell what was done teach the first worlds, which find out about the others.

    Args:
        problem: Of which the controls and what is always done account for forces from outside.
        untrained: A new model of a world.
        folder: For what is learned; made anew.
        schedule: Its members and steps of training are used.

    Raises:
        ValueError: If fewer than two logs tell what was done, one cannot be read so, or the folder holds
            something already.
    """
    told = [one for one in logs if one.plan is not None]
    if len(told) < 2:
        raise ValueError(
            f"{len(told)} of {len(logs)} logs tell what was done; two at least are needed, to learn from and "
            "to validate on"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"{folder} holds something already; name a new folder")

    def learned(known: Sequence[tuple[Log, Array]], place: Path) -> list[Simulator]:
        place.mkdir()
        motions = []
        for number, (log, plan) in enumerate(known):
            motions.append(place / f"within{number}.h5md")
            Recorded.read(problem, log).write_inner(problem, plan, motions[-1])
        return list(worlds_from(motions, untrained, place / "worlds", seed, schedule))

    sure = [(one, one.plan) for one in told if one.plan is not None]
    worlds = learned(sure, folder / "told")
    plans = [inferred_plan(problem, one, worlds) if one.plan is None else one.plan for one in logs]
    if len(told) < len(logs):
        worlds = learned(list(zip(logs, plans, strict=True)), folder / "all")
    return worlds, plans


def inferred_plan(problem: Problem, log: Log, worlds: Sequence[Simulator]) -> Array:
    """(stages, size) what was done in a motion, by the forces that the mean of some worlds does not explain.

    Each stage is a problem of least squares, in which forces count less where worlds disagree, and those
    that fit ill count little (Cauchy's loss): where particles come closer than any that a world has seen,
    its forces may be off by any amount, and those on the others are still right.

    Raises:
        ValueError: If the controls are no `Knobs`, the motion has no frame within some stage, or its forces
            do not tell some number.
    """
    controls = problem.controls
    if not isinstance(controls, Knobs):
        raise ValueError("what was chosen from a menu cannot be found from forces; write it down")
    motion = Recorded.read(problem, log)
    state = State.collate([State.from_frame(one, torch.float64) for one in motion.frames])
    within = np.stack([one.evaluate(state).forces.detach().cpu().numpy() for one in worlds])
    within = within.reshape(len(worlds), *motion.forces.shape)
    outside = motion.forces - within.mean(axis=0)
    trust = _trust(within)
    plan = np.full(controls.shape, 0.5)
    for stage in range(controls.stages):
        rows = np.flatnonzero(motion.stages == stage)
        if not len(rows):
            raise ValueError(f"{log.path} has no frame within stage {stage}, counted from 0")
        found = _numbers(problem, motion.part(rows), outside[rows], trust[rows], plan, stage)
        if found is None:
            names = ", ".join(one.name for one in controls.ranges)
            raise ValueError(
                f"the forces of {log.path} do not tell all that was done in stage {stage}: something of "
                f"{names} is without effect on them; leave this log out, or write down what was done"
            )
        plan[stage] = found
    return plan


def _numbers(
    problem: Problem, motion: "Recorded", outside: Array, trust: Array, plan: Array, stage: int
) -> Array | None:
    """(size,) what was done in a stage; None where forces do not tell.

    Args:
        motion: Within that stage.
        outside: (F, N, 3) forces to account for.
        trust: (F, N, 3) how much each counts.
        plan: Of which this stage is to be found.
    """
    from scipy.optimize import least_squares

    def missing(numbers: Array) -> Array:
        tried = plan.copy()
        tried[stage] = numbers
        return np.ravel(trust * (motion.acting(problem, tried) - outside))

    found = least_squares(missing, plan[stage], bounds=(0.0, 1.0), loss="cauchy")
    effects = np.linalg.svd(found.jac, compute_uv=False)
    told = effects.min() > UNTOLD * effects.max()
    return np.asarray(found.x) if told else None


def _trust(within: Array) -> Array:
    """(F, N, 3) how much each force counts: one over the spread between W worlds and its usual size.

    Args:
        within: (W, F, N, 3) what the worlds tell.
    """
    if len(within) == 1:
        return np.ones_like(within[0])
    spread = within.std(axis=0, ddof=1)
    return np.asarray(1.0 / (spread + np.median(spread[spread > 0])))


@dataclass(frozen=True, eq=False)
class Recorded:
    """The frames of a motion that are within stages, and not where one gives way to the next.

    Attributes:
        forces: (F, N, 3) all that act.
        times: (F,) from the start of the plan.
        stages: (F,) from 0.
        units: Of all of it.
    """

    frames: list[Frame]
    forces: Array
    times: Array
    stages: NDArray[np.int64]
    units: UnitSystem

    @classmethod
    def read(cls, problem: Problem, log: Log) -> "Recorded":
        """What a log holds, from its first frame on.

        Raises:
            ValueError: If it has no frame within a stage, more than one trajectory, or no forces or times.
        """
        with H5MDFile(log.path) as file:
            if len(file.trajectories) != 1:
                raise ValueError(
                    f"{log.path} holds {len(file.trajectories)} trajectories; give each a log of its own"
                )
            trajectory, units = file.trajectories[0], file.units
            frames = [trajectory.frame(k) for k in range(trajectory.n_frames)]
        forces = [one.forces for one in frames if one.forces is not None]
        times = [one.time for one in frames if one.time is not None]
        if not len(forces) == len(times) == len(frames):
            raise ValueError(
                f"{log.path} lacks forces or times, which what was done is found from; record both"
            )
        since = np.array(times) - times[0]
        share = since / problem.stage
        at_end = np.abs(share - np.round(share)) < SAME
        within = np.flatnonzero(~at_end & (share < problem.controls.stages))
        if not len(within):
            raise ValueError(
                f"{log.path} has no frame within a stage of {problem.stage:g} {units.time}; it is another "
                "problem, or frames were kept too rarely"
            )
        stages = np.floor(share).astype(np.int64)
        return cls(frames, np.stack(forces), since, stages, units).part(within)

    def part(self, rows: NDArray[np.int64]) -> "Recorded":
        """Some of the frames."""
        frames = [self.frames[k] for k in rows]
        return Recorded(frames, self.forces[rows], self.times[rows], self.stages[rows], self.units)

    def acting(self, problem: Problem, plan: Array) -> Array:
        """(F, N, 3) forces from outside under a plan."""
        state = State.collate([State.from_frame(one, torch.float64) for one in self.frames])
        plans = torch.as_tensor(plan, dtype=torch.float64).expand(len(self.frames), *plan.shape)
        done = [*problem.always, *problem.controls.actions(plans, problem.stage)]
        windows = [window for one in done for window in one.resolved(self.units).windows()]
        times = torch.as_tensor(self.times)
        found = outer_forces(windows, state, times, times)
        return (
            np.zeros_like(self.forces)
            if found is None
            else found.numpy().reshape(self.forces.shape)
        )

    def write_inner(self, problem: Problem, plan: Array, path: Path) -> None:
        """A file of the frames with forces from within the system alone, as worlds learn them."""
        inner = self.forces - self.acting(problem, plan)
        with H5MDWriter(path, units=self.units) as file:
            for frame, forces in zip(self.frames, inner, strict=True):
                file.append(frame.with_(forces=forces, stress=None), group="motion")

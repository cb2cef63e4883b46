"""Motions that somebody recorded while something was done, as frames of the stages of a plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sciwm.core.frame import Array, Frame
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.planning.problem import Problem
from sciwm.simulation.actions import Action, Force, outer_forces

SAME = 1e-3
"""Of a stage: frames so near its ends are of no use, since what was done changed there, and many programs
write times to six digits."""


@dataclass(frozen=True, eq=False)
class Log:
    """A motion that was recorded while something was done.

    Attributes:
        path: H5MD with one trajectory. Its forces are all that act, from within and from outside; its
            energies are of the system alone, as most programs have them by default.
        plan: (stages, size) what was done, from 0 to 1 (see `Controls`); None where nobody wrote it down.
        begin: The time in the file at which the plan begins.
    """

    path: Path
    plan: Array | None = None
    begin: float = 0.0


@dataclass(frozen=True, eq=False)
class Recorded:
    """The frames of a motion that are within stages, and not where one gives way to the next.

    Attributes:
        state: Of all frames, each a system.
        forces: (F, N, 3) all that act.
        times: (F,) from the start of the plan.
        stages: (F,) from 0.
        units: Of all of it.
    """

    frames: list[Frame]
    state: State
    forces: Array
    times: Array
    stages: NDArray[np.int64]
    units: UnitSystem

    @classmethod
    def read(cls, problem: Problem, log: Log) -> "Recorded":
        """What a log holds.

        Raises:
            ValueError: If it is of another system or in other units, what was done cannot be done to it, it
                has more than one trajectory, no forces, no times or none that ascend, or no frame within a
                stage; or if its plan is none.
            OSError: If it is not there.
        """
        with H5MDFile(log.path) as file:
            if len(file.trajectories) != 1:
                raise ValueError(
                    f"{log.path} holds {len(file.trajectories)} trajectories; give each a log of its own"
                )
            trajectory, units = file.trajectories[0], file.units
            frames = [trajectory.frame(k) for k in range(trajectory.n_frames)]
        if units != problem.controls.units:
            raise ValueError(
                f"{log.path} is in {units.name} units, and what was done in {problem.controls.units.name}"
            )
        if problem.changes_particles:
            raise ValueError(
                "logs are of the same particles from beginning to end; leave changes out"
            )
        frames = [_as_in(problem, one, log.path) for one in frames]
        forces = [one.forces for one in frames if one.forces is not None]
        times = [one.time for one in frames if one.time is not None]
        if not len(forces) == len(times) == len(frames):
            raise ValueError(
                f"{log.path} lacks forces or times, which what was done is found from; record both"
            )
        _require_continuous(frames, log.path)
        since, acting = np.array(times) - log.begin, np.stack(forces)
        if not np.isfinite(acting).all() or not (np.diff(since) > 0).all():
            raise ValueError(
                f"{log.path} has forces that are no numbers, or times that do not ascend"
            )
        share = since / problem.stage
        at_end = np.abs(share - np.round(share)) < SAME
        within = np.flatnonzero(~at_end & (share > 0) & (share < problem.controls.stages))
        if not len(within):
            raise ValueError(
                f"{log.path} has no frame within a stage of {problem.stage:g} {units.time}; it is another "
                "problem, or frames were kept too rarely"
            )
        frames = [frames[k] for k in within]
        stages = np.floor(share[within]).astype(np.int64)
        found = cls(frames, _collated(frames), acting[within], since[within], stages, units)
        if log.plan is not None:
            _require_plan(problem, log.plan, log.path)
        found.require_fitting(problem)
        return found

    def part(self, rows: NDArray[np.int64]) -> "Recorded":
        """Some of the frames."""
        frames = [self.frames[k] for k in rows]
        numbers = self.forces[rows], self.times[rows], self.stages[rows]
        return Recorded(frames, _collated(frames), *numbers, self.units)

    def acting(self, problem: Problem, plan: Array) -> Array:
        """(F, N, 3) forces from outside under a plan."""
        windows = [window for one in self._done(problem, plan) for window in one.windows()]
        forces = [one for one in windows if isinstance(one.action, Force)]
        times = torch.as_tensor(self.times)
        found = outer_forces(forces, self.state, times, times)
        if found is None:
            return np.zeros_like(self.forces)
        return found.numpy().reshape(self.forces.shape)

    def require_fitting(self, problem: Problem) -> None:
        """Raises ValueError if something cannot be done to these particles."""
        for one in self._done(problem, np.full(problem.controls.shape, 0.5)):
            one.require_fitting(self.state)

    def _done(self, problem: Problem, plan: Array) -> list[Action]:
        """What is done in the stages that there are frames of."""
        plans = torch.as_tensor(plan, dtype=torch.float64).expand(len(self.frames), *plan.shape)
        done = list(problem.always)
        for stage in np.unique(self.stages).tolist():
            done += problem.controls.stage_actions(plans[:, stage], stage, problem.stage)
        return [one.resolved(self.units) for one in done]

    def write_inner(self, problem: Problem, plan: Array, path: Path) -> None:
        """A file of the frames with forces from within the system alone, as worlds learn them.

        Stages of which nobody knows what was done are left out.
        """
        known = np.asarray(np.isfinite(plan).all(axis=1))
        told = self.part(np.flatnonzero(known[self.stages]))
        inner = told.forces - told.acting(problem, plan)
        with H5MDWriter(path, units=self.units) as file:
            for frame, forces in zip(told.frames, inner, strict=True):
                file.append(frame.with_(forces=forces, stress=None), group="motion")


def _collated(frames: Sequence[Frame]) -> State:
    return State.collate([State.from_frame(one, torch.float64) for one in frames])


def _as_in(problem: Problem, frame: Frame, path: Path) -> Frame:
    """A frame as a motion of the problem has it: on the continuous path, with charges and masses."""
    start = problem.start
    if not np.array_equal(frame.numbers, start.numbers.numpy()):
        raise ValueError(
            f"{path} holds particles {frame.numbers.tolist()}, and the problem {start.numbers.tolist()}, in "
            "this order"
        )
    return frame.with_(
        positions=frame.unwrapped(),
        images=None,
        charges=start.charges.double().numpy() if frame.charges is None else frame.charges,
        masses=start.masses.double().numpy() if frame.masses is None else frame.masses,
        dimension=int(start.dimension[0]),
    )


def _require_continuous(frames: Sequence[Frame], path: Path) -> None:
    """Raises ValueError if a particle jumps by half a cell: it was put back, and images are not told."""
    for before, after in pairwise(frames):
        repeats = before.pbc & after.cell.any(axis=1)
        if not repeats.any():
            continue
        moved = (after.positions - before.positions) @ np.linalg.pinv(after.cell)
        if (np.abs(moved[:, repeats]) > 0.5).any():
            raise ValueError(
                f"particles of {path} jump by half a cell at time {after.time:g}; record where they went "
                "(images), or continuous positions"
            )


def _require_plan(problem: Problem, plan: Array, path: Path) -> None:
    given = np.asarray(plan, dtype=float)
    if given.shape != problem.controls.shape:
        raise ValueError(
            f"the plan of {path} is of shape {given.shape}, and what is chosen of {problem.controls.shape}"
        )
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"the plan of {path} has numbers that are not from 0 to 1")

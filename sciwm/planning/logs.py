"""Worlds from motions that somebody recorded while something was done to the system, of which few tell what.

What was done is found from the forces: those that a world cannot account for came from outside. B. Baker
et al. (arXiv:2206.11795) label what players of a game did so, by a network that a few labelled films taught.
Here the law of an action is known, and only its numbers are not.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sciwm.core.frame import Array
from sciwm.models.dynamics.potential import Potential
from sciwm.planning.controls import Knobs
from sciwm.planning.practice import Schedule, worlds_from
from sciwm.planning.problem import Problem
from sciwm.planning.recording import Log, Recorded
from sciwm.simulation.simulator import Simulator

UNTOLD = 1e-6
"""Of the strongest effect that numbers together have on forces, the least that still tells them."""

UNEXPLAINED = 0.25
"""Of what forces change by over the whole range of a number, the most that may be left over."""

FELT = 0.1
"""Of what the force that feels a number most changes by, the least that is looked at."""

STARTS = 8
"""Of the search for numbers: the middle of their ranges, and others at random."""

LOOKS = np.linspace(0.0, 1.0, 5)
"""Where the effect of a number is looked at."""


class UntoldError(ValueError):
    """Forces that do not tell what was done."""


def worlds_from_logs(
    problem: Problem,
    logs: Sequence[Log],
    untrained: Callable[[], Potential],
    folder: Path,
    seed: int,
    schedule: Schedule,
) -> tuple[list[Simulator], list[Array]]:
    """Worlds that learned from all logs, and (stages, size) what was done in each.

    Those that tell what was done teach the first worlds, which find out about the others. Stages that they
    cannot tell of teach nothing, a warning says how many these are, and what was done there is no number.

    Args:
        problem: Of which the controls and what is always done account for forces from outside.
        untrained: A new model of a world.
        folder: For what is learned; made anew.
        schedule: Its members and steps of training are used.

    Raises:
        ValueError: If fewer than two logs tell what was done, one cannot be read so, or the folder holds
            something already.
        OSError: If a log is not there.
    """
    motions = [Recorded.read(problem, one) for one in logs]
    sure = [k for k, one in enumerate(logs) if one.plan is not None]
    if len(sure) < 2:
        raise ValueError(
            f"{len(sure)} of {len(logs)} logs tell what was done; two at least are needed, to learn from and "
            "to validate on"
        )
    if len(sure) < len(logs):
        _require_knobs(problem)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"{folder} holds something already; name a new folder")

    def learned(some: Sequence[int], place: Path) -> list[Simulator]:
        place.mkdir()
        paths = [place / f"within{k}.h5md" for k in some]
        for k, path in zip(some, paths, strict=True):
            motions[k].write_inner(problem, plans[k], path)
        # None of these frames is the start that motions share.
        return list(worlds_from(paths, untrained, place / "worlds", seed, schedule, skipped=0))

    plans = {k: one.plan for k, one in enumerate(logs) if one.plan is not None}
    worlds = learned(sure, folder / "told")
    for k in range(len(logs)):
        if k not in plans:
            # Where something had no effect, it does not matter what it was.
            plans[k] = _inferred(problem, motions[k], str(logs[k].path), worlds, strictly=False)
    told = np.array([np.isfinite(plans[k]).all(axis=1) for k in range(len(logs))])
    if not told.all():
        warnings.warn(
            f"what was done in {int((~told).sum())} of {told.size} stages cannot be told from their forces; "
            "they are left out",
            stacklevel=2,
        )
    if len(sure) < len(logs):
        worlds = learned(np.flatnonzero(told.any(axis=1)).tolist(), folder / "all")
    return worlds, [plans[k] for k in range(len(logs))]


def inferred_plan(problem: Problem, log: Log, worlds: Sequence[Simulator]) -> Array:
    """(stages, size) what was done in a motion, by the forces that the mean of some worlds does not explain.

    Each stage is a problem of least squares, in which forces count less where worlds disagree, and those
    that fit ill count little (Cauchy's loss): where particles come closer than any that a world has seen,
    its forces may be off by any amount, and those on the others are still right. It finds how strong
    something was, and is less sure of when it began or how fast it oscillated.

    Args:
        worlds: One or more, in the units of the problem.

    Raises:
        ValueError: If the controls are no `Knobs`, or the log cannot be read so.
        UntoldError: If it has no frame within some stage, or its forces do not tell what was done.
    """
    motion = Recorded.read(problem, log)
    return _inferred(problem, motion, str(log.path), worlds, strictly=True)


def _inferred(
    problem: Problem,
    motion: Recorded,
    name: str,
    worlds: Sequence[Simulator],
    strictly: bool,
) -> Array:
    """See `inferred_plan`.

    Args:
        name: Of the log.
        strictly: Whether it is an error that a stage cannot be told of, or that something had no effect.
    """
    controls = _require_knobs(problem)
    for one in worlds:
        if one.units != controls.units:
            raise ValueError(
                f"a world is in {one.units.name} units, and what was done in {controls.units.name}"
            )
    if not worlds:
        raise ValueError("forces from within are told by worlds, and there is none")
    within = np.stack([one.evaluate(motion.state).forces.detach().cpu().numpy() for one in worlds])
    within = within.reshape(len(worlds), *motion.forces.shape)
    outside, trust = motion.forces - within.mean(axis=0), _trust(within)
    plan = np.full(controls.shape, 0.5)
    for stage in range(controls.stages):
        rows = np.flatnonzero(motion.stages == stage)
        try:
            if not len(rows):
                raise UntoldError("there is no frame within it")
            fit = _Fit(problem, motion.part(rows), outside[rows], trust[rows], plan, stage)
            plan[stage] = fit.numbers(strictly)
        except UntoldError as error:
            if strictly:
                raise UntoldError(
                    f"{name} does not tell what was done in stage {stage}, counted from 0: {error}; leave "
                    "this log out, or write down what was done"
                ) from error
            plan[stage] = np.nan
    return plan


def _require_knobs(problem: Problem) -> Knobs:
    if not isinstance(problem.controls, Knobs):
        raise ValueError("what was chosen from a menu cannot be found from forces; write it down")
    return problem.controls


def _trust(within: Array) -> Array:
    """(F, N, 3) how much each force counts: one over the spread between W worlds and its usual size.

    Args:
        within: (W, F, N, 3) what the worlds tell.
    """
    spread = within.std(axis=0)
    if not spread.any():
        return np.ones_like(spread)
    return np.asarray(1.0 / (spread + np.median(spread[spread > 0])))


class _Fit:
    """What was done in a stage, by least squares.

    Args:
        motion: Within that stage.
        outside: (F, N, 3) forces to account for.
        trust: (F, N, 3) how much each counts.
        plan: Of which this stage is to be found.
    """

    def __init__(
        self,
        problem: Problem,
        motion: Recorded,
        outside: Array,
        trust: Array,
        plan: Array,
        stage: int,
    ):
        self._problem, self._motion, self._plan, self._stage = problem, motion, plan.copy(), stage
        self._outside, self._trust = outside, trust

    def numbers(self, strictly: bool) -> Array:
        """(size,) of this stage.

        Args:
            strictly: Whether it is an error that something was without effect.

        Raises:
            UntoldError: If forces do not tell them.
        """
        starts = np.random.default_rng(0).random((STARTS, self._plan.shape[1]))
        starts[0] = 0.5
        best, least = starts[0], np.inf
        for found in (one for start in starts for one in self._near(start)):
            # The median does not mind what becomes of forces that are far off.
            left = self._left(found)
            if left < least:
                best, least = found, left
            if least < UNEXPLAINED / 10:
                break
        names = ", ".join(one.name for one in _require_knobs(self._problem).ranges)
        if least > UNEXPLAINED:
            raise UntoldError(f"no {names} in these ranges explain its forces")
        if strictly and not self._determines(best):
            raise UntoldError(f"something of {names} is without effect on it, or two have the same")
        return best

    def _near(self, start: Array) -> Iterator[Array]:
        """(size,) numbers that fit well, from some on: by Cauchy's loss, and by it after squares."""
        from scipy.optimize import least_squares

        def fitted(begin: Array, loss: str, scale: float) -> Array:
            bounds = (0.0, 1.0)
            return np.asarray(
                least_squares(self.missing, begin, bounds=bounds, loss=loss, f_scale=scale).x
            )

        # Below a billionth of what there is to explain there are rounding errors only.
        least = 1e-9 * (np.abs(self._trust * self._outside).max() or 1.0)
        for squares in (False, True):
            found = fitted(start, "linear", 1.0) if squares else start
            for _ in range(3):
                # What is left over of most of the forces says how much of the others is too much.
                usual = float(np.median(np.abs(self.missing(found))))
                found = fitted(found, "cauchy", max(usual, least))
            yield found

    def missing(self, numbers: Array) -> Array:
        """(3 F N,) what they leave to be explained, as far as it counts."""
        self._plan[self._stage] = numbers
        return np.ravel(
            self._trust * (self._motion.acting(self._problem, self._plan) - self._outside)
        )

    def _determines(self, numbers: Array) -> bool:
        """Whether each number has an effect of its own, near these."""
        shift, columns = 1e-4, []
        for k in range(len(numbers)):
            low, high = numbers.copy(), numbers.copy()
            low[k], high[k] = max(0.0, numbers[k] - shift), min(1.0, numbers[k] + shift)
            columns.append((self.missing(high) - self.missing(low)) / (high[k] - low[k]))
        effects = np.linalg.svd(np.stack(columns, axis=1), compute_uv=False)
        return len(effects) == len(numbers) and bool(effects.min() > UNTOLD * effects.max())

    def _left(self, numbers: Array) -> float:
        """What they leave to be explained as a share of what a number can change forces by; medians over the
        forces that feel it, and the largest share of all numbers."""
        left, shares = np.abs(self.missing(numbers)), [0.0]
        for k in range(len(numbers)):
            tried = np.repeat(numbers[None], len(LOOKS), axis=0)
            tried[:, k] = LOOKS
            change = np.ptp([self.missing(one) for one in tried], axis=0)
            felt = change > FELT * change.max()
            if felt.any():
                shares.append(float(np.median(left[felt]) / np.median(change[felt])))
        return max(shares)

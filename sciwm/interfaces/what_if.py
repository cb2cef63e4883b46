"""Counterfactuals: what would have been different, and for how long that can be said."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

import numpy as np

from sciwm.core.frame import Array, Frame
from sciwm.core.units import UnitSystem

LIKELY = (0.05, 0.95)
"""Between these parts of the runs an effect is given."""


def likely(changes: Array) -> tuple[Array, Array]:
    """Between what an effect is expected to be in nine of ten true runs.

    Of one world, between what nine of ten of its runs are. Of several, Student's interval for one more run of
    what such worlds say on the mean, so that few which agree by luck do not promise much; its degrees of
    freedom are those of a sum of two variances (Satterthwaite, Biometrics Bull. 2, 110 (1946), equation 17).
    It holds the truth where worlds err independently of one another; what all of them lack, none tells. What
    runs differ by is in it where there are two or more.

    Args:
        changes: (W, R, ...) that each of W worlds says of each of R runs.
    """
    from scipy.special import stdtrit  # here, because a first energy has no need of it

    worlds, runs = changes.shape[:2]
    if worlds == 1:
        low, high = np.quantile(changes[0], LIKELY, axis=0)
        return low, high
    between = changes.mean(axis=1).var(axis=0, ddof=1) / worlds
    # The runs are the same in all worlds: their number is R, and not W R.
    within = np.zeros_like(between)
    if runs > 1:
        within = changes.var(axis=1, ddof=1).mean(axis=0) * (1.0 + 1.0 / runs)
    weight = between**2 / (worlds - 1) + within**2 / max(runs - 1, 1)
    total = between + within
    freedom = np.divide(total**2, weight, out=np.ones_like(total), where=weight > 0)
    half = stdtrit(freedom, LIKELY[1]) * np.sqrt(total)
    middle = changes.mean(axis=(0, 1))
    return middle - half, middle + half


@dataclass(frozen=True, eq=False)
class Effect:
    """A difference over time, acted on less not.

    Attributes:
        times: (T,) in the units' time.
        mean: (T,) over runs.
        low: (T,) below which a twentieth of the runs are expected (see `likely`).
        high: (T,) above which a twentieth of the runs are expected.
    """

    times: Array
    mean: Array
    low: Array
    high: Array


@dataclass(frozen=True, eq=False)
class WhatIf:
    """The same runs with and without actions; a notebook shows how far they part.

    Runs of several worlds stand world after world, each world with the same runs.

    Attributes:
        without: Frames of each run that was not acted on.
        acted: Frames of each run that was.
        twins: Frames of each run that was not acted on and started a little elsewhere.
        before: Number that each particle of `acted` has in `without`; None for those that were added.
        stopped: Why each run that was acted on ended early; None for those that did not.
        units: What the numbers are in.
        worlds: How many were asked.
    """

    without: list[list[Frame]]
    acted: list[list[Frame]]
    twins: list[list[Frame]]
    before: Sequence[int | None]
    stopped: Sequence[str | None]
    units: UnitSystem
    worlds: int = 1

    @cached_property
    def times(self) -> Array:
        """(T,) that all runs reached, in the units' time."""
        runs = self.without + self.acted + self.twins
        shortest = min(runs, key=len)
        return np.array([frame.time for frame in shortest], dtype=float)

    def effect(self, observable: Callable[[Frame], float]) -> Effect:
        """What the actions change of something that can be told from a frame."""
        changes = np.array(
            [
                [observable(there) - observable(here) for here, there, _ in self._frames(run)]
                for run in range(len(self.acted))
            ]
        )
        low, high = likely(changes.reshape(self.worlds, -1, len(self.times)))
        return Effect(self.times, changes.mean(axis=0), low, high)

    @cached_property
    def parting(self) -> Array:
        """(runs, T) root mean square distance of the particles from where they would have been."""
        kept = [(now, then) for now, then in enumerate(self.before) if then is not None]
        now, then = np.array(kept, dtype=int).T
        return self._distances(lambda here, there, _: there.positions[now] - here.positions[then])

    @cached_property
    def blur(self) -> Array:
        """(runs, T) root mean square distance of the twins, which nobody acted on."""
        return self._distances(lambda here, _, twin: twin.positions - here.positions)

    @property
    def horizon(self) -> float | None:
        """Time after which chance may part runs as far as the actions did; None if it did not come.

        It is taken of the medians over runs, from where the actions have had an effect at all.
        """
        parting, blur = np.median(self.parting, axis=0), np.median(self.blur, axis=0)
        clear = parting > blur
        if not clear.any():
            return 0.0
        after = int(clear.argmax())
        lost = np.flatnonzero(~clear[after:])
        return float(self.times[after + lost[0]]) if len(lost) else None

    def _frames(self, run: int) -> list[tuple[Frame, Frame, Frame]]:
        count = len(self.times)
        runs = self.without[run][:count], self.acted[run][:count], self.twins[run][:count]
        return list(zip(*runs, strict=True))

    def _distances(self, apart: Callable[[Frame, Frame, Frame], Array]) -> Array:
        return np.array(
            [
                [np.sqrt((apart(*frames) ** 2).sum(-1).mean()) for frames in self._frames(run)]
                for run in range(len(self.acted))
            ]
        )

    def __repr__(self) -> str:
        runs, last = f"{len(self.acted) // self.worlds} runs", self.times[-1]
        if self.worlds > 1:
            runs += f" in each of {self.worlds} worlds"
        unit = f" {self.units.time}".rstrip()
        meant = "to the end" if self.horizon is None else f"until {self.horizon:g}{unit}"
        return f"WhatIf({runs} of {last:g}{unit}; the effect means something {meant})"

    def _repr_png_(self) -> bytes:
        from sciwm.report.plots import time_series

        length, unit = self.units.length, self.units.time
        figure = time_series(
            self.times,
            {
                "acted on": np.median(self.parting, axis=0),
                "only started elsewhere": np.median(self.blur, axis=0),
            },
            x_label=f"time ({unit})" if unit else "time",
            y_label=f"distance from the run as it was ({length})"
            if length
            else "distance from the run as it was",
        )
        stream = BytesIO()
        figure.savefig(stream, format="png", dpi=110)
        return stream.getvalue()

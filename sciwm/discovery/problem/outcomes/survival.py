"""Thermal survival: does a molecule last at a high temperature, and how long?

An accelerated test that ranks molecules by their weakest bond and the ways to break it: single
molecules in vacuum, where nothing bimolecular happens, heated until some of them fall apart within
picoseconds.
"""

from collections.abc import Sequence

import numpy as np
import torch

from sciwm.core.bounds import require_counts, require_not_negative
from sciwm.core.frame import Frame
from sciwm.core.plausibility import require_plausible
from sciwm.core.random import structure_streams
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.discovery.problem.hypothesis import Failure
from sciwm.discovery.problem.outcomes.outcome import Outcome, Value
from sciwm.simulation.observables.bonding import LASTING
from sciwm.simulation.propagators import Langevin, strides_within
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.rollout.events import BondWatch
from sciwm.simulation.simulator import PropertySimulator
from sciwm.simulation.velocities import maxwell_boltzmann

FRAME = 10.0
"""fs between looks at the bonds; five in a row make a broken bond."""


class ThermalSurvival(Outcome):
    """The share of simulations in which no bond breaks for good.

    Langevin dynamics from the given structure, with velocities of that temperature. A bond is broken
    for good when it is longer than 1.7 sums of covalent radii for five frames of 10 fs, or when the
    simulation cannot go on while it is so. The standard error is that of the share's posterior from
    Jeffreys' prior, so that it is not zero where all simulations agree.

    Args:
        temperature: K.
        time: fs.
        seeds: Simulations.
        dt: fs.
        friction: 1/fs.
    """

    def __init__(
        self,
        temperature: float = 3000.0,
        time: float = 3000.0,
        seeds: int = 8,
        dt: float = 0.5,
        friction: float = 0.01,
    ):
        require_plausible("temperature", temperature, MOLECULAR)
        require_not_negative(friction=friction)
        require_counts(seeds=seeds)
        self.temperature = temperature
        self.time = time
        self.steps = strides_within(time, dt)
        self.seeds = seeds
        self.dt = dt
        self.friction = friction

    @property
    def name(self) -> str:
        return "survival"

    @property
    def unit(self) -> str:
        return ""

    def evaluate_many(
        self, world: PropertySimulator, structures: Sequence[Frame], seed: int = 0
    ) -> list[Value | Failure]:
        found: list[Value | Failure] = []
        for lifetimes in self.lifetimes(world, structures, seed):
            if isinstance(lifetimes, Failure):
                found.append(lifetimes)
                continue
            times, frames, flag = lifetimes
            n, whole = len(times), int(np.isinf(times).sum())
            a, b = whole + 0.5, n - whole + 0.5
            spread = float(np.sqrt(a * b / ((a + b) ** 2 * (a + b + 1))))
            found.append(Value(whole / n, spread, frames, flag))
        return found

    def lifetimes(
        self, world: PropertySimulator, structures: Sequence[Frame], seed: int = 0
    ) -> "list[tuple[np.ndarray, list[Frame], str | None] | Failure]":
        """For each structure, when each simulation broke (fs, infinite where it did not), the frames,
        and whether the world was left."""
        starts = [
            State.from_frame(one.with_(velocities=None), torch.float64)
            for one in structures
            for _ in range(self.seeds)
        ]
        state = State.collate(starts)
        state.stream = structure_streams(structures, self.seeds)
        state = maxwell_boltzmann(state, self.temperature, world.units, seed)
        every = max(1, round(FRAME / self.dt))
        watch = BondWatch(state, (LASTING - 1) * every)
        langevin = Langevin(world, self.dt, self.temperature, self.friction, seed)
        rollout = Rollout(langevin, every=every, watch=watch)
        result = rollout.run(state, self.steps)
        found: list[tuple[np.ndarray, list[Frame], str | None] | Failure] = []
        for k in range(len(structures)):
            times, frames, lost = [], [], []
            for s in range(k * self.seeds, (k + 1) * self.seeds):
                frames += result.frames[s]
                reason = result.reasons[s]
                if s in watch.broken:
                    times.append(watch.broken[s][0] * self.dt)
                elif reason is None:
                    times.append(np.inf)
                elif (since := watch.stretched(s)) is not None:
                    # It was flying apart when its energy could not be had any more.
                    times.append(since * self.dt)
                else:
                    lost.append(reason)
            if not times:
                found.append(Failure("calculation", f"no simulation came to an end: {lost[0]}"))
                continue
            flag = f"{len(lost)} of {self.seeds} simulations: {lost[0]}" if lost else None
            found.append((np.array(times), frames, flag))
        return found


class SurvivalTime(Outcome):
    """The mean time until a bond breaks for good, where simulations that last count in full.

    Args:
        survival: The simulations.
    """

    def __init__(self, survival: ThermalSurvival | None = None):
        self.survival = survival or ThermalSurvival()

    @property
    def name(self) -> str:
        return "survival_time"

    @property
    def unit(self) -> str:
        return "fs"

    def evaluate_many(
        self, world: PropertySimulator, structures: Sequence[Frame], seed: int = 0
    ) -> list[Value | Failure]:
        found: list[Value | Failure] = []
        for lifetimes in self.survival.lifetimes(world, structures, seed):
            if isinstance(lifetimes, Failure):
                found.append(lifetimes)
                continue
            times, frames, flag = lifetimes
            censored = np.minimum(times, self.survival.time)
            # One that never breaks is known no better than the share of survivors is.
            spread = max(
                censored.std() / np.sqrt(len(censored)), self.survival.time / (4 * len(times))
            )
            found.append(Value(float(censored.mean()), float(spread), frames, flag))
        return found

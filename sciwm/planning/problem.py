"""What is wanted of a motion, and what comes of a plan in some simulator: the same code for all of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciwm.core.bounds import require_counts, require_positive
from sciwm.core.frame import Array
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.planning.controls import Controls
from sciwm.simulation.actions import Action, Change, Frozen, acted
from sciwm.simulation.collective_variables import CollectiveVariable
from sciwm.simulation.propagators import Propagator
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.rollout.frame_store import Unstored
from sciwm.simulation.rollout.stability import Stability
from sciwm.simulation.simulator import Evaluation, Simulator
from sciwm.simulation.velocities import maxwell_boltzmann


@dataclass(frozen=True, eq=False)
class Returns:
    """What came of P plans, each carried out in R runs.

    Attributes:
        scores: (P, R) larger is better; NaN where a run ended early or a requirement was not met.
        paths: (T, P, R) of every measure, from the start on; NaN after a run ended.
        broken: (P, R) requirements that were not met, of runs that came to their end.
        reasons: Why each run ended early, P lists of R; None where it did not.
        steps: Time steps that were taken in all.
        interval: Time between two rows of `paths`.
    """

    scores: Array
    paths: dict[str, Array]
    broken: NDArray[np.bool_]
    reasons: list[list[str | None]]
    steps: int
    interval: float


@dataclass(frozen=True)
class Problem:
    """A system, what can be done to it, and what is wanted.

    Attributes:
        start: One system.
        controls: What a plan chooses.
        stage: Length of a stage, in the units' time.
        measures: What the objective may name.
        objective: With one goal.
        propagator: What moves systems by the forces of a simulator.
        every: Time steps between looks at the measures.
        temperature: Of the velocities at the start, which each run draws for itself; None: as `start` has
            them.
        always: What is done to the system whatever the plan.
        daring: Whether runs go on where a simulator should not be trusted, as long as they do not blow up.

    Raises:
        ValueError: If the objective has several goals, or names what is not measured.
    """

    start: State
    controls: Controls
    stage: float
    measures: Mapping[str, CollectiveVariable]
    objective: Objective
    propagator: Callable[[Simulator], Propagator]
    every: int = 10
    temperature: float | None = None
    always: Sequence[Action] = ()
    daring: bool = False

    def __post_init__(self) -> None:
        require_counts(every=self.every)
        require_positive(stage=self.stage)
        if self.start.n_systems != 1:
            raise ValueError(f"a plan is for one system, got {self.start.n_systems}")
        if len(self.objective.goals) != 1:
            raise ValueError(
                f"a plan has one goal, but the objective has {len(self.objective.goals)}; weigh them up in "
                "one sum"
            )
        if not any(isinstance(one, Change) for one in self.always):
            self._require_measurable(self.start)

    @property
    def changes_particles(self) -> bool:
        """Whether what is done, or may be chosen, changes who is there or what they are."""
        blank = torch.zeros((1, *self.controls.shape), dtype=torch.float64)
        done = [*self.always, *self.controls.actions(blank, self.stage)]
        return any(isinstance(one, Change) for one in done)

    def run(
        self, simulator: Simulator, plans: Array, seeds: Sequence[int], bar: bool = True
    ) -> Returns:
        """What comes of plans, all at once; runs of equal seed share their random numbers.

        Args:
            plans: (P, stages, size).
            seeds: One for each of the R runs of a plan.
            bar: Whether to show how far it is.

        Raises:
            ValueError: If what a plan does cannot be done to this system, or by this simulator.
        """
        moving, state = self.prepared(simulator, plans, seeds)
        gauge = Gauge(self.measures, simulator, state, moving.start(state))
        steps = self.steps(moving)
        guard = Stability(state, moving) if self.daring else None
        rollout = Rollout(moving, every=self.every, watch=gauge, guard=guard, bar=bar)
        result = rollout.advanced(rollout.begun(state), steps, state, Unstored()).merged()
        shape = len(plans), len(seeds)
        reasons = [
            result.reasons[k : k + shape[1]] for k in range(0, len(result.reasons), shape[1])
        ]
        rows = steps // self.every + 1
        paths = {name: one.reshape(rows, *shape) for name, one in gauge.paths(rows).items()}
        ended = np.array([[reason is None for reason in row] for row in reasons])
        scores, broken = self.scored(paths, ended)
        return Returns(
            scores, paths, broken, reasons, sum(result.steps), self.every * moving.stride
        )

    def steps(self, propagator: Propagator) -> int:
        """Of a whole plan.

        Raises:
            ValueError: If its end would not be looked at.
        """
        each = round(self.stage / propagator.stride)
        if abs(each * propagator.stride - self.stage) > 1e-6 * self.stage or each < 1:
            raise ValueError(
                f"a stage of {self.stage:g} is no whole number of time steps of {propagator.stride:g}; "
                "choose time, stages and time step so that it is"
            )
        steps = self.controls.stages * each
        if steps % self.every:
            raise ValueError(
                f"a plan of {steps} time steps ends between two looks that are {self.every} steps apart; "
                "choose `every` so that it divides them"
            )
        return steps

    def prepared(
        self, simulator: Simulator, plans: Array, seeds: Sequence[int]
    ) -> tuple[Propagator, State]:
        """What carries plans out, and where it starts: the runs of each plan one after another.

        Raises:
            ValueError: If what a plan does cannot be done.
        """
        count = len(plans) * len(seeds)
        state = State.collate([self.start] * count)
        device = state.batch.device
        state.stream = torch.tensor([*seeds] * len(plans), device=device)
        if self.temperature is not None:
            # Where some particles are held, the drift of all is that of the others.
            held = any(isinstance(one, Frozen) for one in self.always)
            state = maxwell_boltzmann(
                state, self.temperature, simulator.units, remove_drift=not held
            )
        chosen = torch.as_tensor(np.repeat(plans, len(seeds), axis=0), dtype=torch.float64)
        done = [*self.always, *self.controls.actions(chosen, self.stage)]
        moving, state = acted(self.propagator(simulator), state, done)
        self._require_measurable(state)
        return moving, state

    def _require_measurable(self, state: State) -> None:
        for name, one in self.measures.items():
            try:
                one.require_fitting(state)
            except ValueError as error:
                raise ValueError(f"measure {name}: {error}") from error

    def scored(
        self, paths: Mapping[str, Array], ended: NDArray[np.bool_]
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Scores, larger is better, and whether a requirement was not met.

        Args:
            paths: (T, ...) of every measure.
            ended: (...) which runs came to their end.
        """
        values = {name: one.over(paths[name]) for name, one in self.measures.items()}
        scores = self.objective.evaluate(values)[..., 0]
        allowed: NDArray[np.bool_] = np.broadcast_to(self.objective.feasible(values), ended.shape)
        return np.where(ended & allowed, scores, np.nan), ended & ~allowed


class Gauge:
    """Looks at the measures of every frame of a rollout.

    Args:
        state: Where it starts.
        evaluation: There.
    """

    def __init__(
        self,
        measures: Mapping[str, CollectiveVariable],
        simulator: Simulator,
        state: State,
        evaluation: Evaluation | None,
    ):
        self._measures = measures
        self._simulator = simulator
        self._systems = state.n_systems
        self._rows: dict[int, dict[str, Tensor]] = {}
        self.ended(range(self._systems), state, evaluation, 0)

    def ended(
        self, systems: Sequence[int], state: State, evaluation: Evaluation | None, step: int
    ) -> dict[int, str]:
        """See `Watch`; it ends none."""
        row = {}
        for name, one in self._measures.items():
            found = one.of(state, evaluation, self._simulator).double()
            row[name] = found.new_full((self._systems,), math.nan)
            row[name][list(systems)] = found
        self._rows[step] = row
        return {}

    def seen(self) -> dict[str, Array]:
        """(T, S) of every measure, from the start to now; NaN where a run had ended."""
        return {
            name: torch.stack([row[name] for row in self._rows.values()]).detach().cpu().numpy()
            for name in self._measures
        }

    def paths(self, rows: int) -> dict[str, Array]:
        """(rows, S) the same, to the end of the motion."""
        found = {name: np.full((rows, self._systems), np.nan) for name in self._measures}
        for name, seen in self.seen().items():
            found[name][: len(seen)] = seen
        return found


def measured_in(measures: Mapping[str, CollectiveVariable], units: UnitSystem) -> dict[str, str]:
    """The unit of each measure, by its name."""
    return {name: one.unit(units) for name, one in measures.items()}

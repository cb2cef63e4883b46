"""Plans in a user's words: what is to be done to a system, what is wanted, and what came of it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sciwm.core.bounds import require_counts
from sciwm.core.construction import construct_named
from sciwm.core.state import State
from sciwm.core.units import UnitSystem, parse_quantity
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.interfaces.motion import Motion
from sciwm.planning.controls import Controls, Knobs, Menu
from sciwm.planning.planners import PLANNERS, Planner
from sciwm.planning.problem import Problem, measured_in
from sciwm.planning.search import Budget
from sciwm.simulation.actions import Action, actions_from
from sciwm.simulation.collective_variables import COLLECTIVE_VARIABLES, CollectiveVariable
from sciwm.simulation.propagators import strides_within
from sciwm.simulation.simulator import Simulator

LOOKS = 40
"""Usual number of times that a motion is looked at."""


@dataclass(frozen=True)
class PlanJob:
    """What is to be planned.

    Attributes:
        start: H5MD file, of which the last frame is taken, with its velocities where no temperature is given;
            a SMILES, or any file that can be imported.
        time: Of the motion that is planned.
        measure: What the objective may name: such as `angle: {Torsion: {particles: [8, 2, 1, 0]}}`.
        objective: One goal, such as "minimize work; require angle > 50 deg".
        actions: What is done, with ranges for the numbers that are to be chosen, such as "-1 .. 1 eV/Å".
        menu: Instead of it, things to do by name, of which each stage gets one; an empty list is to wait.
        always: What is done whatever is planned.
        stages: Equal parts of the time, each with choices of its own.
        worlds: Run folders, model files or shipped worlds to plan in; several are asked together, and
            where they disagree they are not believed.
        reference: The simulator that the plan is carried out in; "" for none.
        executions: Runs there.
        temperature: Of a Langevin thermostat; without it energy is conserved.
        dt: Time step: 0.5 of the units' time where absent.
        friction: Of the thermostat.
        every: Time steps between looks; some forty looks where absent.
        planner: How plans are found: CrossEntropy, PathIntegral, Tree or RandomSearch, with settings.
        budget: How hard to think.
    """

    start: str
    time: str
    measure: dict[str, Any]
    objective: str
    actions: list[Any] | None = None
    menu: dict[str, Any] | None = None
    always: list[Any] = field(default_factory=list)
    stages: int = 1
    worlds: list[str] = field(default_factory=lambda: ["organic"])
    reference: str = "gfn2"
    executions: int = 4
    temperature: str | None = None
    dt: str | None = None
    friction: str | None = None
    every: int | None = None
    planner: dict[str, Any] | str = "CrossEntropy"
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        require_counts(stages=self.stages, executions=self.executions, every=self.every)
        if (self.actions is None) == (self.menu is None):
            raise ValueError(
                "a plan chooses numbers in `actions`, or things to do from a `menu`; give one of the two"
            )
        if not self.worlds:
            raise ValueError("a plan needs a world to imagine in; name one under `worlds`")

    def search_for(self) -> Planner:
        """How plans are found.

        Raises:
            ValueError: If there is no such planner.
        """
        return construct_named(self.planner, PLANNERS, "planner")

    def problem(self, start: State, units: UnitSystem) -> Problem:
        """What is wanted, of a system.

        Raises:
            ValueError: If something in it cannot be read, or does not fit the system.
        """
        motion = Motion(self.dt, self.temperature, friction=self.friction, seed=self.budget.seed)
        measures = {
            name: construct_named(one, COLLECTIVE_VARIABLES, "measure")
            for name, one in self.measure.items()
        }
        controls: Controls
        if self.actions is not None:
            controls = Knobs(actions_from(self.actions), self.stages, units)
        else:
            assert self.menu is not None
            choices = {name: actions_from(one or []) for name, one in self.menu.items()}
            controls = Menu(choices, self.stages, units)
        return problem_of(
            start, units, motion, self.time, controls, measures, self.objective,
            actions_from(self.always), self.every,
        )  # fmt: skip


def problem_of(
    start: State,
    units: UnitSystem,
    motion: Motion,
    time: str | float,
    controls: Controls,
    measures: Mapping[str, CollectiveVariable],
    objective: str,
    always: Sequence[Action] = (),
    every: int | None = None,
) -> Problem:
    """A problem in a user's words; see `PlanJob`."""
    stage = parse_quantity(str(time), "time", units) / controls.stages
    kelvin = motion.kelvin(units)
    step = 0.5 if motion.dt is None else parse_quantity(str(motion.dt), "time", units)
    steps = controls.stages * strides_within(stage, step)
    return Problem(
        start=start,
        controls=controls,
        stage=stage,
        measures=measures,
        objective=Objective.parse(objective, measured_in(measures, units)),
        propagator=motion.propagator,
        every=every or max(k for k in range(1, max(1, steps // LOOKS) + 1) if steps % k == 0),
        temperature=None if bool(start.velocities.any()) else kelvin,
        always=always,
    )


def identity(job: PlanJob, start: State, worlds: Sequence[Simulator]) -> str:
    """A digest of all that a search depends on; how long it goes on, and where and how often its plan is
    carried out, may change.
    """
    content = asdict(job)
    for name in ("reference", "executions"):
        del content[name]
    if isinstance(job.planner, dict):
        ((name, settings),) = job.planner.items()
        content["planner"] = {name: {k: v for k, v in (settings or {}).items() if k != "rounds"}}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    for key in ("numbers", "positions", "velocities", "masses", "charges", "cell"):
        digest.update(start[key].detach().cpu().numpy().tobytes())
    for world in worlds:
        digest.update(getattr(world, "fingerprint", type(world).__name__).encode())
    return digest.hexdigest()

"""Plans in a user's words: what is to be done to a system, what is wanted, and what came of it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from typing import Any

import torch

from sciwm.core.bounds import require_counts
from sciwm.core.construction import construct_named
from sciwm.core.state import State
from sciwm.core.units import UnitSystem, parse_quantity
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.interfaces.motion import STEP, MotionSettings
from sciwm.interfaces.world import System, World
from sciwm.planning.controls import Controls, Knobs, Menu, written
from sciwm.planning.planners import PLANNERS, Planner
from sciwm.planning.problem import Problem, Returns, measured_in
from sciwm.planning.search import EXECUTION, Budget, Found, search
from sciwm.planning.trial import Trial
from sciwm.simulation.actions import Action, actions_from
from sciwm.simulation.collective_variables import COLLECTIVE_VARIABLES, CollectiveVariable
from sciwm.simulation.references.registry import reference_from
from sciwm.simulation.simulator import Simulator

LOOKS = 40
"""Usual number of times that a motion is looked at."""


@dataclass(frozen=True)
class PlanJob:
    """What is to be planned.

    Attributes:
        start: H5MD file, of which the last frame is taken, with its velocities where no temperature is given;
            a SMILES, or any file that can be imported. With a temperature each run draws its velocities.
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
        library: File of protocols that proved themselves: those for something alike are tried first, and this
            plan is added if it does in the reference what was predicted.
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
    library: str | None = None

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
        motion = MotionSettings(
            self.dt, self.temperature, friction=self.friction, seed=self.budget.seed
        )
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
    motion: MotionSettings,
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
    step = STEP if motion.dt is None else parse_quantity(str(motion.dt), "time", units)
    steps = controls.stages * round(stage / step)
    return Problem(
        start=start,
        controls=controls,
        stage=stage,
        measures=measures,
        objective=Objective.parse(objective, measured_in(measures, units)),
        propagator=motion.propagator,
        every=every or max(k for k in range(1, max(1, steps // LOOKS) + 1) if steps % k == 0),
        temperature=kelvin,
        always=always,
    )


def identity(job: PlanJob, start: State, worlds: Sequence[Simulator]) -> str:
    """A digest of all that a search depends on; how long it goes on, and where and how often its plan is
    carried out, may change.
    """
    content = asdict(job)
    for name in ("reference", "executions", "library"):
        del content[name]
    planner = job.search_for()
    content["planner"] = [type(planner).__name__, asdict(planner) | {"rounds": None}]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    for key in ("numbers", "positions", "velocities", "masses", "charges", "cell"):
        digest.update(start[key].detach().cpu().numpy().tobytes())
    for world in worlds:
        digest.update(getattr(world, "fingerprint", type(world).__name__).encode())
    return digest.hexdigest()


def plan(
    worlds: World | Sequence[World],
    system: System,
    time: str | float,
    actions: Sequence[Action] | Mapping[str, Sequence[Action]],
    measures: Mapping[str, CollectiveVariable],
    objective: str,
    stages: int = 1,
    temperature: str | float | None = None,
    dt: str | float | None = None,
    friction: str | float | None = None,
    planner: Planner | None = None,
    budget: Budget | None = None,
    always: Sequence[Action] = (),
) -> "PlannedActions":
    """The best that can be done to a system, as far as learned worlds can tell.

    Args:
        worlds: Several are asked together, and where they disagree they are not believed.
        system: Where to start. With a temperature each run draws velocities of its own.
        time: How long, such as "400fs".
        actions: What is done, with ranges for the numbers to be chosen, such as "-1 .. 1 eV/Å"; or things to
            do by name, of which each stage gets one.
        measures: What the objective may name.
        objective: One goal, such as "minimize work; require angle > 50 deg".
        stages: Equal parts of the time, each with choices of its own.
        temperature: Of a Langevin thermostat; without it, energy is conserved.
        dt: Time step: 0.5 of the units' time where absent.
        friction: Of the thermostat.
        planner: How plans are found: by the cross-entropy method where absent.
        budget: How hard to think.
        always: What is done whatever is planned.

    Raises:
        ValueError: If something cannot be read or done, or no plan comes to anything.
    """
    asked = [worlds] if isinstance(worlds, World) else list(worlds)
    if not asked:
        raise ValueError("a plan needs a world to imagine in; give one, or several")
    budget = budget or Budget()
    units = asked[0].units
    controls = (
        Menu(actions, stages, units)
        if isinstance(actions, Mapping)
        else Knobs(actions, stages, units)
    )
    motion = MotionSettings(dt, temperature, friction=friction, seed=budget.seed)
    start = asked[0].state(system)
    problem = problem_of(start, units, motion, time, controls, measures, objective, always)
    found = search(problem, [one.simulator() for one in asked], planner, budget)
    return PlannedActions(problem, found, budget, units)


@dataclass(frozen=True, eq=False)
class PlannedActions:
    """What is to be done, and what is expected of it; a notebook shows how its measures are to go.

    Attributes:
        problem: That it solves.
        found: The plan and its prediction.
        budget: It was found with.
        units: What the numbers are in.
        realised: What came of it in the true simulator, once it was carried out.
    """

    problem: Problem
    found: Found
    budget: Budget
    units: UnitSystem
    realised: Returns | None = None

    @property
    def actions(self) -> list[Action]:
        """For `World.imagine`, or written to a file for `sciwm simulate`."""
        chosen = torch.as_tensor(self.found.plan)
        content = written(self.problem.controls, chosen, self.problem.stage)
        return [*self.problem.always, *actions_from(content)]

    @property
    def trial(self) -> Trial | None:
        """Of what was predicted with what came of it, once it was carried out."""
        return None if self.realised is None else Trial(self.found, self.realised)

    def carry_out(self, reference: str | Simulator = "gfn2", runs: int = 4) -> "PlannedActions":
        """The same plan with what came of it in the true simulator.

        Raises:
            ValueError: If there is no such reference, or it cannot do this.
        """
        require_counts(runs=runs)
        truth = reference_from(reference) if isinstance(reference, str) else reference
        seeds = self.budget.seeds(EXECUTION, runs)
        realised = self.problem.run(truth, self.found.plan[None], seeds)
        return replace(self, realised=realised)

    def __repr__(self) -> str:
        (goal,) = self.problem.objective.goals
        low, high = sorted(goal.direction * end for end in self.found.interval)
        lines = [
            str(self.problem.objective),
            f"predicted {goal.direction * self.found.mean:.4g} {goal.unit}, nine of ten runs from "
            f"{low:.4g} to {high:.4g}",
        ]
        if (found := self.trial) is not None:
            scores = ", ".join(f"{goal.direction * one:.4g}" for one in found.realised.scores[0])
            lines.append(f"realised {scores} {goal.unit}; {found.inside} inside the prediction")
            lines += [found.loophole] if found.loophole else []
        return "\n".join(lines)

    def _repr_png_(self) -> bytes:
        from sciwm.report.planning import courses

        stream = BytesIO()
        drawing = courses(self.problem, self.found, self.realised, self.units)
        drawing.savefig(stream, format="png", dpi=110)
        return stream.getvalue()

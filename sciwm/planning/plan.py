"""A plan from its search to what came of it, in a folder that is gone on with where it was left."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from sciwm.core.frame import Array
from sciwm.core.replacement import replacing
from sciwm.core.units import UnitSystem
from sciwm.planning.controls import written
from sciwm.planning.ledger import PlanLedger
from sciwm.planning.library import ProtocolLibrary
from sciwm.planning.planners import Planner
from sciwm.planning.problem import Problem, Returns
from sciwm.planning.search import EXECUTION, Budget, Found, search
from sciwm.planning.trial import Trial, carry_out
from sciwm.simulation.simulator import Simulator


@dataclass(frozen=True, eq=False)
class Plan:
    """What was found, and what came of it.

    Attributes:
        problem: That it solves.
        found: The plan and its prediction.
        imagined: What came of it in the first world, run for run as in the true simulator.
        realised: In the true simulator; None where there is none.
        folder: Where all of it lies.
        units: Of the worlds.
    """

    problem: Problem
    found: Found
    imagined: Returns
    realised: Returns | None
    folder: Path
    units: UnitSystem

    @property
    def trial(self) -> Trial | None:
        """Of what was predicted with what came of it."""
        return None if self.realised is None else Trial(self.found, self.realised)

    def figures(self) -> dict[str, Any]:
        """What was planned, predicted and realised, as JSON holds it; in the goal's unit and direction."""
        (goal,) = self.problem.objective.goals
        content: dict[str, Any] = {
            "objective": str(self.problem.objective),
            "unit": goal.unit,
            "plan": self.problem.controls.described(torch.as_tensor(self.found.plan)),
            "plans_tried": sum(len(one.plans) for one in self.found.rounds),
            "predicted": goal.direction * self.found.mean,
            "interval": sorted(goal.direction * end for end in self.found.interval),
            "random_plans": None if np.isnan(self.found.luck) else goal.direction * self.found.luck,
        }
        if (found := self.trial) is not None:
            scores = goal.direction * found.realised.scores[0]
            content |= {
                "realised": [None if np.isnan(one) else float(one) for one in scores],
                "inside": found.inside,
                "loophole": found.loophole,
                "chance_of_so_many_below": found.chance,
                "reasons": found.realised.reasons[0],
                "reference_steps": found.realised.steps,
            }
        return content


def plan_and_carry_out(
    problem: Problem,
    worlds: Sequence[Simulator],
    reference: Simulator | None,
    planner: Planner,
    budget: Budget,
    executions: int,
    folder: Path,
    identity: str,
    library: ProtocolLibrary | None = None,
) -> Plan:
    """Plans in worlds and carries the plan out in a reference.

    The folder gets search.jsonl with all that was tried, plan.yaml with the plan as a file of actions for
    `sciwm simulate`, plan.json with the figures, and imagined.h5md and true.h5md with the motions.

    Args:
        executions: Runs in the reference.
        identity: What must be the same for a search to be gone on with.
        library: Protocols to try first; the plan is added if it does what was predicted.

    Raises:
        ValueError: If the folder is of another plan, or what is planned cannot be done.
        OSError: If the folder cannot be written.
    """
    for one in (*worlds, *([] if reference is None else [reference])):
        if one.units is not worlds[0].units:
            raise ValueError(
                f"{type(one).__name__} is in {one.units.name} units, and the first world in "
                f"{worlds[0].units.name}; plan among worlds of the same units"
            )
    folder.mkdir(parents=True, exist_ok=True)
    ledger = PlanLedger(folder / "search.jsonl", identity, problem.controls.shape)
    known = None if library is None else library.related_plans(problem)
    found = search(problem, worlds, planner, budget, ledger, known)
    content = written(problem.controls, torch.as_tensor(found.plan), problem.stage)
    always = [one.resolved(worlds[0].units).written() for one in problem.always]
    with replacing(folder / "plan.yaml") as file:
        file.write(
            yaml.safe_dump([*always, *content], sort_keys=False, default_flow_style=None).encode()
        )
    seeds = budget.seeds(EXECUTION, executions)
    imagined = recorded_motion(problem, worlds[0], found.plan, seeds, folder / "imagined.h5md")
    realised = None
    if reference is not None:
        realised = recorded_motion(problem, reference, found.plan, seeds, folder / "true.h5md")
    plan = Plan(problem, found, imagined, realised, folder, worlds[0].units)
    with replacing(folder / "plan.json") as file:
        file.write(json.dumps(plan.figures(), indent=1, ensure_ascii=False).encode())
    done = plan.trial
    if library is not None and done is not None and not library.keep(problem, done):
        library.fail(problem, done)
    return plan


def recorded_motion(
    problem: Problem, simulator: Simulator, plan: Array, seeds: Sequence[int], output: Path
) -> Returns:
    """As `carry_out`; runs of another plan, number or simulator are kept under another name."""
    origin = getattr(simulator, "fingerprint", type(simulator).__name__)
    digest = hashlib.sha256(f"{plan.tolist()} {list(seeds)} {origin}".encode()).hexdigest()
    mark = output.with_suffix(".of")
    if not mark.exists() or mark.read_text() != digest:
        if output.exists():
            number = 1 + len(list(output.parent.glob(f"{output.stem}.*.h5md")))
            output.rename(output.with_suffix(f".{number}.h5md"))
        for one in output.parent.glob(f"{output.name}.*"):
            one.unlink()
        mark.write_text(digest)
    return carry_out(problem, simulator, plan, seeds, output)

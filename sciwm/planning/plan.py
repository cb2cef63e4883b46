"""A plan from its search to what came of it, in a folder that is gone on with where it was left."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from sciwm.core.replacement import replacing
from sciwm.core.units import UnitSystem
from sciwm.planning.controls import written
from sciwm.planning.ledger import PlanLedger
from sciwm.planning.library import ProtocolLibrary
from sciwm.planning.planners import Planner
from sciwm.planning.problem import Problem, Returns
from sciwm.planning.search import EXECUTION, Budget, Found, search
from sciwm.planning.trial import Comparison, carry_out
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
    def comparison(self) -> Comparison | None:
        """Of what was predicted with what came of it."""
        return None if self.realised is None else Comparison(self.found, self.realised)

    def figures(self) -> dict[str, Any]:
        """What was planned, predicted and realised, as JSON holds it; in the goal's unit and direction."""
        (goal,) = self.problem.objective.goals
        null = self.found.null[np.isfinite(self.found.null)]
        content: dict[str, Any] = {
            "objective": str(self.problem.objective),
            "unit": goal.unit,
            "plan": self.problem.controls.described(torch.as_tensor(self.found.plan)),
            "plans_tried": sum(len(one.plans) for one in self.found.rounds),
            "predicted": goal.direction * self.found.mean,
            "interval": sorted(goal.direction * end for end in self.found.interval),
            "random_plans": goal.direction * float(null.mean()) if len(null) else None,
        }
        if (found := self.comparison) is not None:
            scores = goal.direction * found.realised.scores[0]
            content |= {
                "realised": [None if np.isnan(one) else float(one) for one in scores],
                "inside": found.inside,
                "loophole": found.loophole,
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
    folder.mkdir(parents=True, exist_ok=True)
    ledger = PlanLedger(folder / "search.jsonl", identity)
    known = None if library is None else library.known(problem)
    found = search(problem, worlds, planner, budget, ledger, known)
    content = written(problem.controls, torch.as_tensor(found.plan), problem.stage)
    always = [one.resolved(worlds[0].units).written() for one in problem.always]
    with replacing(folder / "plan.yaml") as file:
        file.write(
            yaml.safe_dump([*always, *content], sort_keys=False, default_flow_style=None).encode()
        )
    seeds = budget.seeds(EXECUTION, executions)
    imagined = carry_out(problem, worlds[0], found.plan, seeds, folder / "imagined.h5md")
    realised = None
    if reference is not None:
        realised = carry_out(problem, reference, found.plan, seeds, folder / "true.h5md")
    if library is not None and realised is not None:
        kept = library.keep(problem, Comparison(found, realised))
        if not kept and known is not None and any(np.array_equal(found.plan, one) for one in known):
            library.fail(found.plan)
    plan = Plan(problem, found, imagined, realised, folder, worlds[0].units)
    with replacing(folder / "plan.json") as file:
        file.write(json.dumps(plan.figures(), indent=1, ensure_ascii=False).encode())
    return plan

"""Worlds with a flaw that pays: does the comparison with the true simulator tell that their returns are none?

In each case a world is the true simulator but for one planted flaw, and a planner looks for the best return
in it, which lies in the flaw. The plan is carried out in the true simulator, and must be flagged
(`sciwm.planning.trial.Trial.loophole`). The same is done in a world without the flaw, which must not
be. Three minutes on one core.

    python scripts/planted_loopholes.py [--seeds 10] [--json_file FILE]
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli

from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.core.units import REDUCED, UnitSystem
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.planning.controls import Knobs
from sciwm.planning.planners import CrossEntropy
from sciwm.planning.problem import Problem, measured_in
from sciwm.planning.search import EXECUTION, Budget, search
from sciwm.planning.trial import Trial
from sciwm.simulation.actions import Action, ConstantForce, UniformField
from sciwm.simulation.collective_variables import (
    CollectiveVariable,
    Distance,
    KineticTemperature,
    Place,
    PotentialEnergy,
    Work,
)
from sciwm.simulation.propagators import Langevin
from sciwm.simulation.simulator import Evaluation, Simulator

Law = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(S,) energies of (S, n, 3) positions and (S, n) charges."""


class Lawful:
    """Forces as the slopes of an energy, in systems of equal size.

    Args:
        told: The energy that is told, where it is another than that of the forces.
        pull: Forces beside these slopes, of positions and velocities.
    """

    units: UnitSystem = REDUCED

    def __init__(
        self,
        law: Law,
        told: Law | None = None,
        pull: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    ):
        self.law, self.told, self.pull = law, told or law, pull

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        with torch.enable_grad():
            x = state.positions.detach().requires_grad_(True)
            points = x.reshape(state.n_systems, -1, 3)
            charges = state.charges.reshape(state.n_systems, -1)
            (slope,) = torch.autograd.grad(self.law(points, charges).sum(), x)
        forces = -slope
        points = state.positions.reshape(state.n_systems, -1, 3)
        if self.pull is not None:
            speeds = state.velocities.reshape(points.shape)
            forces = forces + self.pull(points, speeds).reshape(forces.shape)
        return Evaluation(self.told(points, charges), forces)

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        return {}


def trap(x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return 0.5 * x.square().sum((1, 2))


def bond(x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Two particles on a spring, in a wide trap."""
    return 10.0 * ((x[:, 1] - x[:, 0]).norm(dim=1) - 1.0) ** 2 + 0.1 * trap(x, q)


def repelling(x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return 1.0 / ((x[:, 1] - x[:, 0]).square().sum(1) + 0.01).sqrt() + 0.5 * trap(x, q)


def well(depth: float, place: float, width: float) -> Law:
    """A Gaussian well for the first particle, on the x axis."""

    def energy(x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        away = (x[:, 0, 0] - place) ** 2 + x[:, 0, 1] ** 2 + x[:, 0, 2] ** 2
        return -depth * torch.exp(-0.5 * away / width**2)

    return energy


def barrier(height: float) -> Law:
    def energy(x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return height * (x[:, 0, 0] ** 2 - 1) ** 2 + 2.0 * x[:, 0, 1:].square().sum(1)

    return energy


def both(*laws: Law) -> Law:
    return lambda x, q: torch.stack([law(x, q) for law in laws]).sum(0)


@dataclass(frozen=True)
class Case:
    """A flaw, and what pays in it."""

    name: str
    objective: str
    measures: dict[str, CollectiveVariable]
    truth: Simulator
    world: Simulator
    places: list[float]
    actions: list[Action]
    world_charges: float = 1.0
    """Factor of charges that the world starts with."""


PUSH: list[Action] = [ConstantForce([0], ["-1.5 .. 1.5", 0.0, 0.0])]
FIELD: list[Action] = [UniformField(["-1.5 .. 1.5", 0.0, 0.0])]
X: dict[str, CollectiveVariable] = {"x": Place([0], "x")}
ENERGY: dict[str, CollectiveVariable] = {"energy": PotentialEnergy()}
HEAT: dict[str, CollectiveVariable] = {"heat": KineticTemperature(when="mean")}
APART: dict[str, CollectiveVariable] = {"apart": Distance([0, 1])}


def spinning(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Forces with a curl, which give energy to whatever goes round."""
    return 0.8 * torch.stack([x[..., 1], -x[..., 0], torch.zeros_like(x[..., 0])], dim=-1)


CASES = [
    Case(
        "a false well",
        "minimize energy",
        ENERGY,
        Lawful(trap),
        Lawful(both(trap, well(6.0, 1.2, 0.3))),
        [0.0],
        PUSH,
    ),
    Case(
        "a barrier that is too low",
        "maximize x",
        X,
        Lawful(barrier(4.0)),
        Lawful(barrier(0.6)),
        [-1.0],
        PUSH,
    ),
    Case(
        "a barrier that is missing on one side",
        "maximize x",
        X,
        Lawful(barrier(4.0)),
        Lawful(both(barrier(4.0), well(4.0, 0.0, 0.4))),
        [-1.0],
        PUSH,
    ),
    Case(
        "friction that drives",
        "maximize heat",
        HEAT,
        Lawful(trap),
        Lawful(trap, pull=lambda x, v: 1.2 * v),
        [0.0],
        PUSH,
    ),
    Case(
        "forces that are no slopes",
        "maximize heat",
        HEAT,
        Lawful(trap),
        Lawful(trap, pull=spinning),
        [0.3],
        [ConstantForce([0], ["-1.5 .. 1.5", "-1.5 .. 1.5", 0.0])],
    ),
    Case(
        "energies that are not those of the forces",
        "minimize energy",
        ENERGY,
        Lawful(trap),
        Lawful(trap, told=both(trap, well(8.0, -1.0, 0.3))),
        [0.0],
        PUSH,
    ),
    Case(
        "a trap that ends",
        "maximize x",
        X,
        Lawful(trap),
        Lawful(lambda x, q: 0.5 * (1 - torch.exp(-x.square().sum((1, 2)))).clamp(max=0.6)),
        [0.0],
        PUSH,
    ),
    Case(
        "no repulsion at close range",
        "minimize apart",
        APART,
        Lawful(repelling),
        Lawful(lambda x, q: 0.5 * trap(x, q)),
        [0.8, -0.8],
        PUSH,
    ),
    Case(
        "a bond that does not hold",
        "maximize apart",
        APART,
        Lawful(bond),
        Lawful(lambda x, q: 0.05 * trap(x, q)),
        [0.5, -0.5],
        PUSH,
    ),
    Case(
        "a charge that is too large", "maximize x", X, Lawful(trap), Lawful(trap), [0.0], FIELD, 3.0
    ),
    Case(
        "a pull that is not there",
        "maximize x",
        X,
        Lawful(trap),
        Lawful(both(trap, lambda x, q: -2.0 * x[:, 0, 0])),
        [0.0],
        PUSH,
    ),
    Case(
        "work for nothing",
        "minimize work + 5 * abs(x - 1.5)",
        {"x": Place([0], "x"), "work": Work()},
        Lawful(trap),
        Lawful(lambda x, q: 0.02 * x.square().sum((1, 2))),
        [0.0],
        PUSH,
    ),
]


def start_of(places: list[float], factor: float = 1.0) -> State:
    points = np.zeros((len(places), 3))
    points[:, 0] = places
    count = len(places)
    frame = Frame(
        np.arange(1, count + 1), points, masses=np.ones(count), charges=np.full(count, factor)
    )
    return State.from_frame(frame, torch.float64)


def compared(case: Case, seed: int, flawed: bool) -> Trial:
    """What was predicted in the world, with its flaw or without, and what came of it."""
    objective = Objective.parse(case.objective, measured_in(case.measures, REDUCED))
    factor = case.world_charges if flawed else 1.0

    def problem(start: State) -> Problem:
        return Problem(
            start=start,
            controls=Knobs(case.actions, 8, REDUCED),
            stage=0.5,
            measures=case.measures,
            objective=objective,
            propagator=lambda one: Langevin(one, 0.05, 0.02, 0.2),
            every=5,
            temperature=0.02,
        )

    world = case.world if flawed else case.truth
    budget = Budget(runs=2, finalists=2, trials=16, caution=0.0, seed=seed)
    found = search(
        problem(start_of(case.places, factor)),
        [world],
        CrossEntropy(population=48, rounds=6),
        budget,
    )
    seeds = budget.seeds(EXECUTION, 4)
    return Trial(found, problem(start_of(case.places)).run(case.truth, found.plan[None], seeds))


def main(seeds: int = 10, json_file: str | None = None) -> None:
    """Prints a row for each case.

    Args:
        json_file: Where to write the figures as JSON too.
    """
    print(f"{'':42s}{'predicted':>10s}{'realised':>10s}{'flagged':>9s}{'without flaw':>14s}")
    caught = false = 0
    for case in CASES:
        flawed = [compared(case, seed, True) for seed in range(seeds)]
        clean = [compared(case, seed, False) for seed in range(seeds)]
        flags = sum(one.loophole is not None for one in flawed)
        wrong = sum(one.loophole is not None for one in clean)
        caught += flags == seeds
        false += wrong
        mean = float(np.mean([one.found.mean for one in flawed]))
        true = float(np.nanmean([one.realised.scores for one in flawed]))
        print(
            f"{case.name:42s}{mean:10.3g}{true:10.3g}{flags:6d}/{seeds}{wrong:11d}/{seeds}",
            flush=True,
        )
    print(f"\nflagged with every seed: {caught} of {len(CASES)}; flagged without a flaw: {false}")
    if json_file:
        figures = {
            "loopholes_planted": {"value": len(CASES)},
            "loopholes_flagged": {"value": caught, "seeds": seeds},
            "flagged_without_flaw": {"value": false, "of": seeds * len(CASES)},
        }
        Path(json_file).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    auto_cli(main)

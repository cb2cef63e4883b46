"""Gradients through a motion, against finite differences, and the planner that climbs along them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import sciwm
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.planning.controls import Knobs, Menu
from sciwm.planning.environments.charges import SoftenedCoulomb, pair_law
from sciwm.planning.environments.ions import ions
from sciwm.planning.environments.mixture import mixture
from sciwm.planning.gradients import gradients
from sciwm.planning.ledger import PlanLedger
from sciwm.planning.planners import CrossEntropy, GradientAscent
from sciwm.planning.problem import Problem
from sciwm.planning.search import Budget, search
from sciwm.simulation.actions import ConstantForce, MassChange
from sciwm.simulation.collective_variables import Angle, Place, Property, Torsion, Work
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import Langevin
from sciwm.simulation.simulator import Evaluation, SimulatorError


def differences(problem, simulator, plan, seeds, nudge=1e-5):
    """(stages, size) of the mean return, from runs with each number a little more and less."""
    ways = np.eye(plan.size).reshape(plan.size, *plan.shape) * nudge
    plans = np.concatenate([plan + ways, plan - ways])
    scores = problem.run(simulator, plans, seeds).scores.mean(axis=1)
    return ((scores[: plan.size] - scores[plan.size :]) / (2 * nudge)).reshape(plan.shape)


def gradients_of(problem, simulator, plans, seeds):
    return gradients(problem, simulator, plans, seeds, problem.run(simulator, plans, seeds))


def a_pair_world() -> LearnedSimulator:
    """Forces that no law has, with a neighbour table."""
    torch.manual_seed(1)
    model = pair_law(2).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    model.domain.seen[1] = True
    return LearnedSimulator(model)


@pytest.mark.parametrize("world", [SoftenedCoulomb(), a_pair_world()], ids=["law", "learned"])
@pytest.mark.parametrize("task", [ions, mixture])
def test_slopes_are_what_finite_differences_say(world, task):
    problem = task().problem
    plan = np.random.default_rng(0).uniform(0.2, 0.8, problem.controls.shape)
    found = gradients_of(problem, world, plan[None], [3, 4])[0]
    expected = differences(problem, world, plan, [3, 4])
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("when", ["end", "mean", "least", "most", "change"])
def test_whatever_of_a_motion_counts_has_its_slope(when):
    problem = ions().problem
    measures = {"x": Place([0], "x", when=when), "work": Work()}
    goal = Objective.parse("maximize x * exp(x) - 0.3 * work ** 2", {"x": "", "work": ""})
    problem = replace(problem, measures=measures, objective=goal)
    plan = np.random.default_rng(1).uniform(0.2, 0.8, problem.controls.shape)
    found = gradients_of(problem, SoftenedCoulomb(), plan[None], [0])[0]
    expected = differences(problem, SoftenedCoulomb(), plan, [0])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


class Rigid(SoftenedCoulomb):
    """Forces that leave the graph, as those of a program outside of torch."""

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        with torch.no_grad():
            found = super().evaluate(state)
        return Evaluation(found.energy, found.forces)


def test_forces_without_a_derivative_are_noticed_where_they_matter():
    """Half of a derivative would pass unnoticed: the push counts, what it does to the forces does not."""
    problem = ions().problem
    plan = np.full(problem.controls.shape, 0.6)
    right = gradients_of(problem, SoftenedCoulomb(), plan[None], [0])
    with pytest.raises(ValueError, match="Rigid cannot be differentiated"):
        gradients_of(problem, Rigid(), plan[None], [0])
    assert np.abs(right).max() > 0.01


def turned(when: str):
    """Ethanol in the shipped world, whose hydroxyl group is pushed through 180 degrees."""
    hydroxyl = [8, 2, 1, 0]
    start = State.from_smiles("CCO", dtype=torch.float64)
    atoms = start.to_ase()
    atoms.set_dihedral(*hydroxyl[::-1], 172.0, indices=hydroxyl[:1])
    measures = {"torsion": Torsion(hydroxyl, when=when), "angle": Angle([2, 1, 0], when="mean")}
    problem = Problem(
        start=State.from_ase(atoms, torch.float64),
        controls=Knobs(
            [ConstantForce([8], ["-1 .. 1 eV/Å", "-1 .. 1 eV/Å", "-1 .. 1 eV/Å"])], 2, MOLECULAR
        ),
        stage=10.0,
        measures=measures,
        objective=Objective.parse(
            "maximize torsion + 3 * angle", {"torsion": "deg", "angle": "deg"}
        ),
        propagator=lambda simulator: Langevin(simulator, 0.5, 300.0, 0.01),
        every=5,
        temperature=300.0,
    )
    return problem, LearnedSimulator(sciwm.load("organic").model.double())


@pytest.mark.parametrize("when", ["most", "least", "change"])
def test_a_torsion_has_its_slope_through_the_jump_of_its_degrees(when):
    problem, world = turned(when)
    plan = np.array([[0.9, 0.2, 0.7], [0.6, 0.4, 0.8]])
    seen = problem.run(world, plan[None], [0]).paths["torsion"][:, 0, 0]
    assert np.abs(np.diff(seen)).max() > 300.0
    found = gradients_of(problem, world, plan[None], [0])[0]
    expected = differences(problem, world, plan, [0])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_single_precision_is_near_double():
    problem, world = turned("end")
    single = LearnedSimulator(sciwm.load("organic").model)
    rough = replace(problem, start=State.from_ase(problem.start.to_ase(), torch.float32))
    plan = np.array([[[0.9, 0.2, 0.7], [0.6, 0.4, 0.8]]])
    right = gradients_of(problem, world, plan, [0])
    np.testing.assert_allclose(
        gradients_of(rough, single, plan, [0]), right, atol=2e-3 * np.abs(right).max()
    )


class Fragile(SoftenedCoulomb):
    """Fails where the first particle comes too far to the right."""

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        far = state.positions.reshape(state.n_systems, -1, 3)[:, 0, 0] > 0.0
        if bool(far.any()):
            raise SimulatorError("it broke", int(torch.nonzero(far)[0]))
        return super().evaluate(state, stress)


def test_runs_that_do_not_count_have_no_part():
    problem = ions().problem
    good = np.full(problem.controls.shape, 0.5)
    bad = np.full(problem.controls.shape, 1.0)
    both = np.stack([good, bad])
    returns = problem.run(Fragile(), both, [0])
    assert np.isnan(returns.scores).ravel().tolist() == [False, True]
    found = gradients(problem, Fragile(), both, [0], returns)
    alone = gradients_of(problem, SoftenedCoulomb(), good[None], [0])
    np.testing.assert_allclose(found[0], alone[0])
    assert not found[1].any()
    none = gradients_of(problem, Fragile(), bad[None], [0])
    assert not none.any()


def test_what_has_no_gradient_is_told():
    problem, world = turned("end")
    dipole = replace(
        problem,
        measures={"dipole": Property("dipole")},
        objective=Objective.parse("maximize dipole", {"dipole": "e Å"}),
    )
    plan = np.full((1, 2, 3), 0.5)
    with pytest.raises(ValueError, match=r"measure dipole .Property. cannot be differentiated"):
        gradients_of(dipole, world, plan, [0])
    heavier = replace(problem, always=[MassChange([8], 2.0)])
    with pytest.raises(ValueError, match="of the same particles"):
        gradients_of(heavier, world, plan, [0])


class TestPlanner:
    def test_it_climbs_with_fewer_plans_than_drawing_them_takes(self):
        problem = ions().problem
        law, budget = SoftenedCoulomb(), Budget(runs=1, trials=4, finalists=2)
        climbed = search(problem, [law], GradientAscent(population=4, rounds=16), budget)
        drawn = search(problem, [law], CrossEntropy(population=16, rounds=4, elites=4), budget)
        assert climbed.mean > drawn.mean + 0.1
        assert climbed.mean > climbed.luck + 2.0

    def test_caution_is_in_the_slopes_too(self):
        """The merit of two worlds that disagree, and its derivative."""
        problem = ions().problem
        worlds = [SoftenedCoulomb(), SoftenedCoulomb(0.8)]
        found = search(
            problem,
            worlds,
            GradientAscent(population=2, rounds=1),
            Budget(runs=1, trials=2, finalists=1, caution=0.7),
        )
        first = found.rounds[0]

        def merit(plan):
            means = [problem.run(one, plan[None], [0]).scores.mean() for one in worlds]
            return np.mean(means) - 0.7 * np.std(means, ddof=1)

        way = np.zeros(problem.controls.shape)
        way[2, 1] = 1e-5
        expected = (merit(first.plans[0] + way) - merit(first.plans[0] - way)) / 2e-5
        assert first.gradients[0, 2, 1] == pytest.approx(expected, rel=1e-4)

    def test_it_goes_on_from_its_ledger(self, tmp_path):
        problem = ions().problem
        budget = Budget(runs=1, trials=2, finalists=1)
        shape = problem.controls.shape
        whole = search(problem, [SoftenedCoulomb()], GradientAscent(2, 3), budget)
        path = tmp_path / "search.jsonl"
        half = PlanLedger(path, "one", shape)
        search(problem, [SoftenedCoulomb()], GradientAscent(2, 2), budget, half)
        again = PlanLedger(path, "one", shape)
        assert len(again.rounds) == 2
        rest = search(problem, [SoftenedCoulomb()], GradientAscent(2, 3), budget, again)
        np.testing.assert_array_equal(rest.plan, whole.plan)

    def test_a_menu_has_no_slope(self):
        menu = Menu({"wait": [], "rest": []}, 2, REDUCED)
        with pytest.raises(ValueError, match="a menu has none"):
            GradientAscent().require_fitting(menu)

    def test_a_rate_that_climbs_nowhere_is_refused(self):
        with pytest.raises(ValueError, match="rate"):
            GradientAscent(rate=0.0)

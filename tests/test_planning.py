"""Plans: what may be chosen, how it is searched for, and whether what was promised comes true."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from test_actions import Bonds, Nothing, chain

from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.data.h5md import H5MDFile
from sciwm.discovery.problem.objective.objective import Objective, ObjectiveError
from sciwm.interfaces.planning import PlanJob
from sciwm.planning.controls import Knobs, Menu, written
from sciwm.planning.ledger import PlanLedger, best_so_far
from sciwm.planning.library import ProtocolLibrary
from sciwm.planning.planners import CrossEntropy, PathIntegral, RandomSearch, Round, Tree
from sciwm.planning.problem import Problem, measured_in
from sciwm.planning.search import Budget, interval_of, round_of, search
from sciwm.planning.trial import Trial, below_by_chance, carry_out
from sciwm.simulation.actions import (
    Addition,
    ConstantForce,
    During,
    Frozen,
    Removal,
    SteeredTorsion,
    TemperatureSchedule,
    Trap,
    actions_from,
)
from sciwm.simulation.collective_variables import (
    Angle,
    Distance,
    KineticTemperature,
    Place,
    PotentialEnergy,
    Property,
    Torsion,
    Work,
)
from sciwm.simulation.propagators import Langevin, VelocityVerlet
from sciwm.simulation.references.xtb import GFN2
from sciwm.simulation.rollout.stability import Stability
from sciwm.simulation.simulator import Evaluation, SimulatorError
from sciwm.simulation.velocities import kinetic_energy

PUSH = [ConstantForce([0], ["-1 .. 1", 0.0, 0.0])]


def particle(count=1):
    """At rest at the origin, of mass 1."""
    frame = Frame(np.ones(count, dtype=int), np.zeros((count, 3)), masses=np.ones(count))
    return State.from_frame(frame, torch.float64)


def problem(objective="maximize place", controls=None, start=None, **changes):
    """A free particle that is pushed along x for two units of time."""
    measures = changes.pop("measures", {"place": Place([0], "x"), "work": Work()})
    settings = {
        "start": particle() if start is None else start,
        "controls": controls or Knobs(PUSH, 4, REDUCED),
        "stage": 0.5,
        "measures": measures,
        "objective": Objective.parse(objective, measured_in(measures, REDUCED)),
        "propagator": lambda simulator: VelocityVerlet(simulator, 0.05),
        "every": 5,
    }
    return Problem(**settings | changes)


class TestControls:
    def test_ranges_are_read_with_their_units(self):
        knobs = Knobs(
            [SteeredTorsion([0, 1, 2, 3], "10 fs .. 1 ps", "0.5 .. 8 eV", 180.0, "-60 .. 300")],
            1,
            MOLECULAR,
        )
        found = [(one.low, one.high, one.unit) for one in knobs.ranges]
        assert found == [(10.0, 1000.0, "fs"), (0.5, 8.0, "eV"), (-60.0, 300.0, "")]
        (action,) = knobs.actions(torch.tensor([[[0.0, 1.0, 0.5]], [[1.0, 0.0, 0.25]]]), 5.0)
        assert action.duration.tolist() == [10.0, 1000.0]
        assert action.stiffness.tolist() == [8.0, 0.5]
        assert action.end.tolist() == [120.0, 30.0]
        assert action.begin == 180.0

    @pytest.mark.parametrize(
        ("force", "message"),
        [
            ("1 .. -1", "from the smaller number to the larger"),
            ("-1 .. ", "is no range"),
            ("-1 fs .. 1 fs", "is not a unit of force"),
            ("a .. b", "is no range"),
            ("1 meV/Å .. 2", "has a unit, and '2' has none"),
            (0.5, "nothing to choose"),
            ("1 .. 1", "from the smaller number to the larger"),
        ],
    )
    def test_what_is_no_range_is_refused(self, force, message):
        with pytest.raises(ValueError, match=message):
            Knobs([ConstantForce([0], [force, 0.0, 0.0])], 2, MOLECULAR)

    def test_an_end_that_cannot_be_is_refused(self):
        with pytest.raises(ValueError, match="duration must be positive"):
            Knobs([SteeredTorsion([0, 1, 2, 3], "0 .. 400 fs", 1.0, 0.0, 60.0)], 1, MOLECULAR)

    def test_what_cannot_change_between_stages_is_refused(self):
        with pytest.raises(ValueError, match="take it out of During"):
            Knobs([*PUSH, Frozen([0])], 2, REDUCED)

    def test_a_plan_written_as_actions_does_the_same(self):
        task = problem()
        rng = np.random.default_rng(0)
        plans = rng.random((3, 4, 1))
        together = task.run(Nothing(), plans, [0])
        for k, plan in enumerate(plans):
            content = yaml.safe_load(
                yaml.safe_dump(written(task.controls, torch.tensor(plan), 0.5))
            )
            alone = replace(task, controls=_Written(actions_from(content)))
            found = alone.run(Nothing(), plan[None], [0])
            np.testing.assert_allclose(found.scores[0], together.scores[k], atol=1e-12)

    def test_each_stage_of_a_menu_has_one_thing(self):
        menu = Menu({"wait": [], "push": [ConstantForce([0], [1.0, 0, 0])]}, 3, REDUCED)
        task = problem(controls=menu)
        plans = np.array(list(product([0.2, 0.8], repeat=3)))[..., None]
        found = task.run(Nothing(), plans, [0]).scores[:, 0]
        # Of a push from t to t + 0.5, what is left at 1.5: half a t² and then straight on.
        gains = [0.125 + 0.5 * (1.0 - 0.5 * k) for k in range(3)]
        expected = ((plans[..., 0] > 0.5) * gains).sum(axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert menu.described(torch.tensor(plans[1]))[2] == {"what": "push"}

    def test_a_menu_of_ranges_or_of_one_thing_is_refused(self):
        with pytest.raises(ValueError, match="is a range, but a menu"):
            Menu({"wait": [], "push": PUSH}, 2, REDUCED)
        with pytest.raises(ValueError, match="two things to choose"):
            Menu({"wait": []}, 2, REDUCED)


class _Written:
    """Actions that are given, whatever the plan."""

    stages, size, shape = 4, 1, (4, 1)

    def __init__(self, actions):
        self._actions = actions

    def actions(self, plans, length):
        return self._actions


class TestMeasures:
    def test_each_is_what_its_words_say(self):
        state = State.collate([chain(1), chain(2)])
        found = Bonds().evaluate(state)
        x = state.positions.reshape(2, 4, 3)
        place = Place([1, 3], "y").of(state, found, Bonds())
        assert torch.allclose(place, x[:, [1, 3], 1].mean(1))
        distance = Distance([0, 2]).of(state, found, Bonds())
        assert torch.allclose(distance, (x[:, 2] - x[:, 0]).norm(dim=-1))
        heat = KineticTemperature().of(state, found, Bonds())
        assert torch.allclose(heat, kinetic_energy(state, REDUCED) / 6.0)
        assert torch.equal(PotentialEnergy().of(state, found, Bonds()), found.energy)
        assert not Work().of(state, found, Bonds()).any()
        atoms = state.frame(0)
        bent = Angle([0, 1, 2]).of(state, found, Bonds())
        arms = atoms.positions[[0, 2]] - atoms.positions[1]
        cosine = arms[0] @ arms[1] / np.linalg.norm(arms, axis=1).prod()
        assert float(bent[0]) == pytest.approx(np.degrees(np.arccos(cosine)))

    def test_what_counts_of_a_motion(self):
        path = np.array([[5.0], [1.0], [2.0], [3.0]])
        found = {
            w: float(Work(when=w).over(path)[0]) for w in ("end", "mean", "least", "most", "change")
        }
        assert found == {"end": 3.0, "mean": 2.0, "least": 1.0, "most": 3.0, "change": -2.0}

    def test_a_torsion_has_no_jumps_on_its_way(self):
        path = np.array([[170.0], [179.0], [-175.0]])
        assert float(Torsion([0, 1, 2, 3], when="change").over(path)[0]) == 15.0
        assert float(Torsion([0, 1, 2, 3], when="most").over(path)[0]) == 185.0
        assert float(Torsion([0, 1, 2, 3]).over(path)[0]) == -175.0

    def test_a_property_is_what_the_simulator_observes(self):
        water = State.from_smiles("O", dtype=torch.float64)
        reference = GFN2()
        dipole = Property("dipole").of(water, None, reference)
        assert float(dipole) == pytest.approx(0.47, abs=0.06)  # e Å; GFN2-xTB gives 2.2 D
        with pytest.raises(SimulatorError, match="does not tell the dipole"):
            Property("dipole").of(water, None, Nothing())
        with pytest.raises(ValueError, match="no property of a system"):
            Property("charges")

    def test_words_that_mean_nothing_are_refused(self):
        with pytest.raises(ValueError, match="when is 'ends'; use one of end, mean"):
            Distance([0, 1], when="ends")
        with pytest.raises(ValueError, match="axis is 'w'"):
            Place([0], "w")

    def test_particles_that_do_not_exist_are_refused(self):
        with pytest.raises(
            ValueError, match=r"measure place: Place is of particle 3, but a system has 1"
        ):
            problem(measures={"place": Place([3], "x")})


class TestProblem:
    def test_the_best_push_is_the_strongest_and_its_return_is_newtons(self):
        found = problem().run(Nothing(), np.array([[[1.0]] * 4, [[0.0]] * 4]), [0, 1])
        np.testing.assert_allclose(found.scores, [[2.0, 2.0], [-2.0, -2.0]], atol=1e-12)
        assert found.steps == 4 * 40
        np.testing.assert_allclose(found.paths["work"][-1, 0], 2.0, atol=1e-12)  # force times way

    def test_equal_seeds_share_their_random_numbers_whatever_the_plan(self):
        hot = problem(
            propagator=lambda simulator: Langevin(simulator, 0.05, 1.0, 1.0), temperature=1.0
        )
        half = np.full((2, 4, 1), 0.5)
        half[1, -1] = 0.9
        found = hot.run(Nothing(), half, [3, 4])
        before = found.paths["place"][:7]
        np.testing.assert_array_equal(before[:, 0], before[:, 1])
        assert abs(before[-1, 0, 0] - before[-1, 0, 1]) > 1e-3
        alone = hot.run(Nothing(), half[1:], [4])
        np.testing.assert_allclose(alone.scores[0, 0], found.scores[1, 1], atol=1e-12)

    def test_requirements_that_are_not_met_leave_no_score(self):
        task = problem("minimize work; require place > 1")
        found = task.run(Nothing(), np.array([[[1.0]] * 4, [[0.6]] * 4]), [0])
        assert found.scores[0, 0] == pytest.approx(-2.0)
        assert np.isnan(found.scores[1, 0])
        assert found.broken.tolist() == [[False], [True]]

    def test_a_run_that_ends_early_has_no_score_and_the_others_theirs(self):
        far = problem(start=particle())
        found = far.run(Edge(0.5), np.array([[[1.0]] * 4, [[0.55]] * 4]), [0])
        assert found.reasons[0][0].startswith("left the simulator's domain: beyond")
        assert np.isnan(found.scores[0, 0])
        assert found.scores[1, 0] == pytest.approx(0.2)
        assert np.isnan(found.paths["place"][-1, 0, 0])

    def test_two_goals_and_unknown_names_are_refused(self):
        with pytest.raises(ValueError, match="a plan has one goal"):
            problem("maximize place; minimize work")
        with pytest.raises(ObjectiveError, match="no outcome 'height'"):
            problem("maximize height")

    def test_a_stage_is_a_whole_number_of_steps(self):
        """Or a step would belong to two."""
        with pytest.raises(
            ValueError, match=r"a stage of 0\.49 is no whole number of time steps of 0\.05"
        ):
            problem(stage=0.49).run(Nothing(), np.zeros((1, 4, 1)), [0])

    def test_measures_are_of_the_system_as_it_was_changed(self):
        two = Distance([0, 2])
        more = problem(
            "maximize two",
            start=particle(2),
            measures={"two": two},
            always=[Addition(1, [3.0, 0.0, 0.0], 1.0)],
        )
        assert more.run(Nothing(), np.full((1, 4, 1), 0.5), [0]).scores[0, 0] == pytest.approx(3.0)
        gone = problem(
            "maximize two", start=particle(3), measures={"two": two}, always=[Removal([2])]
        )
        with pytest.raises(ValueError, match="Distance is of particle 2, but a system has 2"):
            gone.run(Nothing(), np.full((1, 4, 1), 0.5), [0])

    def test_the_end_of_a_plan_must_be_looked_at(self):
        with pytest.raises(ValueError, match="ends between two looks"):
            problem(every=7).run(Nothing(), np.zeros((1, 4, 1)), [0])


class Edge(Nothing):
    """Free particles, nothing being known beyond some place."""

    def __init__(self, edge):
        self._edge = edge

    def outside(self, state, evaluation):
        past = torch.nonzero(state.positions[:, 0] > self._edge)[:, 0].tolist()
        return {int(state.batch[k]): f"beyond {self._edge}" for k in past}


class Slope(Nothing):
    """A constant pull on every particle."""

    def __init__(self, pull):
        self._pull = pull

    def evaluate(self, state, stress=False):
        forces = torch.zeros_like(state.positions)
        forces[:, 0] = self._pull
        energy = state.positions.new_zeros(state.n_systems)
        return Evaluation(
            energy.index_add(0, state.batch, -self._pull * state.positions[:, 0]), forces
        )


TARGET = "minimize abs(place - 0.7)"


class TestPlanners:
    @pytest.mark.parametrize("planner", [CrossEntropy(), PathIntegral(population=128)])
    def test_they_find_what_is_wanted_and_random_search_does_not(self, planner):
        found = search(problem(TARGET), [Nothing()], planner)
        null = search(problem(TARGET), [Nothing()], RandomSearch(population=4, rounds=2))
        assert -found.mean < 0.002
        assert -null.mean > 0.01

    def test_many_numbers_are_found_together(self):
        """A resonator is driven best at its own frequency: signs that alternate with it."""
        task = problem(
            "maximize place",
            controls=Knobs(PUSH, 12, REDUCED),
            propagator=lambda simulator: VelocityVerlet(simulator, 0.05),
        )
        found = search(task, [Oscillator(1.0)], CrossEntropy(rounds=20, population=100, elites=10))
        turns = np.sign(np.sin(6.0 - (np.arange(12) * 0.5 + 0.25)))
        best = task.run(Oscillator(1.0), (turns[None, :, None] + 1) / 2, [0]).scores[0, 0]
        assert found.mean > 0.97 * best

    def test_a_tree_finds_the_best_of_all_sequences_without_trying_them_all(self):
        menu = Menu(
            {
                "wait": [],
                "push": [ConstantForce([0], [1.0, 0, 0])],
                "pull": [ConstantForce([0], [-1.0, 0, 0])],
            },
            6,
            REDUCED,
        )
        task = problem("maximize place", controls=menu)
        everything = (np.array(list(product(range(3), repeat=6)))[..., None] + 0.5) / 3
        best = task.run(Oscillator(1.5), everything, [0]).scores.max()
        found = search(task, [Oscillator(1.5)], Tree(population=8, rounds=12))
        assert found.mean == pytest.approx(best, abs=1e-9)
        assert sum(len(one.plans) for one in found.rounds) < 0.2 * len(everything)

    def test_a_tree_ends_when_all_was_tried_and_tries_nothing_twice(self):
        menu = Menu({"wait": [], "push": [ConstantForce([0], [1.0, 0, 0])]}, 3, REDUCED)
        found = search(problem(controls=menu), [Nothing()], Tree(population=3, rounds=9))
        tried = np.concatenate([one.plans for one in found.rounds])
        assert len(np.unique(tried, axis=0)) == len(tried) == 8
        assert found.mean == pytest.approx(0.5 * 1.5**2)

    def test_a_tree_needs_a_menu(self):
        with pytest.raises(ValueError, match="a Tree is for a menu"):
            search(problem(), [Nothing()], Tree())

    def test_settings_that_make_no_sense_are_refused(self):
        with pytest.raises(ValueError, match="elites are two or more of the population"):
            CrossEntropy(population=4, elites=8)
        with pytest.raises(ValueError, match="population"):
            RandomSearch(population=0)

    def test_the_same_seed_finds_the_same_plan(self):
        plans = [
            search(problem(TARGET), [Nothing()], CrossEntropy(rounds=3), Budget(seed=seed)).plan
            for seed in (1, 1, 2)
        ]
        assert np.array_equal(plans[0], plans[1])
        assert not np.array_equal(plans[0], plans[2])


class Oscillator(Nothing):
    """Harmonic, about the origin."""

    def __init__(self, stiffness):
        self._stiffness = stiffness

    def evaluate(self, state, stress=False):
        energy = state.positions.new_zeros(state.n_systems)
        each = 0.5 * self._stiffness * state.positions.square().sum(-1)
        return Evaluation(
            energy.index_add(0, state.batch, each), -self._stiffness * state.positions
        )


def best_round(found):
    """Number of the round that holds the best plan."""
    ranks = [(one.lost[one.order[0]], -one.best) for one in found.rounds]
    return min(range(len(ranks)), key=ranks.__getitem__)


class TestCaution:
    def test_where_worlds_disagree_they_are_not_believed(self):
        """Two worlds agree on pushing left and disagree on pushing right, where their mean is better."""
        worlds = [Sided(0.0), Sided(1.5)]
        bold = search(problem("maximize abs(place)"), worlds, budget=Budget(caution=0.0))
        careful = search(problem("maximize abs(place)"), worlds, budget=Budget(caution=2.0))
        assert bold.plan.mean() > 0.9
        assert careful.plan.mean() < 0.1

    def test_plans_that_fail_rank_behind_all_others(self):
        scores = np.array([[1.0, 2.0], [np.nan, 50.0], [np.nan, np.nan], [-9.0, -9.0]])
        task = problem()
        found = task.run(Nothing(), np.zeros((4, 4, 1)), [0, 1])
        tried = round_of(np.zeros((4, 4, 1)), [replace(found, scores=scores)], 1.0)
        assert tried.order.tolist() == [0, 3, 1, 2]

    def test_rounds_in_which_all_fail_rank_behind_every_other(self):
        """Whatever the sign and size of merits."""
        task = problem("maximize place - 100; require place > 0.9")
        found = search(
            task,
            [Nothing()],
            RandomSearch(population=2, rounds=10),
            Budget(runs=1, finalists=1, trials=1, seed=2),
        )
        assert np.isfinite(found.predicted).all()
        assert best_so_far(found.rounds)[-1] == found.rounds[best_round(found)].best

    def test_a_world_in_which_nothing_works_is_told(self):
        with pytest.raises(ValueError, match="ended early, the first one because: left"):
            search(problem(), [Nothing(), Edge(-9.0)])

    def test_a_plan_that_cannot_work_says_why(self):
        with pytest.raises(
            ValueError, match=r"no plan of 64 comes to anything: 128 runs end without"
        ):
            search(problem("minimize work; require place > 99"), [Nothing()])
        with pytest.raises(ValueError, match="ended early, the first one because: left"):
            search(problem(), [Edge(-9.0)])


class Sided(Nothing):
    """Pulls on what is to the right."""

    def __init__(self, pull):
        self._pull = pull

    def evaluate(self, state, stress=False):
        forces = torch.zeros_like(state.positions)
        forces[:, 0] = self._pull * (state.positions[:, 0] > 0.01)
        return Evaluation(state.positions.new_zeros(state.n_systems), forces)


class TestPrediction:
    def test_the_interval_holds_nine_of_ten_runs_of_the_same_law(self):
        task = problem(
            TARGET, propagator=lambda one: Langevin(one, 0.05, 0.3, 1.0), temperature=0.3
        )
        found = search(
            task, [Nothing()], CrossEntropy(rounds=3), Budget(runs=4, finalists=2, trials=300)
        )
        low, high = found.interval
        true = task.run(Nothing(), found.plan[None], range(10**6, 10**6 + 1000)).scores[0]
        inside = ((true >= low) & (true <= high)).mean()
        assert inside == pytest.approx(0.9, abs=0.05)

    @pytest.mark.parametrize("worlds", [2, 4])
    @pytest.mark.parametrize("apart", [0.0, 1.0, 5.0])
    def test_the_interval_of_several_worlds_holds_nine_of_ten_runs_of_one_more(self, worlds, apart):
        """Their runs together would not, where worlds differ more than runs do."""
        rng = np.random.default_rng(1)
        inside, together = [], []
        for _ in range(1000):
            means = apart * rng.standard_normal((worlds + 1, 1))
            runs = means + rng.standard_normal((worlds + 1, 40))
            low, high = interval_of(runs[:-1])
            inside.append(((runs[-1] >= low) & (runs[-1] <= high)).mean())
            low, high = interval_of(runs[:-1].reshape(1, -1))
            together.append(((runs[-1] >= low) & (runs[-1] <= high)).mean())
        least = 0.82 if (worlds, apart) == (2, 5.0) else 0.87
        assert least < np.mean(inside) < 0.96
        assert (np.mean(together) < 0.87) == (apart > 0)

    def test_the_interval_of_worlds_without_chance_is_about_their_mean(self):
        for runs in ([[0.0] * 20, [10.0] * 20], [[0.1] * 20, [10.3] * 20], [[0.0], [10.0]]):
            low, high = interval_of(np.array(runs))
            assert low < 0.2 < 10.0 < high
        rare = np.zeros((2, 40))
        rare[:, 0] = 100.0
        low, high = interval_of(rare + np.array([[0.0], [10.0]]))
        assert low < 0.0 < 12.5 < high
        assert interval_of(np.full((2, 20), 3.0)) == (3.0, 3.0)

    def test_worlds_that_differ_as_much_as_truth_from_them_have_no_loophole(self):
        task = problem(TARGET)
        found = search(task, [Nothing()])
        rng = np.random.default_rng(0)
        predicted = 0.1 * rng.normal(size=(2, 20)) + [[5.0], [6.0]]
        true = task.run(Nothing(), found.plan[None], range(4))
        wide = replace(found, predicted=predicted, null=np.array([4.9]))
        below = replace(true, scores=np.array([[4.5, 4.6, 4.5, 4.6]]))
        assert Trial(wide, below).loophole is None
        assert Trial(wide, replace(true, scores=below.scores - 50)).loophole is not None

    def test_runs_of_a_search_do_not_predict(self):
        budget = Budget(seed=3)
        seeds = [set(budget.seeds(purpose, 100)) for purpose in range(4)]
        assert len(set.union(*seeds, Budget(seed=4).seeds(0, 100))) == 500


class TestTrial:
    def test_what_is_recorded_is_what_is_measured(self, tmp_path):
        hot = problem(TARGET, propagator=lambda one: Langevin(one, 0.05, 0.3, 1.0), temperature=0.3)
        plan = np.full((4, 1), 0.7)
        there = carry_out(hot, Oscillator(1.0), plan, [5, 6], tmp_path / "true.h5md")
        here = hot.run(Oscillator(1.0), plan[None], [5, 6])
        np.testing.assert_allclose(there.scores, here.scores, atol=1e-12)
        for name in ("place", "work"):
            np.testing.assert_allclose(there.paths[name], here.paths[name], atol=1e-12)
        again = carry_out(hot, Oscillator(1.0), plan, [5, 6], tmp_path / "true.h5md")
        np.testing.assert_array_equal(again.scores, there.scores)
        with pytest.raises(ValueError, match="belongs to another run"):
            carry_out(hot, Oscillator(1.0), plan + 0.1, [5, 6], tmp_path / "true.h5md")

    def test_a_promise_that_is_kept_is_no_loophole(self):
        task = problem(TARGET)
        found = search(task, [Nothing()])
        kept = Trial(found, task.run(Nothing(), found.plan[None], range(4)))
        assert kept.inside == 4
        assert kept.loophole is None

    @pytest.mark.parametrize("runs", [1, 2, 8])
    def test_a_return_that_exists_in_imagination_only_is_flagged(self, runs):
        task = problem("maximize place")
        found = search(task, [Slope(2.0)])
        lost = Trial(found, task.run(Slope(-2.0), found.plan[None], range(runs)))
        assert f"{runs} of {runs} runs of the true simulator are worse" in lost.loophole

    def test_runs_that_fail_are_worse_than_any(self):
        task = problem(TARGET)
        found = search(task, [Nothing()])
        kept = task.run(Nothing(), found.plan[None], range(4))
        scores = kept.scores.copy()
        scores[0, :3] = np.nan
        assert Trial(found, replace(kept, scores=scores)).loophole is not None

    def test_nothing_promised_is_no_division_by_zero(self):
        task = problem(TARGET)
        found = search(task, [Nothing()])
        nothing = replace(found, null=np.array([found.mean]))
        far = task.run(Slope(-2.0), found.plan[None], range(4))
        assert "all of what the plan promised" in Trial(nothing, far).loophole
        unknown = replace(found, null=np.array([np.nan]))
        assert Trial(unknown, far).loophole is not None

    @pytest.mark.parametrize("trials", [8, 20])
    def test_of_honest_worlds_few_plans_are_taken_for_loopholes(self, trials):
        """Predicted and true runs alike: chance alone flags as seldom as it says."""
        task = problem(TARGET)
        found = search(task, [Nothing()])
        rng = np.random.default_rng(0)
        flags, inside = 0, []
        done = task.run(Nothing(), found.plan[None], [0])
        for _ in range(2000):
            alike = replace(
                found,
                predicted=rng.normal(size=(1, trials)),
                null=np.array([-1.0]),
            )
            true = replace(done, scores=rng.normal(size=(1, 4)))
            case = Trial(alike, true)
            flags += case.chance <= 0.02
            low, high = alike.interval
            inside.append(((true.scores >= low) & (true.scores <= high)).mean())
        assert flags / 2000 <= 0.03
        assert np.mean(inside) == pytest.approx({8: 7 / 9, 20: 0.9}[trials], abs=0.02)

    def told(self, predicted, runs, luck=-1.5):
        """Predicted and true runs as given."""
        task = problem(TARGET)
        found = search(task, [Nothing()], RandomSearch(population=2, rounds=1))
        done = task.run(Nothing(), found.plan[None], range(len(runs)))
        said = replace(found, predicted=np.atleast_2d(predicted), null=np.array([luck]))
        return Trial(said, replace(done, scores=np.atleast_2d(runs)))

    def test_runs_that_together_lie_low_are_no_accident(self):
        """None need be far below: four of four at the tenth part of twenty is what ranks tell."""
        predicted, low = np.arange(20.0), np.array([0.2, 1.1, 1.3, 1.7])
        assert self.told(predicted, low).chance < 0.01
        assert below_by_chance(predicted, low) > 0.02
        assert self.told(predicted, np.array([1.1, 5.3, 9.7, 17.2])).chance > 0.2
        # One alone has no ranks.
        assert self.told(predicted, low[:1]).chance == below_by_chance(predicted, low[:1])

    def test_runs_within_a_wide_prediction_may_be_a_loophole_too(self):
        """Of one world; where several differ by as much, what came is what some of them said."""
        wide = np.array([-9.0, *np.linspace(0.0, 1.0, 19)])
        low = np.array([-1.0, -2.0, -1.5, -1.2])
        assert "the 4 runs of the true simulator lie lower" in self.told(wide, low).loophole
        assert self.told(np.stack([wide, wide - 2.5]), low).loophole is None
        # The mean was predicted by a mishap; what came is better.
        worse = np.array([-100.0, *np.linspace(0.0, 1.0, 19)])
        assert self.told(worse, np.array([-1.0, -1.1, -1.2, -1.3])).loophole is None

    @pytest.mark.parametrize(
        ("predicted", "runs"), [(9, 1), (4, 2), (4, 3), (8, 3), (2, 5), (8, 5)]
    )
    def test_runs_of_which_all_are_worse_are_flagged_though_few(self, predicted, runs):
        said = np.linspace(9.0, 10.0, predicted)
        assert self.told(said, np.linspace(0.0, 0.1, runs)).loophole is not None

    def test_an_error_that_costs_little_is_none(self):
        task = problem("maximize place")
        found = search(task, [Slope(0.0)])
        less = Trial(found, task.run(Slope(-0.1), found.plan[None], range(4)))
        assert less.inside == 0
        assert less.loophole is None


class TestLibrary:
    @staticmethod
    def kept(task, truth=None):
        found = search(task, [Nothing()], CrossEntropy(rounds=4))
        return Trial(found, task.run(truth or Nothing(), found.plan[None], range(4)))

    def test_what_proved_itself_is_found_again_and_tried_first(self, tmp_path):
        library = ProtocolLibrary(tmp_path / "protocols.json")
        task = problem(TARGET)
        assert library.related_plans(task) is None
        done = self.kept(task)
        assert library.keep(task, done)
        again = ProtocolLibrary(tmp_path / "protocols.json")
        assert np.array_equal(again.related_plans(task)[0], done.found.plan)
        first = search(
            task, [Nothing()], RandomSearch(population=4, rounds=1), known=again.related_plans(task)
        )
        assert np.array_equal(first.rounds[0].plans[0], done.found.plan)
        assert np.array_equal(first.plan, done.found.plan)

    def test_what_did_not_come_true_is_not_kept(self, tmp_path):
        library = ProtocolLibrary(tmp_path / "protocols.json")
        task = problem("maximize place")
        assert not library.keep(task, self.kept(task, Slope(-9.0)))
        assert not library.keep(task, self.kept(task, Edge(0.3)))
        assert library.protocols == []

    def test_other_particles_and_other_choices_are_not_alike(self, tmp_path):
        library = ProtocolLibrary(tmp_path / "protocols.json")
        task = problem(TARGET)
        library.keep(task, self.kept(task))
        assert library.related(problem(start=particle(2))) == []
        wider = Knobs([ConstantForce([0], ["-2 .. 2", 0.0, 0.0])], 4, REDUCED)
        assert library.related(problem(controls=wider)) == []
        assert library.related(problem(always=[Frozen([0])])) == []
        two = problem(start=particle(2))
        second = problem(
            start=particle(2),
            controls=Knobs([ConstantForce([1], ["-1 .. 1", 0.0, 0.0])], 4, REDUCED),
        )
        library.keep(two, self.kept(two))
        assert library.related(second) == []
        assert len(library.related(problem("maximize place"))) == 1
        longer = problem(TARGET, controls=Knobs(PUSH, 8, REDUCED))
        assert library.related_plans(longer).shape == (1, 8, 1)

    def test_a_trap_that_is_a_little_stiffer_is_alike(self, tmp_path):
        library = ProtocolLibrary(tmp_path / "protocols.json")
        trapped = [problem(TARGET, always=[Trap([0], k, [0.0, 0.0, 0.0])]) for k in (0.1, 0.11)]
        library.keep(trapped[0], self.kept(trapped[0]))
        assert len(library.related(trapped[1])) == 1
        pair = [problem(start=particle(2), always=[Trap([k], 0.1, [0.0] * 3)]) for k in (0, 1)]
        library.keep(pair[0], self.kept(pair[0]))
        assert library.related(pair[1]) == []  # another particle is another thing
        stiffer = [
            problem(TARGET, always=[During(0, 1, [one])])
            for one in (Trap([0], 0.1, [0.0] * 3), ConstantForce([0], [0.1, 0.0, 0.0]))
        ]
        library.keep(stiffer[0], self.kept(stiffer[0]))
        assert library.related(stiffer[1]) == []
        assert library.related(problem(TARGET)) == []

    def test_the_most_alike_comes_first(self, tmp_path):
        library = ProtocolLibrary(tmp_path / "protocols.json")
        for goal in ("maximize place", TARGET, "minimize place"):
            task = problem(goal)
            library.keep(task, self.kept(task))
        found = [one.objective for one in library.related(problem(TARGET))]
        assert found[0] == TARGET
        assert len(found) == 3

    def test_what_fails_more_often_than_it_works_is_dropped(self, tmp_path):
        library = ProtocolLibrary(tmp_path / "protocols.json")
        task = problem(TARGET)
        done = self.kept(task)
        library.keep(task, done)
        library.keep(task, done)  # the same runs are no new evidence
        assert [len(one.worked) for one in library.protocols] == [1]
        others = [
            Trial(done.found, task.run(Slope(-k), done.found.plan[None], [0])) for k in (1, 2)
        ]
        for number, left in ((0, 1), (0, 1), (1, 0)):
            library.fail(task, others[number])
            assert len(ProtocolLibrary(library.path).protocols) == left

    def test_a_file_of_something_else_is_refused(self, tmp_path):
        path = tmp_path / "protocols.json"
        path.write_text('{"a": 1}')
        with pytest.raises(ValueError, match="is no library of protocols"):
            ProtocolLibrary(path)
        path.unlink()
        library, task = ProtocolLibrary(path), problem(TARGET)
        library.keep(task, self.kept(task))
        good = json.loads(path.read_text())
        for change in ({"plan": [[2.0]] * 4}, {"plan": []}, {"time": 0.0}, {"time": "abc"}):
            path.write_text(json.dumps([good[0] | change]))
            with pytest.raises(ValueError, match="is no library of protocols"):
                ProtocolLibrary(path)


class TestLedger:
    def test_rounds_come_back_and_half_a_line_is_none(self, tmp_path):
        path = tmp_path / "search.jsonl"
        ledger = PlanLedger(path, "a", (2, 1))
        one = Round(np.random.default_rng(0).random((3, 2, 1)), np.arange(3.0), np.zeros(3))
        ledger.add(one)
        with path.open("a") as file:
            file.write('{"plans": [[')
        again = PlanLedger(path, "a", (2, 1))
        assert np.array_equal(again.rounds[0].plans, one.plans)
        again.add(one)
        assert len(PlanLedger(path, "a", (2, 1)).rounds) == 2
        with pytest.raises(ValueError, match="belongs to another plan"):
            PlanLedger(path, "b", (2, 1))
        good = path.read_text()
        for spoiled in (
            good.replace("merits", "other"),
            good.replace('"merits": [0.0', '"merits": [NaN'),
            good.replace('"plans": [[[0.', '"plans": [[[7.'),
            good.replace('"lost": [', '"lost": [-1'),
        ):
            assert spoiled != good
            path.write_text(spoiled)
            with pytest.raises(ValueError, match="line 2, is no round of this search"):
                PlanLedger(path, "a", (2, 1))
        path.write_text(good)
        with pytest.raises(ValueError, match="line 2, is no round of this search"):
            PlanLedger(path, "a", (3, 1))


def job(**changes):
    content = {
        "start": "O",
        "time": "10fs",
        "temperature": "300K",
        "actions": [{"ConstantForce": {"particles": [1], "force": ["-0.5 .. 0.5 eV/Å", 0, 0]}}],
        "stages": 2,
        "measure": {"place": {"Place": {"particles": [1], "axis": "x"}}, "work": "Work"},
        "objective": "maximize place",
        "executions": 2,
        "planner": {"CrossEntropy": {"population": 8, "rounds": 3, "elites": 3}},
        "budget": {"runs": 4, "finalists": 2, "trials": 4},
    }
    return {key: value for key, value in (content | changes).items() if value is not None}


class TestCommand:
    @pytest.fixture
    def config(self, tmp_path) -> Path:
        path = tmp_path / "push.yaml"
        path.write_text(yaml.safe_dump(job()))
        return path

    def test_from_a_smiles_to_a_page(self, config, tmp_path, capsys):
        assert main(["plan", str(config), "--folder", str(tmp_path)]) == 0
        folder = tmp_path / "push"
        told = capsys.readouterr().out
        assert "objective: maximize place" in told
        assert re.search(r"realised: .*; \d of 2 as predicted", told)
        page = (folder / "report.html").read_text()
        assert "What was expected, and what came" in page
        assert "Imagined and true motion" in page
        figures = json.loads((folder / "plan.json").read_text())
        assert figures["plans_tried"] == 24
        assert figures["plan"][0].keys() == {"ConstantForce force[0]"}
        assert figures["predicted"] > figures["random_plans"]
        with H5MDFile(folder / "true.h5md") as file:
            assert [one.name for one in file.trajectories] == ["run0", "run1"]
            assert file.trajectories[0].n_frames == 21
        # The plan is a file of actions like any other.
        command = ["simulate", "gfn2", "O", "10fs", "--actions", str(folder / "plan.yaml")]
        assert main([*command, "--dt", "0.5fs", "--out", str(tmp_path / "again.h5md")]) == 0
        again = [*("--library", str(tmp_path / "protocols.json"))]
        assert main(["plan", str(config), "--folder", str(tmp_path), *again]) == 0
        before = (folder / "search.jsonl").read_text()
        assert main(["plan", str(config), "--folder", str(tmp_path)]) == 0
        assert (folder / "search.jsonl").read_text() == before
        more = ["plan", str(config), "--folder", str(tmp_path), "--executions", "3"]
        assert main(more) == 0
        assert len(json.loads((folder / "plan.json").read_text())["realised"]) == 3
        assert (folder / "true.1.h5md").exists()  # what was done before is not lost
        assert main(["plan", str(config), "--folder", str(tmp_path), "--time", "5fs"]) == 2
        assert "belongs to another plan" in capsys.readouterr().err

    @pytest.mark.crash
    def test_a_killed_search_goes_on_and_finds_the_same(self, config, tmp_path):
        command = [sys.executable, "-m", "sciwm", "plan", str(config), "--folder"]
        whole = subprocess.run([*command, str(tmp_path / "a")], capture_output=True, text=True)
        assert whole.returncode == 0, whole.stderr
        broken = subprocess.Popen([*command, str(tmp_path / "b")], stdout=subprocess.DEVNULL)
        ledger = tmp_path / "b/push/search.jsonl"
        while not ledger.exists() or len(ledger.read_text().splitlines()) < 2:
            assert broken.poll() is None
        broken.send_signal(signal.SIGKILL)
        broken.wait()
        again = subprocess.run([*command, str(tmp_path / "b")], capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        for name in ("search.jsonl", "plan.yaml", "plan.json"):
            texts = [(tmp_path / side / "push" / name).read_text() for side in "ab"]
            assert texts[0] == texts[1], name

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"actions": None}, "numbers in `actions`, or things to do from a `menu`"),
            ({"measure": {"place": {"Height": {}}}}, "no measure; there are Angle"),
            ({"measure": {"place": {"Place": {"particles": [9], "axis": "x"}}}}, "particle 9"),
            ({"measure": {"place": {"Place": {"particles": [0], "axis": "q"}}}}, "axis"),
            ({"objective": "maximize place + work"}, "place"),
            ({"planner": {"Luck": {}}}, "no planner; there are CrossEntropy"),
            ({"planner": {"CrossEntropy": {"population": -1}}}, "population"),
            ({"worlds": ["nowhere"]}, "no run folder or model file 'nowhere'"),
            ({"worlds": []}, "needs a world to imagine in"),
            (
                {"actions": [{"ConstantForce": {"particles": [7], "force": ["0 .. 1", 0, 0]}}]},
                "particle 7",
            ),
            ({"time": "1 eV"}, "is not a unit of time"),
            ({"start": "[Xe]"}, "single atom"),
            ({"stages": 3}, "no whole number of time steps"),
        ],
    )
    def test_what_cannot_be_planned_is_told(self, changes, message, tmp_path, capsys):
        path = tmp_path / "bad.yaml"
        path.write_text(yaml.safe_dump(job(**changes)))
        with_status = main(["plan", str(path), "--folder", str(tmp_path)])
        assert with_status == 2
        told = capsys.readouterr().err
        assert re.search(message, told), told
        assert "Traceback" not in told

    def test_a_force_that_tears_the_system_apart_is_told(self, tmp_path, capsys):
        strong = [{"ConstantForce": {"particles": [1], "force": ["900 .. 1000 eV/Å", 0, 0]}}]
        path = tmp_path / "bad.yaml"
        path.write_text(yaml.safe_dump(job(actions=strong)))
        assert main(["plan", str(path), "--folder", str(tmp_path)]) == 2
        assert "ended early, the first one because" in capsys.readouterr().err

    def test_a_schedule_is_chosen_as_a_whole(self):
        told = PlanJob(
            **job(
                actions=[
                    {
                        "TemperatureSchedule": {
                            "times": [0, "10fs"],
                            "temperatures": ["100 .. 900 K", "50 K"],
                        }
                    }
                ],
                stages=1,
                measure={"heat": "KineticTemperature"},
                objective="minimize heat",
                budget=Budget(),
            )
        )
        task = told.problem(State.from_smiles("O"), MOLECULAR)
        assert task.controls.ranges[0].high == 900.0
        (action,) = task.controls.actions(torch.tensor([[[0.5]]]), 10.0)
        assert isinstance(action, TemperatureSchedule)


def test_the_guard_knows_the_hottest_set_point_of_each_system():
    menu = Menu({"cold": [], "hot": [TemperatureSchedule([0.0], [400.0])]}, 2, REDUCED)
    task = problem(
        "maximize place",
        controls=menu,
        propagator=lambda one: Langevin(one, 0.05, 1.0, 1.0),
        temperature=1.0,
    )
    moving, state = task.prepared(Nothing(), np.array([[[0.1], [0.9]], [[0.1], [0.1]]]), [0])
    assert Stability(state, moving)._limits.tolist()[0] == pytest.approx(50 * 1.5 * 400)

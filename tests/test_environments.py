"""Tasks to plan in: their laws, Gymnasium's contract, and worlds that are learned while planning."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sciwm.core.rotations import random_rotation
from sciwm.core.units import REDUCED
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.planning.controls import Menu
from sciwm.planning.environments.annealing import LennardJones, annealing
from sciwm.planning.environments.charges import SoftenedCoulomb
from sciwm.planning.environments.double_well import double_well
from sciwm.planning.environments.ions import ions
from sciwm.planning.environments.landscape import DoubleWell, MullerBrown
from sciwm.planning.environments.mixture import mixture
from sciwm.planning.environments.muller_brown import ANCHORS, muller_brown
from sciwm.planning.environments.torsion import torsion
from sciwm.planning.motions import MotionStore
from sciwm.planning.planners import CrossEntropy, RandomSearch
from sciwm.planning.planners.planner import drawn
from sciwm.planning.practice import Schedule, practise
from sciwm.planning.search import Budget, search
from sciwm.planning.trial import carry_out
from sciwm.simulation.actions import ConstantForce, Removal
from sciwm.simulation.collective_variables import Place, Work
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import VelocityVerlet

TASKS = {"double_well": double_well, "muller_brown": muller_brown, "ions": ions, "mixture": mixture}


class TestLandscapes:
    def test_minima_of_muller_and_brown_are_where_they_said(self):
        """Theor. Chim. Acta 53, 75 (1979), table 1: three minima, energies times a fiftieth."""
        surface = MullerBrown()

        def energy(place):
            return float(surface.evaluate(surface.start(place, ANCHORS)).energy)

        for start, place, height in (
            ((-0.6, 1.4), (-0.558, 1.442), -146.700),
            ((0.6, 0.0), (0.623, 0.028), -108.167),
            ((0.0, 0.5), (-0.050, 0.467), -80.768),
        ):
            found = minimize(energy, start, method="Nelder-Mead", tol=1e-8)
            np.testing.assert_allclose(found.x, place, atol=2e-3)
            assert found.fun == pytest.approx(0.02 * height, abs=1e-4)

    @pytest.mark.parametrize("surface", [MullerBrown(), DoubleWell()])
    def test_moved_turned_and_mirrored_together_nothing_changes(self, surface):
        state = surface.start((0.3, 0.4), ANCHORS)
        here = surface.evaluate(state)
        turn = random_rotation(torch.Generator().manual_seed(0)).double()
        for way in (turn, -turn):
            there = surface.evaluate(state.moved(state.positions @ way.T + 1.7))
            torch.testing.assert_close(there.energy, here.energy)
            torch.testing.assert_close(there.forces, here.forces @ way.T)
        assert here.forces.sum(0).abs().max() < 1e-12
        bent = state.positions.clone()
        bent[0, 0] += 0.1
        assert abs(float(surface.evaluate(state.moved(bent)).energy - here.energy)) > 1e-3

    @pytest.mark.parametrize("law", [MullerBrown(), DoubleWell(), SoftenedCoulomb(0.7)])
    def test_forces_are_the_slopes_of_energies(self, law):
        starts = {SoftenedCoulomb: ions, LennardJones: annealing}
        made = starts.get(type(law))
        state = law.start((0.3, 0.4), ANCHORS) if made is None else made().problem.start
        forces = law.evaluate(state).forces
        for atom, axis in ((0, 0), (0, 1), (1, 0), (2, 1)):
            ends = []
            for step in (1e-5, -1e-5):
                moved = state.positions.clone()
                moved[atom, axis] += step
                ends.append(float(law.evaluate(state.moved(moved)).energy))
            assert -(ends[0] - ends[1]) / 2e-5 == pytest.approx(float(forces[atom, axis]), abs=1e-6)


def test_the_walker_is_as_hot_as_it_should_be():
    """Held particles take no share of the drift that is removed."""
    setting = muller_brown()
    _, state = setting.problem.prepared(setting.truth, np.zeros((1, 10, 2)), range(4000))
    walkers = state.velocities.reshape(-1, 4, 3)[:, 0, :2]
    assert float(walkers.square().mean()) == pytest.approx(0.02, rel=0.05)


class TestTasks:
    @pytest.mark.parametrize("name", TASKS)
    def test_planning_gets_far_more_than_luck(self, name):
        setting = TASKS[name]()
        quick = Budget(runs=1, finalists=2, trials=8)
        found = search(setting.problem, [setting.truth], CrossEntropy(rounds=6), quick)
        luck = search(setting.problem, [setting.truth], RandomSearch(population=8, rounds=1), quick)
        assert found.mean > luck.mean
        assert (found.mean > found.null).mean() > 0.9

    def test_the_force_is_too_weak_to_carry_the_particle_over(self):
        """Pushed to the right all the time it stays, swung it crosses."""
        setting = double_well()
        cold = replace(setting.problem, temperature=None)
        still = cold.run(setting.truth, np.ones((1, 12, 1)), [0])
        assert still.paths["x"][:, 0, 0].max() < 0.0


class TestEnvironment:
    @pytest.fixture
    def environments(self):
        return pytest.importorskip("gymnasium", reason="needs the extra `rl`")

    def made(self, setting, simulator=None):
        from sciwm.planning.environments.motion_env import MotionEnv

        return MotionEnv(setting.problem, simulator or setting.truth, setting.observed)

    @pytest.mark.filterwarnings("ignore:.*Box observation space")  # a place may be anywhere
    @pytest.mark.parametrize("name", TASKS)
    def test_it_keeps_gymnasiums_contract(self, name, environments):
        from gymnasium.utils.env_checker import check_env

        check_env(self.made(TASKS[name]()), skip_render_check=True)

    def test_stage_by_stage_is_the_same_motion_as_the_whole_plan(self, environments):
        setting = muller_brown()
        plan = np.random.default_rng(0).random((10, 2))
        whole = setting.problem.run(setting.truth, plan[None], [7])
        env = self.made(setting)
        env.reset(seed=7)
        start, total = env.worth, 0.0
        for stage in plan:
            seen, reward, over, cut, _ = env.step((2 * stage - 1).astype(np.float64))
            total += reward
        assert over
        assert not cut
        assert start + total == pytest.approx(whole.scores[0, 0], abs=1e-9)
        assert seen[0] == pytest.approx(whole.paths["x"][-1, 0, 0], abs=1e-6)
        assert env.steps == whole.steps
        env.reset(seed=8)
        for stage in plan:
            other, *_ = env.step((2 * stage - 1).astype(np.float64))
        assert abs(other[0] - seen[0]) > 1e-4

    def test_where_a_world_is_not_to_be_trusted_a_motion_is_cut(self, environments):
        class Edge(MullerBrown):
            def outside(self, state, evaluation):
                return {0: "too far"} if float(state.positions[0, 0]) > -0.5 else {}

        env = self.made(muller_brown(), Edge())
        env.reset(seed=0)
        start = env.worth
        for _ in range(10):
            *_, cut, told = env.step(np.array([1.0, 0.0]))
            if cut:
                break
        assert cut
        assert told == {"reason": "left the simulator's domain: too far"}
        assert env.worth == pytest.approx(start)

    def test_a_plan_may_wait(self, environments):
        push = [ConstantForce([0], [1.0, 0.0, 0.0])]
        menu = Menu({"wait": [], "push": push}, 3, REDUCED)
        setting = muller_brown()
        measures = {"x": Place([0], "x"), "work": Work()}
        for always in (setting.problem.always, []):
            both = replace(
                setting.problem,
                controls=menu,
                always=always,
                measures=measures,
                objective=Objective.parse("maximize x - 0 * work", {"x": "", "work": ""}),
            )
            env = self.made(replace(setting, problem=both))
            for choices in ([0, 0, 0], [1, 0, 1]):
                plan = (np.array(choices)[:, None] + 0.5) / 2
                whole = both.run(setting.truth, plan[None], [5]).scores[0, 0]
                env.reset(seed=5)
                for stage in plan:
                    env.step(2 * stage - 1)
                assert env.worth == pytest.approx(whole, abs=1e-9)

    def test_a_goal_that_is_no_number_at_the_start_is_refused(self, environments):
        setting = muller_brown()
        goal = Objective.parse("minimize log(x - 5)", {"x": "", "y": ""})
        env = self.made(replace(setting, problem=replace(setting.problem, objective=goal)))
        with pytest.raises(ValueError, match="is no number where the motion starts"):
            env.reset(seed=0)

    def test_what_no_stage_can_be_rewarded_for_is_refused(self, environments):
        setting = muller_brown()
        goal = Objective.parse("minimize x; require y > 0", {"x": "", "y": ""})
        wrong = replace(setting, problem=replace(setting.problem, objective=goal))
        with pytest.raises(ValueError, match="require y > 0` is about the end"):
            self.made(wrong)
        gone = replace(setting.problem, always=[Removal([3])])
        with pytest.raises(ValueError, match="the same particles"):
            self.made(replace(setting, problem=gone))


class TestPractice:
    @pytest.mark.long
    @pytest.mark.filterwarnings("ignore:no reference_energies")
    def test_a_pair_law_is_learned_from_few_motions_and_planned_with(self, tmp_path):
        """The plan that is found in learned worlds is as good as one found in the true simulator."""
        setting = ions()
        planner = CrossEntropy(rounds=10)
        budget = Budget(runs=1, finalists=2, trials=8)
        schedule = Schedule(first=4, rounds=1, members=2, train_steps=1000, matrix_rate=0.1)
        *first, last = practise(
            setting.problem,
            setting.truth,
            setting.untrained,
            tmp_path / "p",
            planner,
            budget,
            schedule,
        )
        assert [one.found for one in first] == [None] * 4
        assert last.steps == 5 * 100
        true = setting.problem.run(setting.truth, last.plan[None], range(500, 516)).scores
        assert last.found.mean == pytest.approx(true.mean(), abs=0.5)
        best = search(setting.problem, [setting.truth], planner, budget)
        null = float(np.nanmean(best.null))
        assert true.mean() - null > 0.7 * (best.mean - null)

    @pytest.mark.filterwarnings("ignore:no reference_energies")
    def test_motions_of_an_earlier_task_stand_for_those_at_random(self, tmp_path):
        first, second = ions(), ions(target=(1.0, 1.0))
        store = MotionStore(tmp_path / "motions")
        plans = drawn(3, first.problem.controls, np.random.default_rng(0))
        for number, plan in enumerate(plans):
            path = tmp_path / f"{number}.h5md"
            carry_out(first.problem, first.truth, plan, [number], path)
            store.add(first.problem, first.truth, path)
            store.add(first.problem, first.truth, path)  # once is enough
        known = MotionStore(store.folder).of(second.problem, second.truth)
        assert len(known) == 3
        made = practise(
            second.problem,
            second.truth,
            second.untrained,
            tmp_path / "p",
            CrossEntropy(population=16, rounds=2),
            Budget(runs=1, finalists=2, trials=4),
            Schedule(first=4, rounds=1, members=1, train_steps=50),
            experience=known,
        )
        one, two = made
        assert (one.found, one.steps) == (None, 100)  # the fourth
        assert two.found is not None
        assert two.steps == 200

    def test_motions_of_other_simulators_and_particles_are_apart(self, tmp_path):
        task, store = ions(), MotionStore(tmp_path / "motions")
        path = tmp_path / "one.h5md"
        plan = drawn(1, task.problem.controls, np.random.default_rng(0))[0]
        carry_out(task.problem, task.truth, plan, [0], path)
        store.add(task.problem, task.truth, path)
        assert len(store.of(task.problem, SoftenedCoulomb())) == 1
        assert store.of(task.problem, SoftenedCoulomb(0.4)) == []
        assert store.of(mixture().problem, task.truth) == []
        charged = task.problem.start.moved(task.problem.start.positions)
        charged.total_charge = charged.total_charge + 1
        assert store.of(replace(task.problem, start=charged), task.truth) == []
        fewer = replace(task.problem, always=[Removal([0])])
        assert store.of(fewer, task.truth) == []
        with pytest.raises(ValueError, match="particles of this problem are changed"):
            store.add(fewer, task.truth, path)
        nameless = SimpleNamespace(units=task.truth.units)
        with pytest.raises(ValueError, match="no fingerprint"):
            store.of(task.problem, nameless)

    def test_settings_that_make_no_sense_are_refused(self):
        with pytest.raises(ValueError, match="two motions at least"):
            Schedule(first=1)
        with pytest.raises(ValueError, match="matrix_rate"):
            Schedule(matrix_rate=0.0)


class TestAnnealing:
    def test_the_icosahedron_has_the_energy_that_is_known(self):
        """-44.326801, Wales & Doye (1997), from a relaxation of an icosahedron's vertices and its middle."""
        golden = (1 + 5**0.5) / 2
        corners = [(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
        points = np.array([[0.0, 0, 0], *(np.roll(c, k) for c in corners for k in range(3))])
        points *= 1.08 / np.linalg.norm(points[1])
        state = annealing().problem.start

        def energy(x):
            found = LennardJones().evaluate(state.moved(torch.tensor(x.reshape(-1, 3))))
            return float(found.energy), -found.forces.numpy().ravel()

        assert minimize(energy, points.ravel(), jac=True, tol=1e-9).fun == pytest.approx(
            -44.326801, abs=1e-5
        )

    def test_forces_are_the_slopes_of_energies(self):
        TestLandscapes().test_forces_are_the_slopes_of_energies(LennardJones())

    def test_lingering_where_it_freezes_ends_lower_than_a_quench(self):
        setting = annealing()
        slow = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.4, 0.2, 0.0])
        quench = np.array([0.0] * 8)
        plans = np.stack([slow, quench])[..., None]
        found = setting.problem.run(setting.truth, plans, range(48)).scores
        error = np.sqrt((found.var(axis=1) / found.shape[1]).sum())
        assert found[0].mean() > found[1].mean() + 2 * error


def test_the_torsion_starts_gauche_and_the_world_knows_the_molecule():
    setting = torsion()
    found = setting.problem.run(LearnedSimulator(setting.untrained()), np.full((1, 1, 3), 0.5), [0])
    assert abs(found.paths["torsion"][0, 0, 0]) == pytest.approx(60.0, abs=15.0)
    assert np.isfinite(found.scores).all()


def test_energy_is_conserved_among_the_charges():
    problem = mixture().problem
    law = SoftenedCoulomb()
    state = problem.start
    propagator = VelocityVerlet(law, 0.005)
    evaluation = propagator.start(state)
    before = float(evaluation.energy)
    for index in range(400):
        state, evaluation = propagator.advance(state, evaluation, index)
    kinetic = 0.5 * float((state.masses * state.velocities.square().sum(-1)).sum())
    assert kinetic > 0.05
    assert float(evaluation.energy) + kinetic == pytest.approx(before, abs=1e-3)

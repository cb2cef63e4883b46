"""Policies: motions side by side, what an actor and a critic learn from, and learning in imagination."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sciwm.core.state import State
from sciwm.data.h5md import H5MDFile
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.planning.environments.charges import SoftenedCoulomb
from sciwm.planning.environments.double_well import double_well
from sciwm.planning.environments.ions import ions
from sciwm.planning.environments.setting import Setting
from sciwm.planning.episodes import Episodes
from sciwm.planning.policy import (
    ActorCritic,
    Lessons,
    lambda_returns,
    returns_of,
    symexp,
    symlog,
    two_hot,
)
from sciwm.planning.policy_practice import practise_policy
from sciwm.planning.practice import Schedule
from sciwm.planning.search import Budget
from sciwm.simulation.simulator import Evaluation, SimulatorError


@pytest.fixture(scope="module")
def setting() -> Setting:
    return ions()


def episodes_of(setting, simulator=None, **changes) -> Episodes:
    problem = replace(setting.problem, **changes)
    return Episodes(problem, simulator or setting.truth, setting.observed)


class Failing(SoftenedCoulomb):
    """Fails where the first particle of a system comes too far to the right; cannot be trusted below."""

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        far = state.positions.reshape(state.n_systems, -1, 3)[:, 0, 0] > -1.0
        if bool(far.any()):
            raise SimulatorError("it broke", int(torch.nonzero(far)[0]))
        return super().evaluate(state, stress)

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        low = state.positions.reshape(state.n_systems, -1, 3)[:, 0, 0] < -2.0
        return dict.fromkeys(torch.nonzero(low).flatten().tolist(), "too low")


class TestEpisodes:
    def test_stages_one_after_another_come_to_what_the_whole_plan_does(self, setting):
        """Rewards add up to the return, less what standing still is worth; each motion as if alone."""
        plans = np.random.default_rng(0).random((3, *setting.problem.controls.shape))
        seeds = [5, 6, 7]
        episodes = episodes_of(setting)
        episodes.begin(seeds)
        start = episodes.worth.copy()
        earned = sum(episodes.step(plans[:, stage])[1] for stage in range(plans.shape[1]))
        assert episodes.over
        whole = [
            setting.problem.run(setting.truth, plan[None], [seed]).scores[0, 0]
            for plan, seed in zip(plans, seeds, strict=True)
        ]
        np.testing.assert_allclose(start + earned, whole, rtol=1e-9)
        assert np.ptp(whole) > 0.1
        steps = setting.problem.run(setting.truth, plans[:1], [5]).steps
        assert episodes.steps == 3 * steps

    def test_what_cannot_go_on_loses_what_it_gained_and_leaves_the_others_alone(self, setting):
        still = np.full((3, 2), 0.5)
        pushed = np.array([[0.5, 0.5], [1.0, 0.5], [0.0, 0.5]])
        episodes = episodes_of(setting, Failing())
        alone = episodes_of(setting)
        episodes.begin([1, 2, 3])
        alone.begin([1])
        for stage in range(4):
            seen, _ = episodes.step(pushed if stage < 2 else still)
            lonely, _ = alone.step(still[:1])
        assert episodes.reasons == [None, "it broke", "left the simulator's domain: too low"]
        begun = -np.hypot(-1.5 - 1.5, 0.0 - 0.5)
        np.testing.assert_allclose(episodes.worth[1:], begun)
        np.testing.assert_allclose(seen[0], lonely[0], rtol=1e-9)
        assert np.isfinite(seen).all()
        daring = episodes_of(setting, Failing(), daring=True)
        daring.begin([1, 2, 3])
        for _ in range(4):
            daring.step(pushed)
        assert daring.reasons == [None, "it broke", None]

    def test_what_ends_everything_ends_it(self, setting):
        episodes = episodes_of(setting, Failing())
        episodes.begin([1])
        for _ in range(10):
            seen, reward = episodes.step(np.array([[1.0, 0.5]]))
        assert episodes.reasons == ["it broke"]
        assert reward == 0.0
        assert np.isfinite(seen).all()
        agent = ActorCritic(episodes)
        with torch.no_grad():
            agent.policy.net[-1].bias[0] = 5.0  # to the right
            agent.policy.net[-1].bias[2:] = -20.0
        with pytest.raises(ArithmeticError, match="came to its end: it broke"):
            agent.improve([episodes], Lessons(batches=1, motions=4))


class TestNumbers:
    def test_symlog_is_undone(self):
        x = torch.tensor([-1e4, -3.0, -1e-3, 0.0, 0.5, 2e3], dtype=torch.float64)
        torch.testing.assert_close(symexp(symlog(x)), x)
        assert symlog(torch.tensor(1e-4)) == pytest.approx(1e-4, rel=1e-3)

    def test_two_weights_have_the_value_as_their_mean(self):
        bins = symexp(torch.linspace(-5.0, 5.0, 21, dtype=torch.float64))
        values = torch.tensor([[-140.0, -0.3], [0.0, 7.7]], dtype=torch.float64)
        weights = two_hot(values, bins)
        torch.testing.assert_close((weights * bins).sum(-1), values)
        assert bool(((weights > 0).sum(-1) <= 2).all())
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(values))
        nearest = bins[(values[..., None] - bins).abs().argmin(-1)]
        assert not torch.allclose(nearest, values)

    def test_returns_mix_all_horizons(self):
        """Against the sum over n-step returns (Sutton & Barto, equation 12.3)."""
        rewards, values = torch.randn(2, 4, 3, dtype=torch.float64)
        decay, count = 0.7, 4
        found = lambda_returns(rewards, values, decay)
        for t in range(count):
            total = torch.zeros(3, dtype=torch.float64)
            left = count - t
            for n in range(1, left + 1):
                tail = values[t + n - 1] if n < left else 0.0
                weight = (1 - decay) * decay ** (n - 1) if n < left else decay ** (left - 1)
                total += weight * (rewards[t : t + n].sum(0) + tail)
            torch.testing.assert_close(found[t], total)
        torch.testing.assert_close(lambda_returns(rewards, values, 1.0)[0], rewards.sum(0))


class TestLearning:
    def test_it_leads_an_ion_to_its_place(self, setting):
        """From a distance of 3 on the mean at random, with steps of learning that go the right way."""
        episodes = episodes_of(setting)
        agent = ActorCritic(episodes, seed=3)
        judge = episodes_of(setting)
        before = returns_of(agent.policy, judge, range(8)).mean()
        earned = agent.improve([episodes], Lessons(batches=25, motions=64))
        after = returns_of(agent.policy, judge, range(8)).mean()
        assert before < -1.5
        assert after > -0.7
        assert np.mean(earned[-3:]) > np.mean(earned[:3]) + 1.0

    def test_a_return_of_hundredths_is_learned_as_well(self, setting):
        """What a goal is told in makes no difference, such as eV and not meV."""
        found = []
        for scale in ("1.0", "0.01"):
            goal = f"minimize {scale} * sqrt((x - 1.5)**2 + (y - 0.5)**2)"
            objective = Objective.parse(goal, {"x": "", "y": ""})
            episodes = episodes_of(setting, objective=objective)
            agent = ActorCritic(episodes, seed=3)
            agent.improve([episodes], Lessons(batches=25, motions=64))
            found.append(returns_of(agent.policy, episodes, range(8)).mean() / float(scale))
        assert min(found) > -0.7

    def test_equal_seeds_learn_the_same(self, setting):
        found = []
        for seed in (0, 0, 1):
            episodes = episodes_of(setting)
            agent = ActorCritic(episodes, seed)
            agent.improve([episodes], Lessons(batches=2, motions=4))
            found.append(agent.policy.choose(episodes.begin([0])))
        np.testing.assert_array_equal(found[0], found[1])
        assert not np.array_equal(found[0], found[2])

    def test_where_worlds_disagree_a_motion_is_worth_less(self, setting):
        """Two worlds of which one has weaker forces, looked at with caution and without."""
        worlds = [episodes_of(setting), episodes_of(setting, SoftenedCoulomb(2.0))]
        earned = [
            ActorCritic(worlds[0]).improve(worlds, Lessons(1, 8, caution=caution))[0]
            for caution in (0.0, 1.0)
        ]
        assert earned[1] < earned[0] - 0.01
        same = [episodes_of(setting), episodes_of(setting)]
        earned = [
            ActorCritic(same[0]).improve(same, Lessons(1, 8, caution=caution))[0]
            for caution in (0.0, 1.0)
        ]
        assert earned[0] == pytest.approx(earned[1])

    @pytest.mark.parametrize("wrong", [{"batches": 0}, {"learning_rate": 0.0}, {"caution": -1.0}])
    def test_lessons_that_cannot_be_are_refused(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Lessons(**wrong)


@pytest.mark.filterwarnings("ignore:no reference_energies")
def test_it_practises_in_worlds_that_are_learned_on_the_way(tmp_path):
    setting = double_well()
    made = practise_policy(
        setting.problem,
        setting.truth,
        setting.observed,
        setting.untrained,
        tmp_path / "practice",
        Budget(seed=1, trials=8),
        Schedule(first=2, rounds=2, members=2, train_steps=50),
        Lessons(batches=2, motions=4),
    )
    led = list(made)
    each = setting.problem.run(
        setting.truth, np.full((1, *setting.problem.controls.shape), 0.5), [0]
    )
    assert [one.steps for one in led] == [3 * each.steps, 4 * each.steps]
    assert led[0].predicted.shape == (2, 8)
    low, high = led[0].interval
    assert low <= led[0].predicted.mean() <= high
    with H5MDFile(tmp_path / "practice" / "true2.h5md") as file:
        (motion,) = file.trajectories
        assert motion.n_frames == len(next(iter(each.paths.values())))
        frame = motion.frame(3)
    true = setting.truth.evaluate(State.from_frame(frame, torch.float64))
    np.testing.assert_allclose(frame.forces, true.forces, atol=1e-6)
    with pytest.raises(ValueError, match="holds something already"):
        next(
            practise_policy(
                setting.problem,
                setting.truth,
                setting.observed,
                setting.untrained,
                tmp_path / "practice",
                Budget(),
                Schedule(),
                Lessons(),
            )
        )

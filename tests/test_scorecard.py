"""How far a campaign could be trusted, and what it earned, is counted right."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from scipy.stats.contingency import relative_risk

from sciwm.discovery.analysis import scorecard
from sciwm.discovery.analysis.binomial_intervals import Ratio, ratio, share
from sciwm.discovery.analysis.winners_curse import favourites, guarded_favourites
from sciwm.discovery.problem.hypothesis import (
    Candidate,
    Failure,
    Hypothesis,
    Measurement,
    Prediction,
    verdict_of,
)
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.discovery.problem.scoring import merit_of, met


def hypothesis(name, mean, value, *, half=1.0, decision="chosen", **more):
    """One outcome "x", larger is better, with the interval mean ± half."""
    predictions = {
        "x": Prediction(mean, half / 1.645, mean - half, mean + half, more.pop("flag", None))
    }
    measurements = {} if value is None else {"x": Measurement(value)}
    return Hypothesis(
        candidate=Candidate(name, more.pop("proposer", "genetic")), round=more.pop("round", 0),
        decision=decision, predictions=predictions, score=(mean,), measurements=measurements,
        measured_score=() if value is None else (value,), cost=more.pop("cost", 1.0),
        verdict=verdict_of(predictions, measurements), **more,
    )  # fmt: skip


def larger(smiles, values):
    return values["x"][..., None]


# Shares and their ratios


@pytest.mark.parametrize(("k", "n"), [(0, 7), (7, 7), (3, 11), (88, 100), (1, 2000)])
def test_intervals_of_shares_are_those_of_scipy(k, n):
    expected = binomtest(k, n).proportion_ci(0.95, method="exact")
    found = share(k, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_a_share_of_nothing_is_unknown():
    nothing = share(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0.0, 1.0)


def test_more_successes_than_trials_are_refused():
    with pytest.raises(ValueError, match="3 of trials=2"):
        share(3, 2)


def test_a_ratio_of_large_samples_has_the_interval_of_scipy():
    """Koopman's and Katz's intervals differ by terms that vanish with the size of the samples."""
    risk = relative_risk(30_000, 100_000, 10_000, 100_000)
    expected = risk.confidence_interval(0.95)
    found = ratio(share(30_000, 100_000), share(10_000, 100_000))
    assert found.value == pytest.approx(risk.relative_risk)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-3)


def test_koopmans_own_example_has_the_interval_he_printed():
    found = ratio(share(36, 40), share(16, 80))
    assert (found.low, found.high) == pytest.approx((2.94, 7.15), abs=0.005)


def test_turning_a_ratio_over_turns_its_interval_over():
    first, second = share(9, 14), share(2, 11)
    found, turned = ratio(first, second), ratio(second, first)
    assert turned.low == pytest.approx(1 / found.high, rel=1e-7)
    assert turned.high == pytest.approx(1 / found.low, rel=1e-7)


def held(interval, p, q, m, n):
    """How often the interval of a ratio of shares holds the truth, by all outcomes there are."""
    chances = np.outer(binom.pmf(range(m + 1), m, p), binom.pmf(range(n + 1), n, q))
    found = 0.0
    for (x, y), chance in np.ndenumerate(chances):
        low, high = interval(x, m, y, n)
        found += chance * (low <= p / q <= high)
    return found


def koopman(x, m, y, n):
    found = ratio(share(x, m), share(y, n))
    return found.low, found.high


def katz(x, m, y, n):
    """The textbook's interval, which says that a ratio with a zero has no error."""
    if x == 0 or y == 0:
        return (0.0, 0.0) if x == 0 else (math.inf, math.inf)
    expected = relative_risk(x, m, y, n).confidence_interval(0.95)
    return expected.low, expected.high


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.15), (0.2, 0.1), (0.3, 0.3)])
def test_intervals_of_ratios_hold_the_truth_as_often_as_they_say(p, q):
    assert 0.935 < held(koopman, p, q, 20, 12) < 0.985


def test_the_check_of_intervals_finds_one_that_fails_on_zeros():
    assert held(katz, 0.5, 0.15, 20, 12) < 0.9


def test_ratios_with_zeros_are_bounded_on_the_side_that_is_known():
    some, none = share(6, 20), share(0, 10)
    assert ratio(some, none).value == math.inf
    assert 0 < ratio(some, none).low < math.inf
    assert ratio(some, none).high == math.inf
    assert ratio(none, some).value == 0
    assert ratio(none, some).low == 0
    assert 0 < ratio(none, some).high < math.inf
    for first, second in ((none, none), (some, share(0, 0))):
        assert (ratio(first, second).low, ratio(first, second).high) == (0.0, math.inf)
        assert math.isnan(ratio(first, second).value)


def test_a_ratio_of_certainties_is_one():
    found = ratio(share(8, 8), share(8, 8))
    assert found.value == 1
    assert 0 < found.low < 1 < found.high < math.inf
    assert isinstance(found, Ratio)


# Coverage


def test_coverage_counts_what_lies_inside_its_interval():
    many = [hypothesis("a", 0, 0.5), hypothesis("b", 0, -1.0), hypothesis("c", 0, 1.1)]
    found = scorecard.coverage([*many, hypothesis("d", 0, None)], ["x"])
    assert (found.successes, found.trials) == (2, 3)


def test_outcomes_of_one_molecule_are_one_trial():
    both = hypothesis("a", 0, 0.5)
    both.predictions["y"] = Prediction(0, 1, -1, 1)
    both.measurements["y"] = Measurement(5.0)
    found = scorecard.coverage([both], ["x", "y"])
    assert (found.successes, found.trials) == (0.5, 1)


def test_intervals_without_ends_hold_everything_and_are_counted():
    wide = hypothesis("a", 0, 1e9, half=math.inf)
    assert scorecard.coverage([wide], ["x"]).successes == 1
    assert scorecard.unbounded([wide, hypothesis("b", 0, 0)], ["x"]) == 1


@pytest.mark.parametrize(("mean", "value"), [(math.nan, 0.0), (0.0, math.nan)])
def test_what_is_unknown_is_not_judged(mean, value):
    found = [hypothesis("a", mean, value)]
    assert scorecard.coverage(found, ["x"]).trials == 0
    assert len(scorecard.z_scores(found, "x")) == 0
    assert favourites(found, larger, ["x"]).outside.trials == 0


def test_z_scores_of_a_model_that_knows_its_errors_are_normal():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=2000)
    many = [hypothesis(str(k), 0.0, 2.0 * e, half=1.645 * 2.0) for k, e in enumerate(errors)]
    z = scorecard.z_scores(many, "x")
    assert z.std() == pytest.approx(1.0, abs=0.05)
    assert scorecard.coverage(many, ["x"]).low < 0.9 < scorecard.coverage(many, ["x"]).high
    boastful = [hypothesis(str(k), 0.0, 2.0 * e, half=1.645) for k, e in enumerate(errors)]
    assert scorecard.z_scores(boastful, "x").std() > 1.8
    assert scorecard.coverage(boastful, ["x"]).high < 0.9


def test_noise_of_the_measurement_belongs_to_the_spread():
    noisy = hypothesis("a", 0.0, 5.0, half=1.645 * 3.0)
    noisy.measurements["x"] = Measurement(5.0, 4.0)
    assert scorecard.z_scores([noisy], "x") == pytest.approx([1.0])


# Ranks, hits, enrichment


def test_dominators_of_one_goal_are_ranks_and_of_two_goals_spare_the_front():
    assert scorecard.dominators(np.array([[3.0], [1.0], [2.0], [3.0]])).tolist() == [0, 3, 2, 0]
    corners = np.array([[0.0, 2.0], [2.0, 0.0], [1.0, 1.0], [0.5, 0.5], [0.0, 0.0]])
    assert scorecard.dominators(corners).tolist() == [0, 0, 0, 1, 4]


def test_a_tenth_of_what_was_measured_is_a_hit():
    many = [hypothesis(str(k), 0.0, float(k)) for k in range(40)]
    assert scorecard.hits(many) == {"36", "37", "38", "39"}


def test_enrichment_counts_failures_of_both_groups():
    chosen = [hypothesis(f"c{k}", 0.0, 100.0 + k) for k in range(3)]
    chosen += [hypothesis("lost", 0.0, None, failure=Failure("embedding", "no structure"))]
    controls = [hypothesis(f"r{k}", 0.0, float(k), decision="control") for k in range(27)]
    waiting = [hypothesis("waits", 0.0, None, cost=0.0)]
    found = scorecard.enrichment([*chosen, *controls, *waiting])
    assert (found.chosen.successes, found.chosen.trials) == (3, 4)
    assert (found.controls.successes, found.controls.trials) == (0, 27)
    assert found.ratio.low > 1


def test_choosing_at_random_enriches_nothing():
    rng = np.random.default_rng(1)
    many = [
        hypothesis(str(k), 0.0, rng.normal(), decision="control" if k % 3 else "chosen")
        for k in range(300)
    ]
    found = scorecard.enrichment(many).ratio
    assert found.low < 1 < found.high


# Favourites


def test_a_favourite_below_its_interval_is_worse_than_promised_and_above_it_only_outside():
    many = [hypothesis("low", 9.0, 1.0), hypothesis("high", 8.0, 15.0)]
    many += [hypothesis(str(k), 0.1 * k, 0.1 * k) for k in range(8)]
    found = favourites(many, larger, ["x"])
    assert found.smiles == ("low", "high")
    assert (found.worse.successes, found.outside.successes) == (1, 2)


def test_where_less_is_better_worse_means_above():
    def smaller(smiles, values):
        return -values["x"][..., None]

    many = [hypothesis("high", -9.0, 1.0), *[hypothesis(str(k), k, k) for k in range(1, 5)]]
    for one in many:
        object.__setattr__(one, "measured_score", (-one.measurements["x"].value,))
    found = favourites(many, smaller, ["x"])
    assert found.smiles == ("high",)
    assert found.worse.successes == 1


def test_near_a_target_either_end_may_be_the_worst():
    def near(smiles, values):
        return -abs(values["x"] - 5.0)[..., None]

    for value, worse in ((5.0, 0), (4.1, 0), (3.0, 1), (7.0, 1)):
        one = hypothesis("a", 5.0, value)
        object.__setattr__(one, "measured_score", (-abs(value - 5.0),))
        assert favourites([one], near, ["x"]).worse.successes == worse


def test_the_guard_passes_over_the_unsure_and_the_flagged():
    unsure = hypothesis("unsure", 9.0, 0.0, half=20.0)
    flagged = hypothesis("flagged", 8.0, 0.0, flag="outside the domain")
    sound = [hypothesis(str(k), 1.0 + k, 1.0 + k) for k in range(8)]
    many = [unsure, flagged, *sound]
    assert favourites(many, larger, ["x"]).smiles == ("unsure", "flagged")
    assert favourites(many, larger, ["x"]).outside.successes == 1
    guarded = guarded_favourites(many, larger, ["x"])
    assert guarded.smiles == ("7", "6")
    assert guarded.outside.successes == 0


def test_promises_without_bounds_are_never_worse():
    wide = hypothesis("a", 9.0, -1e9, half=math.inf)
    found = favourites([wide], larger, ["x"])
    assert (found.worse.successes, found.outside.successes) == (0, 0)


# What outcomes are worth


OBJECTIVE = Objective.parse(
    "maximize x; minimize heavy_atoms; require x < 5", {"x": "", "heavy_atoms": ""}
)


def test_merit_knows_descriptors_and_requirements():
    values = {"x": np.array([1.0, 9.0, math.nan])}
    found = merit_of(OBJECTIVE)(["CCO", "C", "CC"], values)
    assert found[0].tolist() == [1.0, -3.0]
    assert found[1].tolist() == [-math.inf, -math.inf]
    assert np.isnan(found[2]).all()


def test_what_breaks_a_requirement_is_never_best():
    objective = Objective.parse("maximize x; require x < 5", {"x": ""})
    many = [hypothesis("C", 1.0, 9.0), hypothesis("CC", 1.0, 4.0), hypothesis("O", 1.0, None)]
    assert scorecard.ranked(many)[0].candidate.smiles == "C"
    found = met(many, objective)
    assert [h.candidate.smiles for h in scorecard.ranked(found)] == ["CC"]
    assert found[0].measurements == many[0].measurements
    assert met([], objective) == []


# What it cost


def test_proposers_are_credited_with_their_hits_and_costs():
    many = [hypothesis(str(k), 0.0, float(k), proposer="library", cost=2.0) for k in range(19)]
    many += [hypothesis("best", 0.0, 99.0, proposer="genetic", cost=10.0)]
    many += [hypothesis("bad", 0.0, None, proposer="genetic", decision="rejected", cost=0.0)]
    first, second = scorecard.earnings(many)
    assert (first.proposer, first.asked, first.rejected, first.measured) == ("genetic", 2, 1, 1)
    assert first.hits_per_second == pytest.approx(0.1)
    assert (second.hits, second.seconds) == (1, 38.0)


def test_progress_counts_failed_runs_and_never_falls():
    many = [
        hypothesis("a", 0, None, cost=3.0, failure=Failure("calculation", "did not converge")),
        hypothesis("b", 0, 2.0),
        hypothesis("c", 0, 1.0),
        hypothesis("d", 0, None, cost=0.0),
        hypothesis("e", 0, 5.0),
    ]
    seconds, best = scorecard.progress(many)
    assert seconds.tolist() == [3.0, 4.0, 5.0, 6.0]
    assert np.array_equal(best, [math.nan, 2.0, 2.0, 5.0], equal_nan=True)


def test_nothing_gives_nothing():
    assert scorecard.ranked([]) == []
    assert scorecard.front([]) == []
    assert scorecard.hits([]) == set()
    assert scorecard.earnings([]) == []
    assert scorecard.failures([]) == {}
    assert all(len(part) == 0 for part in scorecard.progress([]))
    assert math.isnan(scorecard.enrichment([]).ratio.value)
    assert favourites([], larger, ["x"]).smiles == ()
    assert guarded_favourites([], larger, ["x"]).smiles == ()

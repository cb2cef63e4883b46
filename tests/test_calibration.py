"""Intervals hold the share of measurements that they promise, whatever the model says of itself."""

import numpy as np
import pytest
from scipy.stats import binom

from sciwm.discovery.surrogate.calibration import AdaptiveConformal, Conformal

N = 2000


def stream(seed, boast, n=N, drift=False):
    """Predictions whose true errors are `boast` times the stated spread, growing where they drift."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.1, 2.0, n)
    mean = rng.normal(size=n)
    worse = np.linspace(1, 6, n) if drift else 1.0
    return mean, spread, mean + boast * worse * spread * rng.standard_t(4, n)


def covered(intervals, mean, spread, measured):
    lower, upper = intervals.interval(mean, spread)
    return float(np.mean((lower <= measured) & (measured <= upper)))


class Uncalibrated:
    """Believes the model. Proof that the checks below can fail."""

    def interval(self, mean, spread):
        return mean - 1.6449 * spread, mean + 1.6449 * spread

    def update(self, mean, spread, measured):
        pass


def in_limits(share, n=N):
    # Twice the binomial limits, for the calibration set is as large as the test set.
    low, high = binom.ppf([0.0005, 0.9995], n, 0.9) / n
    return 0.9 - 1.5 * (0.9 - low) < share < 0.9 + 1.5 * (high - 0.9)


@pytest.mark.parametrize("boast", [0.3, 1.0, 5.0])
def test_intervals_cover_nine_of_ten_however_wrong_the_stated_spread(boast):
    intervals = Conformal()
    intervals.update(*stream(0, boast))
    assert in_limits(covered(intervals, *stream(1, boast)))


@pytest.mark.parametrize("boast", [0.3, 5.0])
def test_an_uncalibrated_model_fails_the_same_check(boast):
    assert not in_limits(covered(Uncalibrated(), *stream(1, boast)))


def rolled(intervals, predictions, batch=10):
    """Share covered along a stream, each batch before it is learnt."""
    found = []
    for start in range(0, len(predictions[0]), batch):
        part = [array[start : start + batch] for array in predictions]
        found.append(covered(intervals, *part))
        intervals.update(*part)
    return np.mean(found[10:])


@pytest.mark.parametrize("boast", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("batch", [1, 50])
def test_the_adaptive_form_covers_nine_of_ten_along_the_stream(boast, batch):
    assert in_limits(rolled(AdaptiveConformal(), stream(1, boast), batch))


def test_one_large_batch_of_misses_does_not_throw_the_adaptive_level_off():
    intervals = AdaptiveConformal()
    intervals.seed(*stream(0, 1.0, n=100))
    intervals.update(*stream(1, 5.0))
    assert covered(intervals, *stream(2, 5.0)) == pytest.approx(0.9, abs=0.06)


def test_a_drifting_stream_is_followed_by_the_adaptive_form_and_not_by_the_other():
    drifting = stream(2, 1.0, drift=True)
    adaptive, fixed = AdaptiveConformal(), Conformal()
    adaptive.seed(*stream(3, 1.0, n=100))
    fixed.update(*stream(3, 1.0, n=100))
    fixed.update = lambda *_: None  # calibrated once
    assert abs(rolled(adaptive, drifting) - 0.9) < 0.025
    assert rolled(fixed, drifting) < 0.75


def test_coverage_averages_over_calibrations_to_at_least_the_level():
    shares = []
    for seed in range(400):
        intervals = Conformal()
        intervals.update(*stream(seed, 2.0, n=19))
        shares.append(covered(intervals, *stream(seed + 1000, 2.0, n=200)))
    # Rank 18 of 19 residuals: exactly 18/20 on average (Vovk).
    assert np.mean(shares) == pytest.approx(0.9, abs=0.012)


@pytest.mark.parametrize("intervals", [Conformal(), AdaptiveConformal()])
def test_too_few_residuals_give_wide_intervals_and_never_infinite_ones(intervals):
    lower, upper = intervals.interval(np.zeros(1), np.ones(1))
    assert upper[0] == -lower[0] == pytest.approx(3 * 1.6449, rel=1e-3)
    intervals.update(np.zeros(3), np.ones(3), np.array([0.0, np.nan, 20.0]))
    lower, upper = intervals.interval(np.zeros(1), np.ones(1))
    assert upper[0] == 30.0


def test_intervals_have_a_width_even_of_a_model_that_was_always_right():
    for intervals in (Conformal(smallest=0.01), AdaptiveConformal(smallest=0.01)):
        intervals.update(np.ones(50), np.zeros(50), np.ones(50))
        lower, upper = intervals.interval(np.ones(1), np.zeros(1))
        assert lower[0] < 1 < upper[0]


def test_misses_widen_and_hits_narrow():
    intervals = AdaptiveConformal(rate=0.1)
    intervals.seed(np.zeros(60), np.ones(60), np.linspace(0, 2, 60))
    before = intervals.interval(np.zeros(1), np.ones(1))[1][0]
    intervals.update(np.zeros(1), np.ones(1), np.array([9.0]))
    missed = intervals.interval(np.zeros(1), np.ones(1))[1][0]
    assert missed > before
    for _ in range(30):
        intervals.update(np.zeros(1), np.ones(1), np.zeros(1))
    assert intervals.interval(np.zeros(1), np.ones(1))[1][0] < before


def test_a_prediction_that_is_unknown_has_no_interval():
    lower, upper = Conformal().interval(np.array([np.nan]), np.ones(1))
    assert np.isnan(lower).all()
    assert np.isnan(upper).all()


def test_a_level_outside_zero_and_one_is_refused():
    with pytest.raises(ValueError, match="level=90"):
        Conformal(level=90)

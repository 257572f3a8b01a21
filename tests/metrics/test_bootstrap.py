"""Intervals of means: against SciPy's, against what can be worked out, and how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from expportrait.metrics.bootstrap import interval


def test_it_agrees_with_an_independent_one():
    values = np.random.default_rng(1).gamma(2, 1, 25)
    for confidence in (0.9, 0.95):
        theirs = stats.bootstrap(
            (values,), np.mean, confidence_level=confidence, n_resamples=20_000, method="percentile",
            rng=np.random.default_rng(3),
        ).confidence_interval  # fmt: skip
        np.testing.assert_allclose(interval(values, confidence), theirs, atol=0.02 * values.std())


def test_two_pairs_can_be_worked_out():
    """The mean is one value, the middle or the other: 1/4, 1/2, 1/4."""
    assert interval([1, 3], 0.95) == (1, 3)
    assert interval([1, 3], 0.4) == (2, 2)


def test_it_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = [low <= 5 <= high for low, high in (interval(rng.normal(5, 2, 30), resamples=1000) for _ in range(400))]
    assert 0.89 < np.mean(inside) < 0.98


def test_it_shrinks_with_more_pairs_and_repeats_itself():
    values = np.random.default_rng(0).normal(size=400)
    few, many = interval(values[:25]), interval(values)
    assert (many[1] - many[0]) < 0.4 * (few[1] - few[0])
    assert interval(values) == many and interval(values, seed=1) != many


def test_pairs_without_a_number_are_left_out():
    assert interval([1, np.nan, 3, 2]) == interval([1, 3, 2])
    assert interval([1, np.nan]) is None and interval([]) is None
    assert interval([2, 2, 2]) == pytest.approx((2, 2))


def test_differences_of_the_same_pairs_are_surer_than_two_means():
    """A method better by 0.1 everywhere, on pairs that differ by far more."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 3, 40)
    a, b = hard + rng.normal(0, 0.05, 40), hard + 0.1 + rng.normal(0, 0.05, 40)
    assert interval(a)[1] > interval(b)[0] and interval(b - a)[0] > 0.05

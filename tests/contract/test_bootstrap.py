import numpy as np
import pytest
from scipy.stats import binom, bootstrap, norm, t

from contract import bootstrap as room
from contract.bootstrap import mean_ci95, tail_level


def test_as_scipy_at_the_same_level():
    values = np.random.default_rng(0).beta(8, 2, 60)
    level = 1 - 2 * tail_level(values.size)
    expected = bootstrap(
        (values,), np.mean, n_resamples=20000, confidence_level=level, method="percentile",
        random_state=1,
    ).confidence_interval  # fmt: skip
    assert mean_ci95(values, resamples=20000) == pytest.approx(tuple(expected), abs=2e-3)


def test_width_is_that_of_the_mean():
    values = np.random.default_rng(0).normal(size=1000)
    low, high = mean_ci95(values)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 1000**0.5, rel=0.1)


def test_equal_cases_leave_no_doubt():
    assert mean_ci95(np.full(10, 0.75)) == (0.75, 0.75)


def test_the_seed_decides():
    values = np.linspace(0, 1, 20)
    assert mean_ci95(values, seed=3) == mean_ci95(values, seed=3)
    assert mean_ci95(values, seed=3) != mean_ci95(values, seed=4)


def test_drawing_in_rounds_changes_nothing(monkeypatch):
    values = np.linspace(0, 1, 20)
    at_once = mean_ci95(values, resamples=501)
    monkeypatch.setattr(room, "DRAWN_AT_ONCE", 100)
    assert mean_ci95(values, resamples=501) == at_once


@pytest.mark.parametrize("cases", [2, 3, 5, 10, 50, 1000])
def test_the_level_makes_the_normal_interval_as_wide_as_students(cases):
    """Resampled means of n cases have the standard deviation s sqrt((n - 1) / n) / sqrt(n)."""
    half_width = norm.isf(tail_level(cases)) * ((cases - 1) / cases) ** 0.5
    if cases > 2:  # at 2 cases the level is 1e-70 and the ends are the two values
        assert half_width == pytest.approx(t.isf(0.025, cases - 1), rel=1e-6)
    assert 0 <= tail_level(cases) < 0.025


def test_one_case_is_its_own_interval():
    assert mean_ci95(np.array([0.5])) == (0.5, 0.5)


def binomial_interval(ones: int, cases: int) -> tuple[float, float]:
    """Exactly the bootstrap's interval of cases that are 0 or 1: resampled sums are binomial."""
    tail = tail_level(cases)
    low, high = binom.ppf([tail, 1 - tail], cases, ones / cases) / cases
    return float(low), float(high)


@pytest.mark.parametrize(("ones", "cases"), [(7, 10), (13, 20), (45, 60)])
def test_of_zeros_and_ones_the_interval_is_binomial(ones, cases):
    values = np.repeat([1.0, 0.0], [ones, cases - ones])
    expected = binomial_interval(ones, cases)
    # A level that falls on a step of the distribution may land on either side of it.
    assert mean_ci95(values, resamples=40_000) == pytest.approx(expected, abs=1 / cases + 1e-9)


@pytest.mark.parametrize("cases", [10, 20, 50])
def test_coverage_in_closed_form(cases):
    """Sum over all outcomes of their probability where the interval holds the true mean."""
    ones = np.arange(cases + 1)
    intervals = [binomial_interval(k, cases) for k in ones]
    true_means = np.linspace(0.35, 0.65, 31)
    coverage = [
        sum(binom.pmf(k, cases, mean) for k in ones if intervals[k][0] <= mean <= intervals[k][1])
        for mean in true_means
    ]
    assert np.mean(coverage) > 0.94


def test_five_normal_cases_are_covered_and_plain_percentiles_would_not_be():
    random = np.random.default_rng(3)
    ours, plain = 0, 0
    for _ in range(400):
        values = random.normal(size=5)
        low, high = mean_ci95(values, resamples=1000)
        ours += low <= 0 <= high
        means = values[random.integers(5, size=(1000, 5))].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        plain += low <= 0 <= high
    assert plain / 400 < 0.88
    assert ours / 400 > 0.90


def test_a_case_per_group_is_no_group():
    values = np.random.default_rng(0).normal(size=30)
    backwards = mean_ci95(values, groups=np.arange(30)[::-1])
    assert backwards == pytest.approx(mean_ci95(values), abs=0.1)
    assert mean_ci95(values, groups=np.arange(30)) == mean_ci95(values)


def test_copies_of_cases_in_their_groups_are_worth_no_more_than_the_groups():
    values = np.random.default_rng(0).normal(size=12)
    copied, groups = np.repeat(values, 5), np.repeat(np.arange(12), 5)
    assert mean_ci95(copied, groups=groups) == pytest.approx(mean_ci95(values))
    low, high = mean_ci95(copied)
    narrow = mean_ci95(values)
    assert high - low < 0.6 * (narrow[1] - narrow[0])


def test_a_large_group_weighs_by_its_cases():
    # Of two groups, both are drawn half of the time, each twice a quarter of it.
    values, groups = np.array([1.0, 1, 1, 0]), np.array([7, 7, 7, 2])
    low, high = mean_ci95(values, groups=groups)
    assert (low, high) == (0, 1)


def test_groups_are_covered_where_cases_are_not():
    """Of 400 sets of 15 groups with 6 alike cases each, how many intervals hold the truth."""
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(15), 6)
    held = {"by case": 0, "by group": 0}
    for _ in range(400):
        values = np.repeat(random.normal(size=15), 6) + 0.5 * random.normal(size=90)
        for name, by in (("by case", None), ("by group", groups)):
            low, high = mean_ci95(values, groups=by, resamples=400)
            held[name] += low <= 0 <= high
    assert held["by group"] / 400 > 0.91
    assert held["by case"] / 400 < 0.75

import numpy as np
import pytest
from scipy.stats import bootstrap

from contract import bootstrap as room
from contract.bootstrap import mean_ci95


def test_as_scipy():
    values = np.random.default_rng(0).beta(8, 2, 60)
    expected = bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", random_state=1
    ).confidence_interval
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

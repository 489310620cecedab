import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test

from contract import paired as room
from contract.metrics import summarise
from contract.paired import EXACT_UP_TO, paired_difference, sign_flip_test


@pytest.mark.parametrize("cases", [1, 2, 5, 10, 16])
def test_all_better_by_the_same_is_two_patterns_of_all(cases):
    test = sign_flip_test(np.full(cases, 0.1))
    assert test.exact
    assert test.p_value == pytest.approx(2 / 2**cases)


def test_three_cases_by_hand():
    """Of 8 patterns of (3, 2, 1), |sum| >= 4 are +++, ++-, and their mirror images."""
    assert sign_flip_test(np.array([3.0, 2.0, -1.0])).p_value == 4 / 8
    assert sign_flip_test(np.array([3.0, -2.0, -1.0])).p_value == 1


def test_no_difference_is_no_evidence():
    assert sign_flip_test(np.zeros(40)) == sign_flip_test(np.zeros(1))
    assert sign_flip_test(np.zeros(40)).p_value == 1
    some = np.array([0.1, 0.2, -0.05])
    assert sign_flip_test(np.concatenate([some, np.zeros(30)])) == sign_flip_test(some)


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=9))
def test_exact_as_scipy(numbers):
    differences = np.array(numbers) / 8  # exact, or rounding decides what ties in scipy
    zeros = np.zeros_like(differences)
    expected = permutation_test(
        (differences, zeros), lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples", vectorized=True, n_resamples=np.inf,
    ).pvalue  # fmt: skip
    assert sign_flip_test(differences).p_value == pytest.approx(expected)


def test_drawn_patterns_come_near_the_exact_answer(monkeypatch):
    differences = np.random.default_rng(5).normal(0.4, 1, 14)
    exact = sign_flip_test(differences)
    monkeypatch.setattr(room, "EXACT_UP_TO", 5)
    monkeypatch.setattr(room, "DRAWN_AT_ONCE", 1000)
    drawn = sign_flip_test(differences)
    assert (exact.exact, drawn.exact) == (True, False)
    error = 4 * math.sqrt(exact.p_value * (1 - exact.p_value) / room.DRAWN_PATTERNS)
    assert drawn.p_value == pytest.approx(exact.p_value, abs=error)
    assert sign_flip_test(differences) == drawn
    assert sign_flip_test(differences, seed=1) != drawn


def test_drawn_p_is_never_zero():
    test = sign_flip_test(np.full(200, 0.1), drawn=99)
    assert (test.p_value, test.exact) == (0.01, False)
    assert EXACT_UP_TO < 200


def test_without_a_difference_small_p_is_as_rare_as_it_says():
    random = np.random.default_rng(11)
    p = [sign_flip_test(random.normal(size=8)).p_value for _ in range(1000)]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) == pytest.approx(
            level, abs=4 * math.sqrt(level * (1 - level) / 1000) + 2 / 2**8
        )


def test_pairs_are_cases_that_both_scored():
    nan = math.nan
    compared = paired_difference([0.9, 0.8, nan, nan, 0.7], [0.8, 0.6, nan, 0.0, nan])
    assert compared.summary.mean == pytest.approx(0.15)
    assert (compared.summary.cases, compared.summary.excluded_empty) == (2, 3)
    assert compared.one_scored == 2
    assert compared.test is not None
    assert compared.test.p_value == 0.5
    nothing = paired_difference([nan], [0.5])
    assert (nothing.summary.mean, nothing.test, nothing.one_scored) == (None, None, 1)
    with pytest.raises(ValueError, match="zip"):
        paired_difference([0.5], [0.5, 0.5])


def test_swapped_models_change_the_sign_only():
    random = np.random.default_rng(2)
    ours, others = random.random((2, 30))
    there, back = paired_difference(ours, others), paired_difference(others, ours)
    assert there.summary.mean == pytest.approx(-back.summary.mean)
    assert there.test == back.test
    assert there.summary.ci95 == pytest.approx((-back.summary.ci95[1], -back.summary.ci95[0]),
                                               abs=0.02)  # fmt: skip


def test_signs_of_a_group_are_flipped_together():
    ours = [0.9, 0.8, 0.9, 0.7, 0.6, math.nan]
    others = [0.8, 0.7, 0.8, 0.8, 0.5, 0.5]
    found = paired_difference(ours, others, groups=["a", "a", "a", "b", "c", "d"])
    alone = paired_difference(ours, others)
    assert found.test == sign_flip_test(np.array([0.3, -0.1, 0.1]))
    assert alone.test == sign_flip_test(np.array([0.1, 0.1, 0.1, -0.1, 0.1]))
    assert found.summary.mean == alone.summary.mean
    assert (found.summary.groups, alone.summary.groups) == (3, None)


def test_cases_of_one_group_have_no_interval_and_prove_nothing():
    found = paired_difference([0.9, 0.8, 0.7], [0.8, 0.7, 0.6], groups=["a"] * 3)
    assert found.summary.ci95 is None
    assert found.test is not None
    assert found.test.p_value == 1


def test_a_case_without_a_group_is_one_of_its_own():
    values = [0.1, 0.2, 0.4, 0.3]
    found = summarise(values, groups=["a", "a", None, None])
    assert found.groups == 3
    assert summarise(values, groups=[None] * 4) == summarise(values)
    with pytest.raises(ValueError, match="3 groups for 4 cases"):
        summarise(values, groups=["a", "b", None])

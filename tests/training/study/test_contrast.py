"""Weighing arms: closed forms, Holm's own properties, and what so few cases can tell."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from training.study.contrast import Contrast, Effect, holm, least_p, weigh
from training.study.record import ScoreTable

NAN = math.nan
ARM = Contrast("arm", "b", "a", {"b": 1.0, "a": -1.0})


def table(
    values: dict[tuple[str, int], list[float]], groups: list[str] | None = None
) -> ScoreTable:
    arrays = {key: np.array(row) for key, row in values.items()}
    n = len(next(iter(arrays.values())))
    return ScoreTable(tuple(map(str, range(n))), tuple(groups or [None] * n), arrays)


def weighed(
    values: dict[tuple[str, int], list[float]],
    contrast: Contrast = ARM,
    groups: list[str] | None = None,
) -> Effect:
    scores = table(values, groups)
    effect = weigh(contrast, scores, dataset="d", metric="dice", kind="cell")
    assert effect is not None
    return effect


def test_a_difference_is_averaged_over_seeds_before_cases_are_counted() -> None:
    effect = weighed(
        {
            ("a", 0): [0.5, 0.6, 0.7],
            ("a", 1): [0.5, 0.6, 0.7],
            ("b", 0): [0.6, 0.6, 0.9],
            ("b", 1): [0.8, 0.6, 0.7],
        }
    )
    # Cases: 0.2, 0, 0.1. Two of them differ, so two of the four sign patterns reach the sum.
    assert effect.mean == pytest.approx(0.1)
    assert effect.summary.cases == 3
    assert effect.test is not None
    assert effect.test.p_value == 0.5
    assert effect.by_seed == pytest.approx({0: 0.1, 1: 0.1})
    assert effect.sigma == pytest.approx(0.0)
    assert (effect.agreeing, effect.seeds) == (2, 2)


def test_only_seeds_that_all_arms_were_run_with_count() -> None:
    effect = weighed({("a", 0): [0.5], ("a", 1): [0.1], ("b", 1): [0.4], ("b", 2): [0.9]})
    assert effect.by_seed == pytest.approx({1: 0.3})
    assert effect.sigma is None
    assert effect.seeds_ci95 is None
    assert weigh(ARM, table({("a", 0): [0.5]}), dataset="d", metric="dice", kind="k") is None


def test_cases_without_a_score_are_left_out_and_counted() -> None:
    effect = weighed(
        {
            ("a", 0): [0.5, NAN, NAN, 0.5],
            ("a", 1): [0.5, NAN, NAN, NAN],
            ("b", 0): [0.6, 0.0, NAN, 0.7],
            ("b", 1): [0.8, 0.0, NAN, 0.7],
        }
    )
    # The last case counts by the one seed in which both arms have a score.
    assert effect.mean == pytest.approx((0.2 + 0.2) / 2)
    assert effect.summary.excluded_empty == 2
    assert effect.one_scored == 2


def test_groups_are_flipped_together() -> None:
    values = {("a", 0): [0.5] * 6, ("b", 0): [0.6] * 6}
    alone, grouped = weighed(values), weighed(values, groups=["p", "p", "p", "q", "q", "q"])
    assert alone.test is not None
    assert grouped.test is not None
    assert alone.test.p_value == alone.least_p == 2**-5
    assert grouped.test.p_value == grouped.least_p == 0.5
    assert grouped.independent == 2


def test_an_interaction_is_the_difference_of_differences() -> None:
    corners = {"aA": 0.9, "aB": 0.8, "bA": 0.7, "bB": 0.2}
    contrast = Contrast("interaction", "b × B", "a, A", {"bB": 1, "bA": -1, "aB": -1, "aA": 1})  # noqa: RUF001
    effect = weighed({(arm, 0): [dice, dice] for arm, dice in corners.items()}, contrast)
    assert effect.mean == pytest.approx((0.2 - 0.7) - (0.8 - 0.9))


def test_the_interval_over_seeds_is_students() -> None:
    effect = weighed(
        {("a", s): [0.0] for s in range(3)} | {("b", s): [v] for s, v in enumerate((0.1, 0.2, 0.6))}
    )
    expected = stats.t.interval(0.95, 2, loc=0.3, scale=stats.sem([0.1, 0.2, 0.6]))
    assert effect.seeds_ci95 == pytest.approx(expected)
    assert effect.sigma == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))


@given(st.integers(1, 15), st.floats(0.01, 1))
def test_no_difference_gives_a_smaller_p_than_the_cases_allow(n: int, size: float) -> None:
    effect = weighed({("a", 0): [0.0] * n, ("b", 0): [size] * n})
    assert effect.test is not None
    assert effect.test.p_value == least_p(n)


def test_many_cases_allow_a_small_p_and_none_allow_nothing() -> None:
    assert least_p(0) == 1.0
    assert least_p(4) == 0.125
    assert least_p(200) == 1 / 20_000


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    m = len(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, m * p)
    # A smaller p never comes out larger, and order of the tests is nothing.
    ranked = sorted(zip(p_values, adjusted, strict=True))
    assert [q for _, q in ranked] == sorted(adjusted)
    assert sorted(holm(p_values[::-1])) == sorted(adjusted)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_sign_that_seeds_do_not_share_is_not_told() -> None:
    many = [0.5] * 20
    values = {("a", s): many for s in range(3)}
    values |= {("b", s): [v] * 20 for s, v in enumerate((0.9, 0.8, 0.45))}
    effect = weighed(values)
    assert effect.test is not None
    assert effect.test.p_value < 0.001
    assert effect.agreeing == 2
    assert not effect.told

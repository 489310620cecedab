"""Objects found and made up, in closed form."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.report.objects import Objects, by_size, joined, objects_of, wilson95

ALL = np.ones((8, 8), dtype=np.bool_)


def mask(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    labels = np.zeros((8, 8), dtype=np.uint8)
    for top, left, bottom, right in boxes:
        labels[top:bottom, left:right] = 1
    return labels


def test_each_object_is_held_against_the_other_mask() -> None:
    truth = mask((0, 0, 2, 2), (4, 4, 8, 8))
    answer = mask((4, 4, 8, 7))
    found = objects_of(truth, answer, 1, counted=ALL)
    assert found.area_px.tolist() == [4, 16]
    assert found.covered.tolist() == [0.0, 0.75]
    right = objects_of(answer, truth, 1, counted=ALL)
    assert right.covered.tolist() == [1.0]


def test_diagonal_neighbours_are_one_object_and_other_classes_none() -> None:
    labels = np.eye(8, dtype=np.uint8)
    assert objects_of(labels, labels, 1, counted=ALL).area_px.tolist() == [8]
    assert objects_of(2 * labels, labels, 1, counted=ALL).area_px.size == 0


def test_an_object_that_reaches_into_ignored_pixels_is_left_out() -> None:
    counted = ALL.copy()
    counted[0, 0] = False
    truth = mask((0, 0, 2, 2), (4, 4, 8, 8))
    assert objects_of(truth, truth, 1, counted=counted).area_px.tolist() == [16]


def test_multilabel_planes_are_looked_at_one_by_one() -> None:
    planes = np.stack([mask((0, 0, 2, 2)), mask((0, 0, 8, 8))])
    assert objects_of(planes, planes, 0, counted=ALL).area_px.tolist() == [4]
    assert objects_of(planes, planes, 1, counted=ALL).area_px.tolist() == [64]


@given(
    arrays(np.int64, st.integers(0, 200), elements=st.integers(1, 500)),
    st.integers(0, 2**32 - 1),
)
def test_bins_hold_every_object_once_in_order(area: np.ndarray, seed: int) -> None:
    covered = np.random.default_rng(seed).uniform(0, 1, area.size)
    bins = by_size(Objects(area, covered))
    assert sum(b.objects for b in bins) == area.size
    assert sum(b.covered for b in bins) == int((covered >= 0.5).sum())
    assert len(bins) <= 5
    edges = [side for b in bins for side in b.area_px]
    assert edges == sorted(edges)
    for before, after in pairwise(bins):
        assert before.area_px[1] < after.area_px[0]
    for b in bins:
        assert b.interval[0] <= b.covered / b.objects <= b.interval[1]


def test_nothing_gives_no_bins() -> None:
    assert by_size(joined([])) == []


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998, table I, method 3 (Wilson's score).
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (20, 20, 0.8389, 1.0),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert wilson95(successes, trials) == pytest.approx((low, high), abs=1e-4)

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import compute_dice, compute_iou

from contract.errors import DataError
from contract.metrics import case_scores, multilabel_case_scores, score_labels, summarise

masks = hnp.arrays(np.uint8, (2, 5, 6), elements=st.integers(0, 3))


def scores(prediction, truth, n_classes=2, **options):
    return case_scores(np.array(prediction), np.array(truth), n_classes=n_classes, **options)


def test_closed_form():
    background, nucleus = scores([[0, 1, 1, 1]], [[0, 0, 1, 1]])
    assert (nucleus.prediction_px, nucleus.truth_px, nucleus.overlap_px) == (3, 2, 2)
    assert nucleus.dice == pytest.approx(4 / 5)
    assert nucleus.iou == pytest.approx(2 / 3)
    assert background.dice == pytest.approx(2 / 3)
    assert [background.class_index, nucleus.class_index] == [0, 1]


def test_in_neither_there_is_no_score():
    score = scores([[0, 0]], [[0, 0]])[1]
    assert score.empty
    assert math.isnan(score.dice)
    assert math.isnan(score.iou)


@pytest.mark.parametrize(("prediction", "truth"), [([[0, 1]], [[0, 0]]), ([[0, 0]], [[0, 1]])])
def test_in_one_only_scores_nothing(prediction, truth):
    score = scores(prediction, truth)[1]
    assert (score.empty, score.dice, score.iou) == (False, 0.0, 0.0)


def test_ignored_pixels_count_for_nothing():
    with_ignored = scores([[0, 1, 1, 1, 0]], [[0, 0, 1, 255, 255]], ignore=255)
    assert with_ignored == scores([[0, 1, 1]], [[0, 0, 1]])


def test_all_ignored():
    assert all(score.empty for score in scores([[1, 0]], [[9, 9]], ignore=9))


@given(masks)
def test_perfect_and_symmetric(pair):
    first, second = pair
    for score in case_scores(first, first, n_classes=4):
        assert score.empty or score.dice == score.iou == 1
    there = case_scores(first, second, n_classes=4)
    back = case_scores(second, first, n_classes=4)
    for one, other in zip(there, back, strict=True):
        assert one.empty or (one.dice, one.iou) == (other.dice, other.iou)
        assert one.empty or one.iou == pytest.approx(one.dice / (2 - one.dice))


@given(masks)
def test_as_monai_where_the_policies_agree(pair):
    """compute_dice(ignore_empty=True) gives NaN for an empty truth even if it was predicted."""
    hot = [
        torch.nn.functional.one_hot(torch.tensor(m).long(), 4).movedim(-1, 0)[None] for m in pair
    ]
    dice = compute_dice(hot[0], hot[1], include_background=True)[0]
    iou = compute_iou(hot[0], hot[1], include_background=True)[0]
    for score in case_scores(*pair, n_classes=4):
        if score.truth_px:
            assert score.dice == pytest.approx(float(dice[score.class_index]), abs=1e-6)
            assert score.iou == pytest.approx(float(iou[score.class_index]), abs=1e-6)
        else:
            assert math.isnan(float(dice[score.class_index]))


def test_large_masks_do_not_overflow():
    truth = np.full((3000, 3000), 254, np.uint8)
    assert case_scores(truth, truth, n_classes=255)[254].truth_px == 9_000_000


@pytest.mark.parametrize(
    ("prediction", "truth", "words"),
    [
        ([[0, 1]], [[0], [1]], r"\[1, 2\].*\[2, 1\]"),
        ([[0, 2]], [[0, 1]], "the prediction holds values 0 to 2"),
        ([[0, 1]], [[0, 255]], "the truth holds values 0 to 255.*mask_map"),
        ([[0, 1]], [[-1, 1]], "the truth holds values -1 to 1"),
    ],
)
def test_masks_that_do_not_fit(prediction, truth, words):
    with pytest.raises(DataError, match=words):
        scores(prediction, truth)


def test_multilabel_classes_may_overlap():
    truth = np.array([[[1, 1, 0]], [[0, 1, 1]]], np.uint8)
    prediction = np.array([[[1, 1, 0]], [[0, 0, 1]]], np.uint8)
    first, second = multilabel_case_scores(prediction, truth)
    assert (first.class_index, first.dice) == (0, 1.0)
    assert (second.class_index, second.dice) == (1, pytest.approx(2 / 3))
    truth[1, 0, 1] = 255
    assert multilabel_case_scores(prediction, truth, ignore=255)[1].dice == 1
    with pytest.raises(DataError, match="values 0 to 255"):
        multilabel_case_scores(prediction, truth)
    with pytest.raises(DataError, match=r"\[K, H, W\]"):
        multilabel_case_scores(prediction[:1], truth)


def test_the_task_decides_how_labels_are_scored():
    labels = np.array([[[1, 1, 0]], [[0, 1, 1]]], np.uint8)
    truth = np.array([[[1, 0, 0]], [[0, 1, 9]]], np.uint8)
    assert score_labels(
        labels, truth, task="multilabel", n_classes=2, ignore=9
    ) == multilabel_case_scores(labels, truth, ignore=9)
    assert score_labels(labels, truth, task="multiclass", n_classes=2, ignore=9) == case_scores(
        labels, truth, n_classes=2, ignore=9
    )


def test_summary_counts_what_it_leaves_out():
    summary = summarise([0.5, math.nan, 1.0, math.nan])
    assert (summary.mean, summary.cases, summary.excluded_empty) == (0.75, 2, 2)
    assert summary.ci95 == (0.5, 1.0)


def test_summary_of_too_few():
    one = summarise([0.5, math.nan])
    assert (one.mean, one.ci95, one.cases, one.excluded_empty) == (0.5, None, 1, 1)
    none = summarise([math.nan])
    assert (none.mean, none.ci95, none.cases, none.excluded_empty) == (None, None, 0, 1)
    assert summarise([]).mean is None

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from contract.objects import object_f1


def discs(*boxes, shape=(20, 30)):
    mask = np.zeros(shape, bool)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = True
    return mask


def test_hits_misses_and_false_alarms():
    truth = discs((1, 1, 4, 4), (1, 10, 4, 4), (10, 1, 4, 4))
    prediction = discs((1, 1, 4, 4), (1, 11, 4, 4), (14, 20, 3, 3))
    # The first is met, the second at IoU 12/20, the third missed; one of the predicted is wrong.
    assert object_f1(prediction, truth) == pytest.approx(2 * 2 / (3 + 3))


def test_half_is_not_enough():
    truth = discs((0, 0, 2, 4))
    assert object_f1(discs((0, 0, 2, 2)), truth) == 0
    assert object_f1(discs((0, 0, 2, 3)), truth) == 1


def test_one_object_over_two_has_at_most_one_partner():
    truth = discs((0, 0, 4, 6), (0, 7, 4, 3))
    assert object_f1(discs((0, 0, 4, 10)), truth) == pytest.approx(2 / 3)


def test_corners_join():
    mask = np.eye(4, dtype=bool)
    assert object_f1(mask, mask) == 1
    assert object_f1(np.eye(4, dtype=bool)[::-1], mask) == 0


def test_one_side_empty_and_both():
    some, none = discs((1, 1, 3, 3)), discs()
    assert object_f1(some, none) == object_f1(none, some) == 0
    with pytest.raises(ValueError, match="empty"):
        object_f1(none, none)


def test_a_volume():
    mask = np.zeros((4, 5, 6), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 4, 5] = True
    assert object_f1(mask, mask) == 1


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.3, 0.6]))
def test_as_counted_pair_by_pair(seed, density):
    random = np.random.default_rng(seed)
    prediction, truth = random.random((2, 9, 11)) < density
    # Bits flipped here and there make partners that nearly fit.
    truth = np.where(random.random(truth.shape) < 0.8, prediction, truth)
    (ours, n), (theirs, m) = (ndimage.label(x, np.ones((3, 3))) for x in (prediction, truth))
    if n + m == 0:
        return
    hits = 0
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            a, b = ours == i, theirs == j
            hits += 2 * (a & b).sum() > (a | b).sum()
    assert object_f1(prediction, truth) == pytest.approx(2 * hits / (n + m))
    assert object_f1(prediction, truth) == object_f1(truth, prediction)

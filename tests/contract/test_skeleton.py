import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.skeleton import cl_dice, skeleton


def bar(top, left, height, width, shape=(30, 60)):
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_a_thicker_line_is_as_well_connected():
    """Dice falls with thickness, clDice does not: that is what it is for."""
    thin, thick = bar(14, 5, 1, 50), bar(12, 5, 5, 50)
    # Thinning a thick bar leaves a spur or two at its ends.
    assert cl_dice(thick, thin) > 0.97
    assert 2 * (thin & thick).sum() / (thin.sum() + thick.sum()) == pytest.approx(1 / 3)


def test_the_papers_ratio_on_lines_that_are_their_own_skeletons():
    truth, prediction = bar(14, 0, 1, 60), bar(14, 0, 1, 45)
    prediction |= bar(20, 0, 1, 15)
    # Tprec = 45 of the 60 predicted, Tsens = 45 of the 60 true.
    assert cl_dice(prediction, truth) == pytest.approx(0.75)
    short = bar(14, 0, 1, 30)
    assert cl_dice(short, truth) == pytest.approx(2 * 1 * 0.5 / 1.5)


def test_nothing_in_common():
    assert cl_dice(bar(2, 2, 1, 20), bar(20, 2, 1, 20)) == 0


def test_empty_masks_have_no_skeleton():
    some, none = bar(2, 2, 1, 20), bar(0, 0, 0, 0)
    for pair in ((some, none), (none, some), (none, none)):
        with pytest.raises(ValueError, match="empty"):
            cl_dice(*pair)


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_a_skeleton_lies_within_its_mask_and_is_never_empty(seed, shape):
    random = np.random.default_rng(seed)
    mask = random.random(shape) < random.random()
    lines = skeleton(mask)
    assert not (lines & ~mask).any()
    assert lines.any() == mask.any()
    if mask.any():
        assert cl_dice(mask, mask) == 1


def test_a_volume():
    mask = np.zeros((5, 7, 20), bool)
    mask[1:4, 2:5, 2:18] = True
    line = np.zeros_like(mask)
    line[2, 3, 2:18] = True
    assert cl_dice(line, mask) == 1

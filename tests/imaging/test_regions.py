import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from imaging.regions import area_px, boxes_xyxy


def test_closed_forms():
    mask_hw = np.zeros((5, 7), bool)
    assert boxes_xyxy(mask_hw) == []
    assert area_px(mask_hw) == 0
    mask_hw[1:3, 2:6] = True
    assert boxes_xyxy(mask_hw) == [[2, 1, 6, 3]]
    assert area_px(mask_hw) == 8
    assert boxes_xyxy(np.ones((1, 1), bool)) == [[0, 0, 1, 1]]


def test_regions_that_touch_at_a_corner_are_one():
    assert boxes_xyxy(np.eye(4, dtype=bool)) == [[0, 0, 4, 4]]


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_boxes_are_those_of_scipy(mask_hw):
    labelled, _ = ndimage.label(mask_hw, structure=np.ones((3, 3)))
    expected = [[x.start, y.start, x.stop, y.stop] for y, x in ndimage.find_objects(labelled)]
    assert boxes_xyxy(mask_hw) == sorted(expected, key=lambda b: (b[1], b[0], b[3], b[2]))


def test_many_regions_stay_fast():
    mask_hw = np.zeros((1024, 1024), bool)
    mask_hw[::2, ::2] = True
    began = time.process_time()
    assert len(boxes_xyxy(mask_hw)) == 512 * 512
    assert time.process_time() - began < 5


def test_anything_but_a_plane_is_refused():
    with pytest.raises(ValueError, match="expected"):
        boxes_xyxy(np.zeros((2, 2, 2), bool))

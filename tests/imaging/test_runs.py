import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imaging.runs import encode_runs

labels_of_any_shape = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=30), elements=st.integers(0, 3)
)


def read(encoded):
    with np.load(io.BytesIO(encoded)) as rle:
        return np.repeat(rle["values"], rle["lengths"]).reshape(rle["shape"])


@given(labels_of_any_shape)
def test_repeat_gives_the_labels(labels):
    encoded = encode_runs(labels, ["background", "a", "b", "c"])
    assert read(encoded).dtype == np.uint8
    assert np.array_equal(read(encoded), labels)


def test_a_closed_form():
    labels_hw = np.array([[0, 2, 2], [2, 1, 1]], np.uint8)
    with np.load(io.BytesIO(encode_runs(labels_hw, ["background", "a", "b"]))) as rle:
        assert rle["values"].tolist() == [0, 2, 1]
        assert rle["lengths"].tolist() == [1, 3, 2]
        assert rle["shape"].tolist() == [2, 3]
        assert list(rle["classes"]) == ["background", "a", "b"]


@pytest.mark.parametrize("run", [255, 256, 65_535, 65_536, 70_000])
def test_long_runs_have_room(run):
    labels_hw = np.zeros((1, run + 1), np.uint8)
    labels_hw[0, -1] = 9
    assert np.array_equal(read(encode_runs(labels_hw, [])), labels_hw)


@pytest.mark.parametrize("labels", [np.zeros((2, 2), np.int64), np.zeros((0, 3), np.uint8)])
def test_anything_but_labels_is_refused(labels):
    with pytest.raises(ValueError, match="expected uint8"):
        encode_runs(labels, [])

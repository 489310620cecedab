import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from imaging.rle import decode_rle, encode_rle

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30))


def from_counts(counts: str) -> list[int]:
    """COCO's maskApi.c, rleFrString, written out: the independent reading."""
    runs, at = [], 0
    while at < len(counts):
        value, shift, more = 0, 0, True
        while more:
            six_bits = ord(counts[at]) - 48
            value |= (six_bits & 31) << shift
            more = bool(six_bits & 32)
            at, shift = at + 1, shift + 5
            if not more and six_bits & 16:
                value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


@given(masks)
def test_decoding_gives_the_mask(mask_hw):
    decoded = decode_rle(encode_rle(mask_hw))
    assert decoded.dtype == np.bool_
    assert np.array_equal(decoded, mask_hw)


@given(masks)
def test_runs_go_down_the_columns_and_begin_with_zeros(mask_hw):
    rle = encode_rle(mask_hw)
    assert rle["size"] == list(mask_hw.shape)
    runs = from_counts(rle["counts"])
    values = np.arange(len(runs)) % 2
    assert np.array_equal(np.repeat(values, runs), mask_hw.T.reshape(-1))


def test_a_closed_form():
    mask_hw = np.array([[0, 1], [0, 1], [1, 0]], bool)
    assert from_counts(encode_rle(mask_hw)["counts"]) == [2, 3, 1]


def test_anything_but_a_plane_is_refused():
    with pytest.raises(ValueError, match="expected"):
        encode_rle(np.zeros((2, 2, 1), bool))

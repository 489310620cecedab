import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imaging.bits import encode_bits

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=20))


@given(masks)
def test_unpackbits_gives_the_masks(masks_khw):
    names = [f"class {k}" for k in range(len(masks_khw))]
    with np.load(io.BytesIO(encode_bits(list(masks_khw), names))) as bits:
        read = np.unpackbits(bits["planes"], axis=-1, count=int(bits["width"]))
        assert list(bits["classes"]) == names
    assert np.array_equal(read, masks_khw)


def test_a_closed_form():
    mask_hw = np.array([[1, 0, 0, 0, 0, 0, 0, 1, 1], [0] * 9], bool)
    with np.load(io.BytesIO(encode_bits([mask_hw], ["cell"]))) as bits:
        assert bits["planes"].tolist() == [[[0b10000001, 0b10000000], [0, 0]]]


@given(st.integers(0, 2**32 - 1))
def test_noise_is_stored_and_blobs_are_deflated(seed):
    noise_hw = np.random.default_rng(seed).random((64, 640)) < 0.5
    blob_hw = np.zeros((64, 640), bool)
    blob_hw[10:50, 100:600] = True
    assert noise_hw.size / 8 < len(encode_bits([noise_hw], ["a"])) < noise_hw.size / 8 + 1000
    assert len(encode_bits([blob_hw], ["a"])) < 1500


@pytest.mark.parametrize(("n_masks", "n_names"), [(0, 0), (1, 2)])
def test_a_name_for_each_mask_is_wanted(n_masks, n_names):
    with pytest.raises(ValueError, match="one for each"):
        encode_bits([np.zeros((2, 2), bool)] * n_masks, ["a"] * n_names)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imaging.channels import match_channels, to_chw_float32
from imaging.errors import ChannelMismatch


def pixel(*values, dtype=np.uint8):
    return np.array([[values]], dtype)


@pytest.mark.parametrize(
    ("came", "channels", "expected"),
    [
        (pixel(7), 3, [7, 7, 7]),
        (pixel(7, 100), 1, [7]),
        (pixel(7, 0), 3, [7, 7, 7]),
        (pixel(1, 2, 3, 0), 3, [1, 2, 3]),
        (pixel(9, 9, 9), 1, [9]),
        (pixel(9, 9, 9, 0), 1, [9]),
        (pixel(300, 300, 300, dtype=np.uint16), 1, [300]),
    ],
)
def test_related_forms_become_each_other_with_their_type_kept(came, channels, expected):
    matched = match_channels(came, channels)
    assert matched.tolist() == [[expected]]
    assert matched.dtype == came.dtype


@pytest.mark.parametrize("alpha", [[], [0]])
def test_colour_becomes_rec_601_luma_unrounded(alpha):
    luma = match_channels(pixel(255, 0, 100, *alpha), 1)
    assert luma.dtype == np.float32
    np.testing.assert_allclose(luma, [[[0.299 * 255 + 0.114 * 100]]], rtol=1e-6)


def test_one_differing_pixel_makes_an_image_colour():
    grey = np.full((3, 3, 3), 50, np.uint8)
    assert match_channels(grey, 1).dtype == np.uint8
    grey[2, 2, 0] = 51
    assert match_channels(grey, 1).dtype == np.float32


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
def test_as_many_channels_as_taken_stay_the_same_array(channels):
    pixels_hwc = np.zeros((2, 2, channels), np.uint16)
    assert match_channels(pixels_hwc, channels) is pixels_hwc


@pytest.mark.parametrize(("came", "channels"), [(3, 4), (1, 4), (5, 3), (5, 1), (2, 4), (3, 2)])
def test_other_pairs_are_refused_with_both_numbers(came, channels):
    with pytest.raises(ChannelMismatch, match=rf"has {came} channel.* takes {channels};"):
        match_channels(np.zeros((2, 2, came), np.uint8), channels)


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]), hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)
    )
)
def test_chw_float32_holds_the_same_intensities(pixels_hwc):
    chw = to_chw_float32(pixels_hwc)
    assert chw.dtype == np.float32
    assert chw.flags.c_contiguous
    assert np.array_equal(chw.transpose(1, 2, 0), pixels_hwc)

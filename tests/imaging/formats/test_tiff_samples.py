import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imaging.errors import BrokenImage, UnsupportedImage
from imaging.formats.tiff_samples import as_intensities


def one(value, dtype):
    return np.array([[[value]]], dtype)


@pytest.mark.parametrize(
    ("bits", "stored", "shown"),
    [(1, 1, 255), (2, 1, 85), (2, 3, 255), (4, 5, 85), (6, 63, 255), (7, 64, 129), (8, 200, 200)],
)
def test_up_to_8_bits_fill_0_255(bits, stored, shown):
    assert as_intensities(one(stored, np.uint8), bits=bits).tolist() == [[[shown]]]


def test_bools_are_black_and_white():
    intensities = as_intensities(np.array([[[True], [False]]]), bits=1)
    assert (intensities.dtype, intensities.tolist()) == (np.uint8, [[[255], [0]]])


@pytest.mark.parametrize(("bits", "inverted"), [(12, 4095 - 7), (16, 65535 - 7)])
def test_9_to_16_bits_stay_as_stored_or_invert_at_their_own_largest(bits, inverted):
    assert as_intensities(one(7, np.uint16), bits=bits).item() == 7
    assert as_intensities(one(7, np.uint16), bits=bits, white_is_zero=True).item() == inverted


@given(
    hnp.arrays(
        st.sampled_from([np.int8, np.int16, np.int32, np.uint32, np.int64]),
        (2, 3, 1),
        elements=st.integers(0, 100),
    )
)
def test_other_integers_become_float32(stored_hwc):
    intensities = as_intensities(stored_hwc, bits=8 * stored_hwc.itemsize)
    if stored_hwc.dtype.kind == "i" or stored_hwc.itemsize > 2:
        assert intensities.dtype == np.float32
    assert np.array_equal(intensities, stored_hwc)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (2**24 + 1, np.int32),
        (-(2**24) - 1, np.int32),
        (2**32 - 1, np.uint32),
        (2**62 + 1, np.int64),
    ],
)
def test_integers_that_float32_would_round_are_refused(value, dtype):
    with pytest.raises(UnsupportedImage, match="not exact in float32"):
        as_intensities(one(value, dtype), bits=8 * np.dtype(dtype).itemsize)


def test_large_integers_that_float32_holds_are_kept():
    assert as_intensities(one(2**30, np.int32), bits=32).item() == 2**30


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_become_float32(dtype):
    intensities = as_intensities(one(-0.5, dtype), bits=8 * np.dtype(dtype).itemsize)
    assert (intensities.dtype, intensities.item()) == (np.float32, -0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_no_finite_float32_is_broken_with_the_remedy(value):
    with pytest.raises(BrokenImage, match=r"1 of the TIFF's 1 samples .*replace them"):
        as_intensities(one(value, np.float64), bits=64)


def test_colour_tables_of_16_and_of_8_bits():
    sixteen = np.array([[0, 65535], [257, 0], [0, 256]], np.uint16)
    assert as_intensities(one(1, np.uint8), bits=1, colours=sixteen).tolist() == [[[255, 0, 1]]]
    eight = np.array([[0, 255], [1, 0], [0, 1]], np.uint16)
    assert as_intensities(one(1, np.uint8), bits=1, colours=eight).tolist() == [[[255, 0, 1]]]


def test_an_index_past_the_colour_table_is_broken():
    with pytest.raises(BrokenImage, match="index 9"):
        as_intensities(one(9, np.uint8), bits=8, colours=np.zeros((3, 4), np.uint16))

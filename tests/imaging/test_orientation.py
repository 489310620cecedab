from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from imaging.decode import decode_image
from imaging.header import read_header
from imaging.orientation import apply_orientation

STORED = [[1, 2, 3], [4, 5, 6]]
SHOWN = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}
BACK = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_shows_the_pixels_as_exif_defines(orientation):
    shown = apply_orientation(np.array(STORED), orientation)
    assert shown.tolist() == SHOWN[orientation]
    assert shown.flags.c_contiguous


@pytest.mark.parametrize("orientation", [0, 9, -1])
def test_an_orientation_that_exif_does_not_know_is_refused(orientation):
    with pytest.raises(ValueError, match="EXIF knows 1 to 8"):
        apply_orientation(np.zeros((2, 2)), orientation)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)),
    st.integers(1, 8),
)
def test_turning_back_gives_the_stored_pixels(pixels_hwc, orientation):
    shown = apply_orientation(pixels_hwc, orientation)
    assert np.array_equal(apply_orientation(shown, BACK[orientation]), pixels_hwc)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF"])
def test_files_are_shown_as_pillow_shows_them(file_format, orientation, pillow_bytes):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    options = {}
    if file_format == "TIFF":
        options["tiffinfo"] = {274: orientation}
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    encoded = pillow_bytes(pixels, file_format, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(encoded))))

    image = decode_image(encoded, max_pixels=100)
    assert image.header.orientation == orientation
    assert np.array_equal(image.pixels_hwc, expected)
    assert image.pixels_hwc.shape[:2] == read_header(encoded).shown_size_hw

    stored = decode_image(encoded, max_pixels=100, orientation="stored")
    assert stored.pixels_hwc.shape == (5, 8, 3)
    assert np.array_equal(apply_orientation(stored.pixels_hwc, orientation), expected)

import numpy as np
import pytest
from PIL import Image

from imaging.decode import decode_image
from imaging.errors import BrokenImage, ImageTooLarge
from imaging.header import read_header

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 10, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_each_kind_comes_back(mode, pillow_bytes):
    image = Image.fromarray(PIXELS).convert(mode)
    encoded = pillow_bytes(image, "BMP")
    decoded = decode_image(encoded, max_pixels=100)
    expected = np.asarray(image.convert({"1": "L", "P": "RGB"}.get(mode, mode)))
    assert np.array_equal(decoded.pixels_hwc.reshape(expected.shape), expected)
    assert decoded.pixels_hwc.shape == (7, 10, decoded.header.channels)


def test_cut_off_anywhere_it_is_broken(pillow_bytes):
    encoded = pillow_bytes(PIXELS, "BMP")
    for length in range(2, len(encoded), 9):
        with pytest.raises(BrokenImage):
            decode_image(encoded[:length], max_pixels=100)


def test_a_size_beyond_pillows_own_warning_limit_is_only_ours_to_refuse(pillow_bytes):
    encoded = bytearray(pillow_bytes(PIXELS, "BMP"))
    encoded[18:26] = (30_000).to_bytes(4, "little") * 2
    assert read_header(bytes(encoded)).pixels == 9 * 10**8
    with pytest.raises(ImageTooLarge):
        decode_image(bytes(encoded), max_pixels=10**8)

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.decode import DecodedImage, decode_image, read_image
from imaging.errors import BrokenImage, ImageError, ImageTooLarge, UnsupportedImage
from imaging.header import read_header
from imaging.image_header import ImageHeader, check_size

HEADER = ImageHeader("png", 4, 3, 1, 8)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "JPEG"])
def test_one_pixel_of_each_format(file_format, pillow_bytes):
    encoded = pillow_bytes(np.array([[[200, 200, 200]]], np.uint8), file_format)
    image = decode_image(encoded, max_pixels=1)
    assert image.pixels_hwc.tolist() == [[[200, 200, 200]]]
    assert image.pixels_hwc.flags.writeable
    assert image.header == read_header(encoded)
    assert image.header.format == file_format.lower()


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "JPEG"])
def test_a_pixel_more_than_the_limit_is_refused(file_format, pillow_bytes):
    encoded = pillow_bytes(np.zeros((3, 5), np.uint8), file_format)
    assert decode_image(encoded, max_pixels=15).pixels_hwc.shape == (3, 5, 1)
    with pytest.raises(ImageTooLarge, match="5x3 px = 15 pixels, the limit is 14"):
        decode_image(encoded, max_pixels=14)


def test_a_bomb_is_refused_from_its_header(pillow_bytes):
    encoded = bytearray(pillow_bytes(np.zeros((3, 5), bool), "PNG"))
    encoded[16:24] = (30_000).to_bytes(4, "big") * 2
    encoded[29:33] = zlib.crc32(encoded[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageTooLarge, match="900,000,000"):
        decode_image(bytes(encoded), max_pixels=10**8)


def test_many_wide_channels_count_by_their_bytes():
    check_size(ImageHeader("tiff", 10, 10, 4, 32), max_pixels=100)
    with pytest.raises(ImageTooLarge, match="5 channels of 32 bits"):
        check_size(ImageHeader("tiff", 10, 10, 5, 32), max_pixels=100)


@pytest.mark.parametrize(("bits", "expected"), [(1, 12), (8, 12), (12, 24), (32, 48), (64, 96)])
def test_decoded_bytes(bits, expected):
    assert ImageHeader("tiff", 4, 3, 1, bits).decoded_bytes == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_shown_size_turns_with_the_orientation(orientation):
    header = ImageHeader("jpeg", 4, 3, 1, 8, orientation=orientation)
    assert header.shown_size_hw == ((4, 3) if orientation >= 5 else (3, 4))


def test_a_file_is_read_and_its_errors_name_it(tmp_path, pillow_bytes):
    path = tmp_path / "case_17.png"
    encoded = pillow_bytes(np.full((3, 5), 9, np.uint8), "PNG")
    path.write_bytes(encoded)
    assert (read_image(path).pixels_hwc == 9).all()
    with pytest.raises(ImageTooLarge, match=r"case_17\.png: the image has 5x3"):
        read_image(path, max_pixels=3)
    path.write_bytes(encoded[:-3])
    with pytest.raises(BrokenImage, match=r"case_17\.png: the PNG ends"):
        read_image(path)


def test_an_invalid_image_cannot_exist():
    with pytest.raises(BrokenImage, match="expected"):
        DecodedImage(np.zeros((3, 4), np.uint8), HEADER)
    with pytest.raises(BrokenImage, match="expected"):
        DecodedImage(np.zeros((3, 0, 1), np.uint8), HEADER)
    with pytest.raises(UnsupportedImage, match="float64"):
        DecodedImage(np.zeros((3, 4, 1)), HEADER)


STARTS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"BM"]


@given(st.sampled_from(STARTS), st.binary(max_size=200))
def test_arbitrary_bytes_end_in_an_image_error(start, tail):
    with pytest.raises(ImageError):
        decode_image(start + tail, max_pixels=10_000)

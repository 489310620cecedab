import struct
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from imaging.decode import decode_image
from imaging.errors import BrokenImage, UnsupportedImage
from imaging.header import read_header


def photograph(*shape):
    ramp = np.add.outer(np.arange(shape[0]) * 3, np.arange(shape[1]) * 5) % 256
    return np.broadcast_to(ramp.reshape(*shape[:2], *[1] * (len(shape) - 2)), shape).astype(
        np.uint8
    )


def decode(encoded):
    return decode_image(encoded, max_pixels=10_000).pixels_hwc


@pytest.mark.parametrize("shape", [(1, 1), (17, 33), (1, 1, 3), (40, 27, 3)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_pixels_are_those_of_pillow(shape, options, pillow_bytes):
    encoded = pillow_bytes(photograph(*shape), "JPEG", quality=90, **options)
    header = read_header(encoded)
    decoded = decode(encoded)
    assert np.array_equal(decoded.squeeze(), np.asarray(Image.open(BytesIO(encoded))).squeeze())
    assert decoded.shape == (header.height_px, header.width_px, header.channels)


def test_twelve_bits_are_kept():
    pixels = (np.arange(64 * 48).reshape(48, 64) % 4096).astype(np.uint16)
    encoded = imagecodecs.jpeg8_encode(pixels, bitspersample=12, lossless=True)
    assert read_header(encoded).bits_per_sample == 12
    assert np.array_equal(decode(encoded)[:, :, 0], pixels)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_cut_off_anywhere_it_is_broken_and_never_half_grey(options, pillow_bytes):
    encoded = pillow_bytes(photograph(64, 64, 3), "JPEG", **options)
    for length in range(3, len(encoded), 13):
        with pytest.raises(BrokenImage):
            decode(encoded[:length])


def test_bytes_after_the_end_are_ignored(pillow_bytes):
    encoded = pillow_bytes(photograph(16, 16), "JPEG")
    assert np.array_equal(decode(encoded + encoded), decode(encoded))


def test_the_end_marker_of_a_thumbnail_does_not_count(pillow_bytes):
    thumbnail = pillow_bytes(photograph(8, 8), "JPEG")
    app2 = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    encoded = pillow_bytes(photograph(64, 64), "JPEG")
    encoded = encoded[:2] + app2 + encoded[2:]
    assert decode(encoded).shape == (64, 64, 1)
    with pytest.raises(BrokenImage, match="cut off"):
        decode(encoded[:-40])


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_exif_segment_is_honoured(orientation, pillow_bytes, exif_block):
    block = b"Exif\0\0" + exif_block(orientation)
    encoded = pillow_bytes(photograph(16, 24), "JPEG")
    encoded = encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + encoded[2:]
    assert decode(encoded).shape == ((16, 24, 1) if orientation == 1 else (24, 16, 1))


def test_cmyk_is_refused_with_the_remedy(pillow_bytes):
    encoded = pillow_bytes(photograph(8, 8, 3), "JPEG", mode="CMYK")
    assert read_header(encoded).channels == 4
    with pytest.raises(UnsupportedImage, match=r"4 components .* save it as an RGB PNG"):
        decode(encoded)


def test_other_kinds_of_jpeg_are_named():
    encoded = imagecodecs.jpegls_encode(photograph(8, 8))
    with pytest.raises(UnsupportedImage, match="JPEG-LS"):
        decode(encoded)


def test_endless_passes_are_refused(pillow_bytes):
    encoded = pillow_bytes(photograph(16, 16), "JPEG", progressive=True)
    scan = encoded[encoded.rindex(b"\xff\xda") : -2]
    with pytest.raises(BrokenImage, match="more than 100 passes"):
        decode(encoded[:-2] + scan * 200 + b"\xff\xd9")


def test_a_senseless_size_is_broken(pillow_bytes):
    encoded = bytearray(pillow_bytes(photograph(16, 16), "JPEG"))
    at = encoded.index(b"\xff\xc0") + 5
    encoded[at : at + 2] = b"\0\0"
    with pytest.raises(BrokenImage, match="at least 1"):
        read_header(bytes(encoded))


def test_a_second_frame_header_does_not_change_the_size(pillow_bytes):
    encoded = pillow_bytes(photograph(16, 24), "JPEG")
    at = encoded.index(b"\xff\xc0")
    second = bytearray(encoded[at : at + 13])
    second[5:7] = b"\x7f\xff"
    doubled = encoded[: at + 13] + bytes(second) + encoded[at + 13 :]
    assert read_header(doubled).height_px == 16
    with pytest.raises(BrokenImage):
        decode(doubled)

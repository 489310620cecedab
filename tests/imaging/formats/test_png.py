import struct
import zlib
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from imaging.decode import decode_image
from imaging.errors import BrokenImage, UnsupportedImage
from imaging.header import read_header


def decode(encoded):
    return decode_image(encoded, max_pixels=10_000).pixels_hwc


def ihdr(width, height, bits, colour):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)


def idat(*rows):
    return b"IDAT", zlib.compress(b"".join(b"\0" + bytes(int(v) for v in row) for row in rows))


END = (b"IEND", b"")


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
    )
)
def test_every_depth_and_channel_count_comes_back(pixels_hwc):
    encoded = imagecodecs.png_encode(pixels_hwc)
    header = read_header(encoded)
    decoded = decode(encoded)
    assert decoded.dtype == pixels_hwc.dtype
    assert np.array_equal(decoded, pixels_hwc)
    assert (header.height_px, header.width_px, header.channels) == pixels_hwc.shape
    assert header.bits_per_sample == 8 * pixels_hwc.itemsize


@pytest.mark.parametrize(("bits", "step"), [(1, 255), (2, 85), (4, 17)])
def test_few_bit_grey_is_scaled_to_0_255(bits, step, png_chunks):
    width = 8 // bits
    packed = sum(index % 2**bits << (8 - bits * (index + 1)) for index in range(width))
    encoded = png_chunks(ihdr(width, 1, bits, 0), idat([packed]), END)
    assert decode(encoded).tolist() == [[[step * (i % 2**bits)] for i in range(width)]]
    assert read_header(encoded).bits_per_sample == bits


def test_a_palette_becomes_rgb(png_chunks):
    palette = (b"PLTE", bytes([1, 2, 3, 40, 50, 60]))
    encoded = png_chunks(ihdr(2, 1, 8, 3), palette, idat([1, 0]), END)
    assert decode(encoded).tolist() == [[[40, 50, 60], [1, 2, 3]]]
    assert read_header(encoded).has_palette


@pytest.mark.parametrize(("colour", "key"), [(0, b"\0\5"), (2, b"\0\5\0\5\0\5"), (3, b"\0")])
def test_a_transparency_key_adds_no_channel(colour, key, png_chunks):
    row = [5] * 3 if colour == 2 else [0]
    encoded = png_chunks(
        ihdr(1, 1, 8, colour), (b"PLTE", bytes([5, 5, 5])), (b"tRNS", key), idat(row), END
    )
    assert decode(encoded).shape[2] == read_header(encoded).channels == (1 if colour == 0 else 3)


def test_a_colour_profile_does_not_change_the_numbers(png_chunks):
    encoded = png_chunks(ihdr(1, 1, 8, 0), (b"gAMA", struct.pack(">I", 10_000)), idat([77]), END)
    assert decode(encoded).tolist() == [[[77]]]


def test_interlaced_is_as_pillow_reads_it():
    pixels = np.random.default_rng(0).integers(0, 256, (13, 9, 3), dtype=np.uint8)
    plain = imagecodecs.png_encode(pixels)
    assert np.array_equal(decode(plain), np.asarray(Image.open(BytesIO(plain))))


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_exif_chunk_is_honoured(orientation, png_chunks, exif_block):
    encoded = png_chunks(ihdr(2, 1, 8, 0), (b"eXIf", exif_block(orientation)), idat([1, 2]), END)
    assert decode(encoded).shape == ((1, 2, 1) if orientation == 1 else (2, 1, 1))


def whole(png_chunks):
    return png_chunks(ihdr(64, 64, 8, 0), idat(*np.arange(4096).reshape(64, 64) % 251), END)


def test_cut_off_anywhere_it_is_broken_and_never_half_grey(png_chunks):
    encoded = whole(png_chunks)
    assert decode(encoded).shape == (64, 64, 1)
    for length in range(8, len(encoded), 7):
        with pytest.raises(BrokenImage):
            decode(encoded[:length])


def test_any_flipped_byte_of_the_pixel_data_is_noticed(png_chunks):
    encoded = whole(png_chunks)
    start = encoded.index(b"IDAT") + 4
    for at in range(start, len(encoded) - 16, 11):
        damaged = bytearray(encoded)
        damaged[at] ^= 0x10
        with pytest.raises(BrokenImage, match="checksum"):
            decode(bytes(damaged))


def test_pixel_data_that_end_early_in_sound_chunks_are_broken(png_chunks):
    short = zlib.compress(b"\0" + bytes(64))
    with pytest.raises(BrokenImage, match="do not decode"):
        decode(png_chunks(ihdr(64, 64, 8, 0), (b"IDAT", short), END))


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (ihdr(0, 5, 8, 0), "at least 1"),
        (ihdr(5, 5, 3, 0), "3 bits"),
        (ihdr(5, 5, 8, 5), "colour type 5"),
        ((b"gAMA", b"\0\0\0\0"), "IHDR"),
    ],
)
def test_a_senseless_header_is_broken(first, reason, png_chunks):
    with pytest.raises(BrokenImage, match=reason):
        read_header(png_chunks(first, idat([0] * 5), END))


def test_no_pixel_data_is_said(png_chunks):
    with pytest.raises(BrokenImage, match="no pixel data"):
        decode(png_chunks(ihdr(5, 5, 8, 0), END))


def test_an_animation_is_refused(pillow_bytes):
    frames = [Image.new("L", (4, 4), level) for level in (0, 100, 200)]
    encoded = pillow_bytes(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert read_header(encoded).pages == 3
    with pytest.raises(UnsupportedImage, match="animation of 3 frames"):
        decode(encoded)

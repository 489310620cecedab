import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from imaging.errors import BrokenImage, ImageTooLarge, UnsupportedImage
from imaging.label_png import encode_label_png, read_mask

PALETTE = [(i, 255 - i, (7 * i) % 256) for i in range(256)]


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_reading_gives_the_labels_that_were_written(labels_hw):
    assert np.array_equal(read_mask(encode_label_png(labels_hw, PALETTE)), labels_hw)


def test_other_readers_find_indices_and_colours():
    labels_hw = np.array([[0, 1], [2, 1], [0, 0]], np.uint8)
    palette = [(0, 0, 0), (255, 10, 0), (0, 20, 255)]
    image = Image.open(BytesIO(encode_label_png(labels_hw, palette)))
    image.load()
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), labels_hw)
    assert np.array_equal(np.asarray(image.convert("RGB")), np.array(palette)[labels_hw])


@pytest.mark.parametrize(
    ("labels", "colours"),
    [
        (np.zeros((2, 2), np.int64), 2),
        (np.zeros((2, 2, 1), np.uint8), 2),
        (np.zeros((0, 2), np.uint8), 2),
        (np.full((2, 2), 2, np.uint8), 2),
        (np.zeros((2, 2), np.uint8), 257),
    ],
)
def test_what_an_indexed_png_cannot_hold_is_refused(labels, colours):
    with pytest.raises(ValueError, match="came"):
        encode_label_png(labels, (PALETTE * 2)[:colours])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_masks_give_indices_at_every_depth(bits, pillow_bytes):
    labels_hw = np.arange(2**bits, dtype=np.uint8)[None].repeat(3, axis=0)
    image = Image.frombytes("P", (2**bits, 3), labels_hw.tobytes())
    image.putpalette([channel for colour in PALETTE[: 2**bits] for channel in colour])
    encoded = pillow_bytes(image, "PNG", bits=bits)
    assert encoded[24] == bits
    assert np.array_equal(read_mask(encoded), labels_hw)


def test_one_bit_masks_give_0_and_1(pillow_bytes, tiff_bytes):
    mask_hw = np.random.default_rng(0).random((9, 13)) < 0.5
    for file_format in ("PNG", "TIFF", "BMP"):
        read = read_mask(pillow_bytes(mask_hw, file_format))
        assert read.dtype == np.uint8
        assert np.array_equal(read, mask_hw)
    assert np.array_equal(read_mask(tiff_bytes(mask_hw, photometric="miniswhite")), mask_hw)


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bit_grey_masks_come_unscaled(bits, png_chunks):
    width = 8 // bits
    packed = sum(index << (8 - bits * (index + 1)) for index in range(width))
    encoded = png_chunks(
        (b"IHDR", bytes([0, 0, 0, width, 0, 0, 0, 1, bits, 0, 0, 0, 0])),
        (b"IDAT", zlib.compress(bytes([0, packed]))),
        (b"IEND", b""),
    )
    assert read_mask(encoded).tolist() == [list(range(width))]


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int16, np.int32, np.float32]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.integers(0, 100),
    )
)
def test_tiff_masks_come_as_stored(labels_hw):
    written = BytesIO()
    tifffile.imwrite(written, labels_hw, photometric="minisblack")
    read = read_mask(written.getvalue())
    assert read.dtype == labels_hw.dtype
    assert np.array_equal(read, labels_hw)


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_masks_keep_their_channels(channels, pillow_bytes):
    mask_hwc = np.random.default_rng(0).integers(0, 256, (4, 5, channels), dtype=np.uint8)
    assert np.array_equal(read_mask(pillow_bytes(mask_hwc, "PNG")), mask_hwc)


def test_bmp_palette_masks_give_indices(pillow_bytes):
    labels_hw = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.frombytes("P", (4, 3), labels_hw.tobytes())
    image.putpalette([channel for colour in PALETTE for channel in colour])
    assert np.array_equal(read_mask(pillow_bytes(image, "BMP")), labels_hw)


def test_orientation_is_applied_as_for_images(pillow_bytes):
    exif = Image.Exif()
    exif[0x0112] = 6
    labels_hw = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    read = read_mask(pillow_bytes(labels_hw, "PNG", exif=exif))
    assert read.tolist() == [[4, 1], [5, 2], [6, 3]]


def test_jpeg_masks_are_refused_because_their_values_are_lost(pillow_bytes):
    with pytest.raises(UnsupportedImage, match="PNG or TIFF"):
        read_mask(pillow_bytes(np.zeros((8, 8), np.uint8), "JPEG"))


def test_errors_of_a_file_name_it(tmp_path):
    path = tmp_path / "mask_7.png"
    path.write_bytes(encode_label_png(np.zeros((9, 9), np.uint8), PALETTE)[:-5])
    with pytest.raises(BrokenImage, match=r"mask_7\.png: the PNG ends"):
        read_mask(path)


def test_the_size_is_checked_first():
    with pytest.raises(ImageTooLarge, match="limit is 80"):
        read_mask(encode_label_png(np.zeros((9, 9), np.uint8), PALETTE), max_pixels=80)

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imaging.formats.exif import exif_orientation, valid_orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_pillow_writes_is_read(orientation):
    exif = Image.Exif()
    exif[0x010F] = "a maker, so that the tag is not the first"
    exif[0x0112] = orientation
    assert exif_orientation(exif.tobytes()[6:]) == orientation


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(order):
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    block = mark + struct.pack(order + "IHHHIHH", 8, 1, 0x0112, 3, 1, 8, 0)
    assert exif_orientation(block) == 8


@pytest.mark.parametrize("written", [0, 9, 65535])
def test_an_unknown_orientation_counts_as_none(written, exif_block):
    assert exif_orientation(exif_block(written)) == 1


def test_only_whole_numbers_from_1_to_8_are_valid():
    assert [valid_orientation(v) for v in (1, 8, 0, 9, None, "6", (6,))] == [1, 8, 1, 1, 1, 1, 1]


@given(st.binary(max_size=60), st.integers(0, 26))
def test_damaged_blocks_count_as_none_or_give_a_valid_one(tail, length):
    whole = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    assert 1 <= exif_orientation(whole[:length] + tail) <= 8

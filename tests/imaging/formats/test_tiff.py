import struct
import tracemalloc
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from imaging.decode import decode_image
from imaging.errors import BrokenImage, ImageTooLarge, UnsupportedImage
from imaging.header import read_header

WIDTH, BITS, PHOTOMETRIC = 256, 258, 262


def decode(encoded):
    return decode_image(encoded, max_pixels=100_000).pixels_hwc


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def retagged(encoded, tag, value):
    """Overwrite a SHORT or LONG tag's value in the first directory of a little-endian file."""
    changed = bytearray(encoded)
    (ifd,) = struct.unpack_from("<I", encoded, 4)
    (entries,) = struct.unpack_from("<H", encoded, ifd)
    for entry in range(ifd + 2, ifd + 2 + 12 * entries, 12):
        number, kind = struct.unpack_from("<HH", encoded, entry)
        if number == tag:
            struct.pack_into({3: "<H", 4: "<I"}[kind], changed, entry + 8, value)
            return bytes(changed)
    raise LookupError(tag)


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float32]),
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 6)),
        elements=st.integers(0, 255),
    ),
    st.sampled_from(["contig", "separate"]),
    st.sampled_from([None, "zlib", "lzw", "packbits", "zstd", "lzma"]),
    st.booleans(),
)
def test_any_channel_count_layout_and_compression_comes_back(
    pixels_hwc, planar, compression, bigtiff
):
    height, width, channels = pixels_hwc.shape
    stored = pixels_hwc if planar == "contig" else pixels_hwc.transpose(2, 0, 1)
    if channels == 1:
        stored, planar = pixels_hwc[:, :, 0], None
    written = BytesIO()
    tifffile.imwrite(
        written,
        stored,
        photometric="minisblack",
        planarconfig=planar,
        compression=compression,
        bigtiff=bigtiff,
        metadata=None,
    )
    encoded = written.getvalue()
    decoded = decode(encoded)
    assert decoded.dtype == pixels_hwc.dtype
    assert np.array_equal(decoded, pixels_hwc)
    header = read_header(encoded)
    assert (header.height_px, header.width_px, header.channels) == (height, width, channels)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (16, 32)},
        {"tile": (16, 32), "compression": "zlib", "predictor": True},
        {"rowsperstrip": 7, "byteorder": ">"},
        {"compression": "deflate", "predictor": True, "byteorder": ">"},
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiles_strips_predictors_and_byte_orders(options, dtype, tiff_bytes):
    pixels = noise(45, 50, 3, dtype=dtype)
    assert np.array_equal(decode(tiff_bytes(pixels, photometric="rgb", **options)), pixels)


def test_16_bit_rgb_keeps_its_depth(tiff_bytes):
    pixels = noise(5, 6, 3, dtype=np.uint16) * 257
    assert np.array_equal(decode(tiff_bytes(pixels, photometric="rgb")), pixels)


def test_jpeg_tiles_come_as_rgb(tiff_bytes):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :, 0] = 200
    encoded = tiff_bytes(pixels, photometric="rgb", compression="jpeg", tile=(32, 32))
    assert np.abs(decode(encoded).astype(int) - pixels).max() <= 3


@pytest.mark.parametrize("writer", [{"imagej": True}, {"ome": True}])
def test_pages_that_are_channels_are_one_image(writer, tiff_bytes):
    stored = noise(5, 20, 30, dtype=np.uint16)
    encoded = tiff_bytes(stored, metadata={"axes": "CYX"}, **writer)
    assert np.array_equal(decode(encoded), stored.transpose(1, 2, 0))
    assert read_header(encoded).channels == 5


@pytest.mark.parametrize("writer", [{"imagej": True}, {"ome": True}])
def test_a_cut_off_stack_of_channels_is_broken(writer, tiff_bytes):
    encoded = tiff_bytes(noise(5, 20, 30), metadata={"axes": "CYX"}, **writer)
    for length in range(4, len(encoded), 83):
        with pytest.raises(BrokenImage):
            decode(encoded[:length])


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
def test_stacks_are_refused(axes, tiff_bytes):
    encoded = tiff_bytes(noise(5, 20, 30), imagej=True, metadata={"axes": axes})
    with pytest.raises(UnsupportedImage, match=f"{axes} 5x20x30.*not one image"):
        decode(encoded)


def test_pages_without_meaning_are_refused(tiff_bytes):
    with pytest.raises(UnsupportedImage, match="holds 4 pages"):
        decode(tiff_bytes(noise(4, 20, 30), photometric="minisblack"))


def test_reduced_copies_beside_the_image_are_passed_over():
    written = BytesIO()
    full = noise(32, 32)
    with tifffile.TiffWriter(written) as file:
        file.write(full, metadata=None)
        file.write(full[::2, ::2], subfiletype=1, metadata=None)
    assert np.array_equal(decode(written.getvalue())[:, :, 0], full)


def test_a_chain_of_directories_without_end_is_refused(tiff_bytes):
    encoded = tiff_bytes(noise(4, 4))
    (ifd,) = struct.unpack_from("<I", encoded, 4)
    (entries,) = struct.unpack_from("<H", encoded, ifd)
    circular = bytearray(encoded)
    struct.pack_into("<I", circular, ifd + 2 + 12 * entries, ifd)
    with pytest.raises(UnsupportedImage, match="lead back"):
        decode(bytes(circular))


def test_of_an_ome_image_spread_over_files_only_this_file_is_read(tiff_bytes):
    plane = (
        '<TiffData IFD="0" FirstC="{c}" PlaneCount="1"><UUID FileName="{c}.ome.tif">urn:uuid:{c}'
        "</UUID></TiffData>"
    )
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" '
        'SizeX="8" SizeY="8" SizeC="2" SizeZ="1" SizeT="1">'
        '<Channel ID="Channel:0:0"/><Channel ID="Channel:0:1"/>'
        f"{plane.format(c=0)}{plane.format(c=1)}</Pixels></Image></OME>"
    )
    pixels = noise(8, 8)
    encoded = tiff_bytes(pixels, description=xml, metadata=None)
    # tifffile alone opens the other file, or fills its channel with zeros.
    assert tifffile.TiffFile(BytesIO(encoded)).series[0].shape == (2, 8, 8)
    assert np.array_equal(decode(encoded), pixels[:, :, None])


def test_a_missing_photometric_tag_means_that_0_is_black(tiff_bytes):
    encoded = bytearray(tiff_bytes(noise(5, 6), metadata=None))
    at = encoded.index(struct.pack("<HHI", PHOTOMETRIC, 3, 1))
    encoded[at : at + 2] = struct.pack("<H", 261)
    assert np.array_equal(decode(bytes(encoded))[:, :, 0], noise(5, 6))


def test_reduced_copies_alone_are_refused(tiff_bytes):
    with pytest.raises(UnsupportedImage, match="no full image"):
        decode(tiff_bytes(noise(5, 6), subfiletype=1))


def test_a_jpeg_larger_than_its_tile_is_refused_before_it_is_decoded(tiff_bytes):
    encoded = tiff_bytes(noise(256, 256), tile=(256, 256), compression="jpeg", metadata=None)
    for tag in (WIDTH, 257, 322, 323):
        encoded = retagged(encoded, tag, 16)
    with pytest.raises(BrokenImage, match="256x256 px, more than its tile"):
        decode(encoded)


def test_miniswhite_is_inverted(tiff_bytes, pillow_bytes):
    pixels = noise(5, 6)
    assert np.array_equal(
        decode(tiff_bytes(pixels, photometric="miniswhite"))[:, :, 0], 255 - pixels
    )
    one_bit = noise(5, 6) > 100
    assert np.array_equal(
        decode(tiff_bytes(one_bit, photometric="miniswhite"))[:, :, 0], 255 * ~one_bit
    )


def test_a_palette_becomes_rgb(pillow_bytes):
    image = Image.fromarray(noise(9, 9, 3)).quantize(16)
    encoded = pillow_bytes(image, "TIFF")
    assert np.array_equal(decode(encoded), np.asarray(image.convert("RGB")))
    assert read_header(encoded).has_palette


def test_fax_compression(pillow_bytes):
    bits = noise(20, 31) > 128
    assert np.array_equal(
        decode(pillow_bytes(bits, "TIFF", compression="group4"))[:, :, 0], 255 * bits
    )


@pytest.mark.parametrize(
    ("photometric", "name"), [(5, "CMYK"), (8, "CIELab"), (6, "YCbCr without JPEG")]
)
def test_other_colour_spaces_are_refused_by_name(photometric, name, tiff_bytes):
    encoded = retagged(tiff_bytes(noise(4, 4), metadata=None), PHOTOMETRIC, photometric)
    with pytest.raises(UnsupportedImage, match=name):
        decode(encoded)


@pytest.mark.parametrize("compression", ["jpeg2000", "png", "webp"])
def test_codecs_that_carry_their_own_size_are_refused(compression, tiff_bytes):
    encoded = tiff_bytes(noise(32, 32, 3), photometric="rgb", compression=compression)
    with pytest.raises(UnsupportedImage, match="compression"):
        decode(encoded)


def test_complex_samples_are_refused(tiff_bytes):
    with pytest.raises(UnsupportedImage, match="samples"):
        decode(tiff_bytes(np.zeros((4, 4), np.complex64)))


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_cut_off_anywhere_it_is_broken(options, tiff_bytes):
    encoded = tiff_bytes(noise(40, 40), **options)
    for length in range(4, len(encoded), 37):
        with pytest.raises(BrokenImage):
            decode(encoded[:length])


def test_more_strips_claimed_than_listed_is_broken(tiff_bytes):
    encoded = tiff_bytes(noise(40, 40), compression="zlib", rowsperstrip=10, metadata=None)
    with pytest.raises(BrokenImage):
        decode(retagged(encoded, 257, 400))


def test_memory_is_bounded_by_the_limit_whatever_the_tags_claim(tiff_bytes):
    plain = tiff_bytes(noise(16, 16), tile=(16, 16), compression="zlib", metadata=None)
    hostile = [
        retagged(plain, WIDTH, 2**31 - 1),
        retagged(plain, 322, 65520),
        retagged(retagged(plain, 322, 65520), 323, 65520),
    ]
    tracemalloc.start()
    try:
        for encoded in hostile:
            with suppress(BrokenImage, ImageTooLarge):
                decode(encoded)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()

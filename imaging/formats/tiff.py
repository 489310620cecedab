"""TIFF, BigTIFF, OME-TIFF and ImageJ files, through tifffile.

Rule for several pages: a file is one image where tifffile finds exactly one series in it
(reduced-resolution copies and transparency masks aside) and that series has the axes Y and X and
at most one of S (samples) and C (channels); so OME-TIFF and ImageJ files whose pages are the
channels of one image are read. Stacks (Z, T), pages without meaning and RGB per channel are
refused: which page is meant cannot be told.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile

from imaging.errors import BrokenImage, UnsupportedImage
from imaging.formats.exif import valid_orientation
from imaging.formats.guard import broken_unless_decoded
from imaging.formats.jpeg import jpeg_frame_size_hw
from imaging.formats.tiff_samples import as_intensities
from imaging.image_header import ImageHeader

MAX_PAGES = 512
# A tile may reach past the image's edge; one much larger than the image is an attack on memory.
MAX_SEGMENT_BYTES = 256 * 2**20

_MINISWHITE, _PALETTE, _YCBCR = 0, 3, 6
_PHOTOMETRICS = {_MINISWHITE, 1, 2, _PALETTE, 4, _YCBCR}
_PHOTOMETRIC_NAMES = {5: "CMYK", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "raw sensor data"}
# Codecs whose output is bounded by the size that the page gives. JPEG 2000, WebP and the like
# carry a size of their own, which would be decoded first and checked afterwards.
_JPEG = 7
_COMPRESSIONS = {1, 2, 3, 4, 5, _JPEG, 8, 32773, 32946, 34925, 50000}
for _number in _COMPRESSIONS:  # loaded now, see imaging/formats/png.py
    tifffile.TIFF.DECOMPRESSORS[_number]
for _number in (2, 3):
    tifffile.TIFF.UNPREDICTORS[_number]
_REDUCED_OR_MASK = 1 | 4
# Sizes, sample layout, strips and tiles, colour table, and the text that names the axes.
_MEANINGFUL_TAGS = {256, 257, 258, 259, 262, 270, 273, 274, 277, 278, 279, 284, 317, 320}
_MEANINGFUL_TAGS |= {322, 323, 324, 325, 338, 339, 347}


class _Picture(NamedTuple):
    """The one series of a file that is the image."""

    series: Any
    page: Any
    axes: str
    """Axes longer than 1 and Y and X, in stored order, such as "YXS" or "CYX"."""


def read_tiff_header(encoded: bytes) -> ImageHeader:
    """Read sizes and sample type from the image file directories.

    Raises:
        BrokenImage: The directories do not parse.
        UnsupportedImage: A stack of images, or a colour space or compression that is not read.
    """
    with _opened(encoded) as (picture, pages):
        return _header(picture, pages)


def decode_tiff(encoded: bytes) -> npt.NDArray[np.generic]:
    """Decode to uint8, uint16 or float32 ``[H, W, C]``; `as_intensities` says how.

    JPEG-compressed YCbCr becomes RGB; all samples of a pixel become channels, in stored order.

    Raises:
        BrokenImage: Damaged or incomplete data; NaN or infinity among floats.
        UnsupportedImage: As `read_tiff_header`; integers that float32 cannot hold.
    """
    with _opened(encoded) as (picture, _):
        page = picture.page
        return as_intensities(
            _stored_hwc(picture, encoded),
            bits=_bits(page),
            white_is_zero=_photometric(page) == _MINISWHITE,
            colours=page.colormap if _photometric(page) == _PALETTE else None,
        )


def decode_stored_tiff(encoded: bytes) -> npt.NDArray[np.generic]:
    """Decode to the stored numbers: nothing inverted, scaled or looked up; 1-bit as 0 and 1.

    Raises:
        BrokenImage: Damaged or incomplete data.
        UnsupportedImage: As `read_tiff_header`.
    """
    with _opened(encoded) as (picture, _):
        stored_hwc = _stored_hwc(picture, encoded)
        return stored_hwc.astype(np.uint8) if stored_hwc.dtype == np.bool_ else stored_hwc


@contextmanager
def _opened(encoded: bytes) -> Iterator[tuple[_Picture, int]]:
    # Without _multifile=False an OME-TIFF may name other files, which would be opened.
    with (
        broken_unless_decoded("TIFF"),
        tifffile.TiffFile(BytesIO(encoded), _multifile=False) as file,
    ):
        pages = _count_pages(file)
        _check_whole(file, encoded)
        picture = _only_picture(file, pages)
        _check_page(picture.page)
        yield picture, pages


def _count_pages(file: Any) -> int:
    with suppress(IndexError):
        # Seeks no further than this page, so a long chain of directories costs nothing.
        _ = file.pages[MAX_PAGES]
        raise UnsupportedImage(
            f"the TIFF has more than {MAX_PAGES} pages, or pages that lead back to earlier ones; "
            "one image is read: save the one meant"
        )
    pages = len(file.pages)
    if pages == 0:
        raise BrokenImage("the TIFF has no image directory: it is cut off; send it again")
    return pages


def _check_whole(file: Any, encoded: bytes) -> None:
    """Prove that no page and no tag with a meaning lies outside a cut-off file.

    tifffile passes over what it cannot reach, and an image of five channels would become one of
    four. Other tags that lead outside the file are common and harmless.
    """
    layout, first = file.tiff, file.pages.first
    chain_end = file.pages.next_page_offset
    next_page = encoded[chain_end : chain_end + layout.offsetsize]
    (tags,) = struct.unpack_from(layout.tagnoformat, encoded, first.offset)
    entries_at = first.offset + layout.tagnosize
    codes = {
        struct.unpack_from(layout.byteorder + "H", encoded, entry)[0]
        for entry in range(entries_at, entries_at + tags * layout.tagsize, layout.tagsize)
    }
    lost = {code for code in codes & _MEANINGFUL_TAGS if code not in first.tags}
    if any(next_page) or lost:
        raise BrokenImage(
            "the TIFF leads to a page or to tags that lie outside the file "
            f"(tags {sorted(lost) or 'none'}): it is cut off or damaged; send it again"
        )


def _only_picture(file: Any, pages: int) -> _Picture:
    found = [s for s in file.series if not int(s.keyframe.subfiletype) & _REDUCED_OR_MASK]
    if not found:
        raise UnsupportedImage("the TIFF holds no full image, only reduced copies or masks")
    series = found[0]
    axes = "".join(
        axis
        for axis, length in zip(series.axes, series.shape, strict=True)
        if length != 1 or axis in "YX"
    )
    if len(found) > 1 or sorted(axes) not in (["X", "Y"], ["S", "X", "Y"], ["C", "X", "Y"]):
        described = "; ".join(f"{s.axes} {'x'.join(map(str, s.shape))}" for s in found[:4])
        raise UnsupportedImage(
            f"the TIFF holds {pages} pages ({described}), not one image: save the page that is "
            "meant; where pages are channels, write them with the axes CYX (OME or ImageJ)"
        )
    return _Picture(series, series.keyframe, axes)


def _check_page(page: Any) -> None:
    photometric = _photometric(page)
    if photometric not in _PHOTOMETRICS or (
        photometric == _YCBCR and int(page.compression) != _JPEG
    ):
        name = _PHOTOMETRIC_NAMES.get(photometric, f"photometric interpretation {photometric}")
        if photometric == _YCBCR:
            name = "YCbCr without JPEG"
        raise UnsupportedImage(
            f"the TIFF's colour space is {name}; grey, RGB and palette are read: save it as RGB"
        )
    if int(page.compression) not in _COMPRESSIONS:
        raise UnsupportedImage(
            f"the TIFF's compression ({int(page.compression)}) is not read: save it with LZW, "
            "Deflate or none"
        )
    if page.dtype is None or page.dtype.kind not in "buif":
        raise UnsupportedImage(
            f"the TIFF's samples (format {page.sampleformat}, {page.bitspersample} bits) are not "
            "read: save integers or floats"
        )
    segment_bytes = int(np.prod(page.chunks, dtype=object)) * page.dtype.itemsize
    if segment_bytes > max(MAX_SEGMENT_BYTES, 2 * page.nbytes):
        raise BrokenImage(
            f"one tile of the TIFF takes {segment_bytes:,} bytes, the image {page.nbytes:,}: "
            "write the file again with smaller tiles"
        )


def _header(picture: _Picture, pages: int) -> ImageHeader:
    sizes = dict(zip(picture.series.axes, picture.series.shape, strict=True))
    has_palette = _photometric(picture.page) == _PALETTE
    orientation = picture.page.tags.valueof(274, 1)
    return ImageHeader(
        format="tiff",
        width_px=sizes["X"],
        height_px=sizes["Y"],
        channels=3 if has_palette else sizes.get("S", 1) * sizes.get("C", 1),
        bits_per_sample=_bits(picture.page),
        orientation=valid_orientation(int(orientation)),
        pages=pages,
        has_palette=has_palette,
    )


def _photometric(page: Any) -> int:
    # tifffile takes a missing tag for MINISWHITE; every other reader shows it as black = 0.
    return int(page.photometric) if 262 in page.tags or page.photometric else 1


def _bits(page: Any) -> int:
    bits = page.bitspersample
    return max(bits) if isinstance(bits, tuple) else int(bits)


def _stored_hwc(picture: _Picture, encoded: bytes) -> npt.NDArray[np.generic]:
    for page in picture.series.pages:
        _check_segments(page if page is not None else picture.page, picture.page, encoded)
    pixels = picture.series.asarray(maxworkers=1)
    sizes = dict(zip(picture.series.axes, picture.series.shape, strict=True))
    pixels = pixels.reshape([sizes[axis] for axis in picture.axes])
    if len(picture.axes) == 2:
        pixels, axes = pixels[None], "C" + picture.axes
    else:
        axes = picture.axes.replace("S", "C")
    return np.ascontiguousarray(pixels.transpose([axes.index(axis) for axis in "YXC"]))


def _check_segments(page: Any, keyframe: Any, encoded: bytes) -> None:
    """Prove that every strip or tile lies in the file and is no larger than it says."""
    expected = int(np.prod(keyframe.chunked, dtype=object))
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not keyframe.is_contiguous and len(segments) < expected:
        raise BrokenImage(
            f"the TIFF lists {len(segments)} strips or tiles, its size needs {expected}: "
            "write or send it again"
        )
    for offset, count in segments[:expected]:
        if offset < 8 or count < 1 or offset + count > len(encoded):
            raise BrokenImage(
                f"a strip or tile of the TIFF lies at bytes {offset} to {offset + count}, the file "
                f"has {len(encoded)}: it is cut off or damaged; send it again"
            )
        if int(keyframe.compression) == _JPEG:
            height_px, width_px = jpeg_frame_size_hw(encoded[offset : offset + count])
            if height_px > max(keyframe.chunks[:2]) or width_px > max(keyframe.chunks):
                raise BrokenImage(
                    f"a JPEG tile in the TIFF has {width_px}x{height_px} px, more than its tile"
                )

"""JPEG: marker walk, header, decoding."""

import re
import struct
from typing import NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt

from imaging.errors import BrokenImage, UnsupportedImage
from imaging.formats.exif import exif_orientation
from imaging.formats.guard import broken_unless_decoded
from imaging.image_header import ImageHeader

_jpeg_decode = imagecodecs.jpeg8_decode  # loaded now, see imaging/formats/png.py

# A progressive file may hold any number of passes over the whole image at a few bytes each;
# encoders write about ten.
MAX_SCANS = 100

_SOF_NAMES = {
    0xC0: "baseline",
    0xC1: "extended",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical",
    0xC9: "arithmetic",
    0xCA: "arithmetic",
    0xCB: "arithmetic lossless",
    0xF7: "JPEG-LS",
}
_READ_SOFS = (0xC0, 0xC1, 0xC2, 0xC3)
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_BARE = (0x01, *range(0xD0, 0xD9))
# In entropy-coded data, FF 00 is a stuffed FF, D0..D7 are restart marks and FF FF is filling.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class _Frame(NamedTuple):
    kind: int
    bits: int
    height_px: int
    width_px: int
    components: int


class _Outline(NamedTuple):
    frame: _Frame
    orientation: int
    scans: int
    complete: bool


def read_jpeg_header(encoded: bytes) -> ImageHeader:
    """Read the frame header and the EXIF orientation.

    Raises:
        BrokenImage: No frame header before the data end.
    """
    outline = _walk(encoded)
    return ImageHeader(
        format="jpeg",
        width_px=outline.frame.width_px,
        height_px=outline.frame.height_px,
        channels=outline.frame.components,
        bits_per_sample=outline.frame.bits,
        orientation=outline.orientation,
    )


def jpeg_frame_size_hw(encoded: bytes) -> tuple[int, int]:
    """Return the height and width in a JPEG stream's frame header.

    Raises:
        BrokenImage: No frame header.
    """
    frame = _walk(encoded).frame
    return frame.height_px, frame.width_px


def decode_jpeg(encoded: bytes) -> npt.NDArray[np.generic]:
    """Decode to uint8 ``[H, W, 1 or 3]``, RGB; 12-bit files give uint16.

    libjpeg fills what is missing with grey and says nothing, so the end marker is checked. Data
    damaged between intact markers cannot be told from a picture.

    Raises:
        BrokenImage: Cut off or not decodable.
        UnsupportedImage: CMYK, arithmetic, hierarchical, JPEG-LS.
    """
    outline = _walk(encoded)
    frame = outline.frame
    if frame.kind not in _READ_SOFS:
        raise UnsupportedImage(
            f"this is a JPEG of the {_SOF_NAMES[frame.kind]} kind; baseline, progressive and "
            "lossless are read: save it as PNG"
        )
    if frame.components not in (1, 3):
        raise UnsupportedImage(
            f"the JPEG has {frame.components} components (CMYK has 4); grey and RGB are read: "
            "save it as an RGB PNG or JPEG"
        )
    if outline.scans > MAX_SCANS:
        raise BrokenImage(
            f"the JPEG makes more than {MAX_SCANS} passes over the image; write it again"
        )
    if not outline.complete:
        raise BrokenImage("the JPEG ends before its end marker: it is cut off; send it again")
    with broken_unless_decoded("JPEG"):
        pixels: npt.NDArray[np.generic] = _jpeg_decode(encoded)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def decode_stored_jpeg(encoded: bytes) -> npt.NDArray[np.generic]:
    """Refuse: after JPEG's rounding the values of a mask are no longer what was written.

    Raises:
        UnsupportedImage: Always.
    """
    raise UnsupportedImage(
        "a mask came as JPEG, whose compression changes values, so class indices are lost: "
        "save masks as PNG or TIFF"
    )


def _walk(encoded: bytes) -> _Outline:
    """Follow the markers from SOI to EOI, or to where the data end."""
    frame: _Frame | None = None
    orientation, scans, complete = 1, 0, False
    position = 2
    while (found := _NEXT_MARKER.search(encoded, position)) is not None:
        marker, position = encoded[found.end() - 1], found.end()
        if marker == _EOI:
            complete = True
            break
        if marker in _BARE:
            continue
        if position + 2 > len(encoded):
            break
        (length,) = struct.unpack_from(">H", encoded, position)
        payload = encoded[position + 2 : position + length]
        if marker == _APP1 and payload.startswith(b"Exif\x00\x00"):
            orientation = exif_orientation(payload[6:])
        elif marker in _SOF_NAMES and frame is None and len(payload) >= 6:
            frame = _Frame(marker, *struct.unpack_from(">BHHB", payload))
        elif marker == _SOS:
            scans += 1
            if scans > MAX_SCANS:
                break
        position += max(2, length)
    if frame is None:
        raise BrokenImage("the JPEG has no frame header: it is cut off or damaged; send it again")
    return _Outline(frame, orientation, scans, complete)

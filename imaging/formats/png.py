"""PNG: chunk walk, header, decoding to intensities or to the stored values.

imagecodecs decodes, because OpenCV turns grey+alpha into four channels and Pillow gives 8 bits
for 16-bit RGB. It gets the critical chunks only, so transparency keys, colour profiles and
texts neither change the pixels nor cost memory.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt

from imaging.errors import BrokenImage, UnsupportedImage
from imaging.formats.exif import exif_orientation
from imaging.formats.guard import broken_unless_decoded
from imaging.image_header import ImageHeader

# imagecodecs loads a codec when it is first asked for, and keeps a failure (say, as many files are
# open as may be) for as long as the process lives.
_png_decode = imagecodecs.png_decode

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A file of empty chunks would keep the walk busy for minutes; 8-kB chunks reach this at 4 GB.
MAX_CHUNKS = 500_000

_CRITICAL = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND"))
_GREY, _PALETTE = 0, 3
_CHANNELS = {_GREY: 1, 2: 3, _PALETTE: 3, 4: 2, 6: 4}
_BITS = {_GREY: (1, 2, 4, 8, 16), 2: (8, 16), _PALETTE: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    end: int
    """``encoded[start:end]`` is the chunk from its length to its CRC."""

    def payload(self, encoded: bytes) -> bytes:
        return encoded[self.start + 8 : self.end - 4]


class _Ihdr(NamedTuple):
    width_px: int
    height_px: int
    bits: int
    colour: int


def png_size_hw(head: bytes) -> tuple[int, int] | None:
    """Return height and width as a PNG's first 24 bytes give them; None of what is no PNG.

    It checks nothing; `read_png_header` does.
    """
    if len(head) < 24 or not head.startswith(SIGNATURE):
        return None
    width_px, height_px = struct.unpack_from(">II", head, 16)
    return height_px, width_px


def read_png_header(encoded: bytes) -> ImageHeader:
    """Read IHDR and, where they stand before the end, eXIf and acTL.

    Raises:
        BrokenImage: No sound IHDR.
    """
    ihdr = _read_ihdr(encoded)
    orientation, frames = 1, 1
    for chunk in _chunks(encoded):
        if chunk.kind == b"eXIf":
            orientation = exif_orientation(chunk.payload(encoded))
        elif chunk.kind == b"acTL" and chunk.end - chunk.start == 20:
            (frames,) = struct.unpack_from(">I", chunk.payload(encoded))
    return ImageHeader(
        format="png",
        width_px=ihdr.width_px,
        height_px=ihdr.height_px,
        channels=_CHANNELS[ihdr.colour],
        bits_per_sample=ihdr.bits,
        orientation=orientation,
        pages=max(1, frames),
        has_palette=ihdr.colour == _PALETTE,
    )


def decode_png(encoded: bytes) -> npt.NDArray[np.generic]:
    """Decode to uint8 or uint16 ``[H, W, C]``; grey of 1, 2 or 4 bits is scaled to 0..255.

    A palette becomes RGB. A transparency key (tRNS) adds no channel; a real alpha channel stays.

    Raises:
        BrokenImage: Damaged or incomplete data, a wrong checksum included.
        UnsupportedImage: More than one frame.
    """
    return _decode(_critical_chunks(encoded))


def decode_stored_png(encoded: bytes) -> npt.NDArray[np.generic]:
    """Decode to the stored numbers: palette indices, and 1, 2, 4-bit grey unscaled.

    Raises:
        BrokenImage: As `decode_png`.
        UnsupportedImage: As `decode_png`.
    """
    ihdr = _read_ihdr(encoded)
    critical = _critical_chunks(encoded)
    if ihdr.colour == _PALETTE:
        critical = _as_grey(critical)
    pixels_hwc = _decode(critical)
    if ihdr.bits < 8:
        pixels_hwc = pixels_hwc.astype(np.uint8) // np.uint8(255 // (2**ihdr.bits - 1))
    return pixels_hwc


def _decode(png: bytes) -> npt.NDArray[np.generic]:
    with broken_unless_decoded("PNG"):
        pixels: npt.NDArray[np.generic] = _png_decode(png)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _read_ihdr(encoded: bytes) -> _Ihdr:
    if encoded[8:16] != b"\x00\x00\x00\rIHDR" or len(encoded) < 33:
        raise BrokenImage("the PNG does not begin with an IHDR chunk: write or send it again")
    (stored_crc,) = struct.unpack_from(">I", encoded, 29)
    if zlib.crc32(encoded[12:29]) != stored_crc:
        raise BrokenImage("the checksum of the PNG's IHDR is wrong: write or send it again")
    width_px, height_px, bits, colour = struct.unpack_from(">IIBB", encoded, 16)
    if bits not in _BITS.get(colour, ()) or max(width_px, height_px) > 2**31 - 1:
        raise BrokenImage(
            f"the PNG's IHDR gives {width_px}x{height_px} px, {bits} bits, colour type {colour}, "
            "which PNG does not know: write the file again"
        )
    return _Ihdr(width_px, height_px, bits, colour)


def _chunks(encoded: bytes) -> Iterator[_Chunk]:
    """Yield whole chunks up to IEND; an incomplete chunk ends the walk."""
    start = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if start + 12 > len(encoded):
            return
        (length,) = struct.unpack_from(">I", encoded, start)
        end = start + 12 + length
        if end > len(encoded):
            return
        chunk = _Chunk(encoded[start + 4 : start + 8], start, end)
        yield chunk
        if chunk.kind == b"IEND":
            return
        start = end
    raise BrokenImage(f"the PNG has more than {MAX_CHUNKS:,} chunks: write the file again")


def _critical_chunks(encoded: bytes) -> bytes:
    """Return the PNG without ancillary chunks, its critical ones proved complete and sound."""
    parts = [SIGNATURE]
    kind = b""
    for chunk in _chunks(encoded):
        kind = chunk.kind
        if kind == b"acTL":
            frames = int.from_bytes(chunk.payload(encoded)[:4], "big")
            if frames > 1:
                raise UnsupportedImage(
                    f"the PNG is an animation of {frames} frames: save the one that is meant"
                )
        if kind not in _CRITICAL:
            continue
        whole = encoded[chunk.start : chunk.end]
        if zlib.crc32(whole[4:-4]) != int.from_bytes(whole[-4:], "big"):
            raise BrokenImage(
                f"the checksum of the PNG's {kind.decode()} chunk is wrong: the file is damaged; "
                "write or send it again"
            )
        parts.append(whole)
    if kind != b"IEND":
        raise BrokenImage("the PNG ends before its IEND chunk: it is cut off; send it again")
    if not any(part.startswith(b"IDAT", 4) for part in parts[1:]):
        raise BrokenImage("the PNG has no pixel data (no IDAT chunk): write or send it again")
    return b"".join(parts)


def _as_grey(critical: bytes) -> bytes:
    """Relabel an indexed PNG as grey: the samples are stored alike, so indices come out."""
    ihdr = bytearray(critical[8:33])
    ihdr[17] = _GREY
    ihdr[21:25] = zlib.crc32(ihdr[4:21]).to_bytes(4, "big")
    kept = [
        critical[chunk.start : chunk.end]
        for chunk in _chunks(critical)
        if chunk.kind not in (b"IHDR", b"PLTE")
    ]
    return b"".join((SIGNATURE, bytes(ihdr), *kept))

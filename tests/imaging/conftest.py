"""Writers of small image files, each by a library other than the one that reads them here."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def pillow_bytes() -> Encode:
    def encode(pixels: Any, file_format: str, *, mode: str | None = None, **options: Any) -> bytes:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        written = BytesIO()
        (image.convert(mode) if mode else image).save(written, file_format, **options)
        return written.getvalue()

    return encode


@pytest.fixture(scope="session")
def tiff_bytes() -> Encode:
    def encode(pixels: np.ndarray[Any, Any], **options: Any) -> bytes:
        written = BytesIO()
        tifffile.imwrite(written, pixels, **options)
        return written.getvalue()

    return encode


@pytest.fixture(scope="session")
def png_chunks() -> Encode:
    """Write a PNG chunk by chunk; pairs of (kind, payload), checksums made right."""

    def encode(*chunks: tuple[bytes, bytes]) -> bytes:
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(payload))
            + kind
            + payload
            + struct.pack(">I", zlib.crc32(kind + payload))
            for kind, payload in chunks
        )

    return encode


@pytest.fixture(scope="session")
def exif_block() -> Callable[[int], bytes]:
    """An EXIF block with nothing but an orientation, big-endian."""

    def encode(orientation: int) -> bytes:
        return b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)

    return encode

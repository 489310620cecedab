"""BMP, through Pillow, which knows its many variants."""

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile

from imaging.errors import UnsupportedImage
from imaging.formats.guard import broken_unless_decoded
from imaging.image_header import ImageHeader

_CHANNELS = {"1": 1, "L": 1, "P": 3, "RGB": 3, "RGBA": 4}


def read_bmp_header(encoded: bytes) -> ImageHeader:
    """Read the bitmap header; no pixels are decoded.

    Raises:
        BrokenImage: The header makes no sense.
        UnsupportedImage: A variant that is not read.
    """
    bitmap = _open(encoded)
    return ImageHeader(
        format="bmp",
        width_px=bitmap.width,
        height_px=bitmap.height,
        channels=_CHANNELS[bitmap.mode],
        bits_per_sample=1 if bitmap.mode == "1" else 8,
        has_palette=bitmap.mode == "P",
    )


def decode_bmp(encoded: bytes) -> npt.NDArray[np.generic]:
    """Decode to uint8 ``[H, W, 1, 3 or 4]``; a palette becomes RGB, 1-bit grey 0 and 255.

    Raises:
        BrokenImage: Damaged or incomplete data.
        UnsupportedImage: A variant that is not read.
    """
    bitmap = _open(encoded)
    shown_mode = {"1": "L", "P": "RGB"}.get(bitmap.mode, bitmap.mode)
    with broken_unless_decoded("BMP"):
        return _as_hwc(np.array(bitmap.convert(shown_mode)))


def decode_stored_bmp(encoded: bytes) -> npt.NDArray[np.generic]:
    """Decode to the stored numbers: palette indices, 1-bit as 0 and 1.

    Raises:
        BrokenImage: Damaged or incomplete data.
        UnsupportedImage: A variant that is not read.
    """
    bitmap = _open(encoded)
    with broken_unless_decoded("BMP"):
        return _as_hwc(np.asarray(bitmap).astype(np.uint8))


def _open(encoded: bytes) -> Image.Image:
    with broken_unless_decoded("BMP"):
        # Not Image.open: it tries every format, and warns of sizes that we check ourselves.
        bitmap = BmpImageFile(BytesIO(encoded))
    if bitmap.mode not in _CHANNELS:
        raise UnsupportedImage(f"this kind of BMP ({bitmap.mode}) is not read: save it as PNG")
    return bitmap


def _as_hwc(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return pixels[:, :, None] if pixels.ndim == 2 else pixels

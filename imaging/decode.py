"""Decode an image file to an array of intensities.

Formats: PNG, JPEG, TIFF (BigTIFF, OME-TIFF, ImageJ) and BMP, told by content. Depth is kept: 8
bits give uint8, 9 to 16 bits uint16, floats float32. Fewer bits than 8 are scaled to 0..255.
Palettes become RGB. What is refused: CMYK, animations, stacks, lossless-only medical codecs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from imaging.errors import BrokenImage, ImageError, UnsupportedImage
from imaging.formats import FORMATS
from imaging.formats.magic import sniff_format
from imaging.image_header import ImageHeader, check_size
from imaging.orientation import apply_orientation

Orientation = Literal["applied", "stored"]

# 16 384 × 16 384: a whole-slide region; the service sets its own, lower limit.
DEFAULT_MAX_PIXELS = 2**28

SAMPLE_TYPES = (np.uint8, np.uint16, np.float32)


@dataclass(frozen=True)
class DecodedImage:
    """An image's intensities and its header.

    Attributes:
        pixels_hwc: uint8, uint16 or float32 ``[H, W, C]``, C ≥ 1, RGB order, contiguous.
        header: The file's header, whose sizes are those before the orientation is applied.
    """

    pixels_hwc: npt.NDArray[np.generic]
    header: ImageHeader

    def __post_init__(self) -> None:
        if self.pixels_hwc.ndim != 3 or 0 in self.pixels_hwc.shape:
            raise BrokenImage(
                f"the data decode to an array of shape {self.pixels_hwc.shape}, expected "
                "[H, W, C] with no empty axis: write the file again"
            )
        if self.pixels_hwc.dtype not in SAMPLE_TYPES:
            raise UnsupportedImage(
                f"the samples are {self.pixels_hwc.dtype}; uint8, uint16 and float32 are read"
            )


def decode_image(
    encoded: bytes,
    *,
    max_pixels: int,
    orientation: Orientation = "applied",
    admit: Callable[[ImageHeader], None] | None = None,
) -> DecodedImage:
    """Decode a file's bytes.

    Args:
        encoded: The whole file.
        max_pixels: Largest width × height, checked in the header before anything is decoded;
            samples may take 16 bytes per pixel of it.
        orientation: "applied" turns the pixels as a viewer shows them (EXIF), "stored" does not.
        admit: Called with the header before anything is decoded; what it raises is passed on.

    Raises:
        UnsupportedImage: A format, colour space or sample type that is not read.
        BrokenImage: Damaged or incomplete.
        ImageTooLarge: Larger than ``max_pixels`` allows.
    """
    file_format = FORMATS[sniff_format(encoded)]
    header = file_format.read_header(encoded)
    check_size(header, max_pixels)
    if admit is not None:
        admit(header)
    pixels_hwc = file_format.decode_hwc(encoded)
    if orientation == "applied":
        pixels_hwc = apply_orientation(pixels_hwc, header.orientation)
    return DecodedImage(np.ascontiguousarray(pixels_hwc), header)


def read_image(
    path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS, orientation: Orientation = "applied"
) -> DecodedImage:
    """Decode a file; errors are those of `decode_image` and begin with the file's path.

    Raises:
        ImageError: As `decode_image`.
        OSError: The file cannot be read.
    """
    encoded = path.read_bytes()
    try:
        return decode_image(encoded, max_pixels=max_pixels, orientation=orientation)
    except ImageError as error:
        raise type(error)(f"{path}: {error}") from error

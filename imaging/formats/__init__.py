"""One module per file format, and the table of them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imaging.formats import bmp, jpeg, png, tiff
from imaging.image_header import ImageHeader


class Format(NamedTuple):
    """What the rest of the house needs of a format; each function takes the file's bytes.

    Attributes:
        read_header: Facts without decoding pixels.
        decode_hwc: Intensities, RGB order, uint8, uint16 or float32; orientation not applied.
        decode_stored_hwc: The numbers in the file as they are (palette indices, 1-bit as 0/1).
    """

    read_header: Callable[[bytes], ImageHeader]
    decode_hwc: Callable[[bytes], npt.NDArray[np.generic]]
    decode_stored_hwc: Callable[[bytes], npt.NDArray[np.generic]]


FORMATS: dict[str, Format] = {
    "png": Format(png.read_png_header, png.decode_png, png.decode_stored_png),
    "jpeg": Format(jpeg.read_jpeg_header, jpeg.decode_jpeg, jpeg.decode_stored_jpeg),
    "tiff": Format(tiff.read_tiff_header, tiff.decode_tiff, tiff.decode_stored_tiff),
    "bmp": Format(bmp.read_bmp_header, bmp.decode_bmp, bmp.decode_stored_bmp),
}

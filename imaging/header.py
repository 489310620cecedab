"""Read what an image file says about itself, without decoding its pixels."""

from imaging.formats import FORMATS
from imaging.formats.magic import sniff_format
from imaging.image_header import ImageHeader, check_size

__all__ = ["ImageHeader", "check_size", "read_header"]


def read_header(encoded: bytes) -> ImageHeader:
    """Return format, size, sample type and orientation; memory and time do not grow with pixels.

    Raises:
        UnsupportedImage: Not a PNG, JPEG, TIFF or BMP (the text says what it looks like), or a
            TIFF of a kind that is not read.
        BrokenImage: It begins like one, but its header does not parse.
    """
    return FORMATS[sniff_format(encoded)].read_header(encoded)

"""The orientation in an EXIF block, as JPEG (APP1) and PNG (eXIf) carry it."""

import struct

ORIENTATION_TAG = 0x0112
_SHORT = 3


def exif_orientation(exif_tiff: bytes) -> int:
    """Return the orientation 1..8 that an EXIF block names, 1 where it names none.

    A damaged block counts as none, as in every viewer: the pixels beside it are still right.

    Args:
        exif_tiff: The block from its TIFF header ("II*" or "MM") on.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif_tiff[:4])
    if order is None:
        return 1
    try:
        (ifd_offset,) = struct.unpack_from(order + "I", exif_tiff, 4)
        (entries,) = struct.unpack_from(order + "H", exif_tiff, ifd_offset)
        for index in range(entries):
            entry = ifd_offset + 2 + 12 * index
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif_tiff, entry)
            if tag == ORIENTATION_TAG and kind == _SHORT:
                return valid_orientation(value)
    except struct.error:
        pass
    return 1


def valid_orientation(value: object) -> int:
    """Return ``value`` where it is one of EXIF's 1..8, else 1 (as stored)."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1

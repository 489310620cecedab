"""Tell a file's format by its first bytes."""

from imaging.errors import BrokenImage, UnsupportedImage

READ_FORMATS = "PNG, JPEG, TIFF or BMP"

# (offset, bytes there, our name); DICOM stands first: its preamble may hold a TIFF header.
_OURS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (0, b"II+\x00", "tiff"),
    (0, b"MM\x00+", "tiff"),
    (0, b"BM", "bmp"),
)

_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (128, b"DICM", "a DICOM file"),
    (344, b"n+1\x00", "a NIfTI volume"),
    (344, b"ni1\x00", "a NIfTI header"),
    (4, b"n+2\x00", "a NIfTI-2 volume"),
    (0, b"\x1f\x8b", "gzip data (perhaps a .nii.gz volume)"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"%PDF", "a PDF"),
    (0, b"GIF8", "a GIF"),
    (8, b"WEBP", "a WebP image"),
    (4, b"ftyp", "a HEIC, AVIF or MP4 file"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 codestream"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"\x01\xda", "an SGI image"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"NRRD", "an NRRD volume"),
    (0, b"\x00\x00\x01\x00", "a Windows icon"),
    (0, b"<?xml", "XML text"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"{", "JSON text"),
)


def sniff_format(encoded: bytes) -> str:
    """Return "png", "jpeg", "tiff" or "bmp"; the file's name plays no part.

    Raises:
        UnsupportedImage: The bytes begin like no format that is read here; the text says what
            they look like.
        BrokenImage: No bytes at all.
    """
    if not encoded:
        raise BrokenImage("the file is empty (0 bytes): send it again")
    for offset, mark, name in (_FOREIGN[0], *_OURS):
        if encoded.startswith(mark, offset):
            if name == _FOREIGN[0][2]:
                break
            return name
    raise UnsupportedImage(
        f"this looks like {_looks_like(encoded)}; an image must be {READ_FORMATS}: "
        "convert it to one of them"
    )


def _looks_like(encoded: bytes) -> str:
    for offset, mark, name in _FOREIGN:
        if encoded.startswith(mark, offset):
            return name
    if encoded[:1] == b"P" and encoded[1:2] in b"1234567" and encoded[2:3].isspace():
        return "a PNM image (PBM, PGM, PPM)"
    if encoded[1:4] == b"PNG":
        return "a PNG whose first bytes were changed on the way (sent as text?)"
    return f"no format known here (first bytes {encoded[:8].hex(' ')})"

import pytest

from imaging.errors import BrokenImage, UnsupportedImage
from imaging.formats.magic import sniff_format


@pytest.mark.parametrize(
    ("encoded", "name"),
    [
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"II*\0", "tiff"),
        (b"MM\0*", "tiff"),
        (b"II+\0\x08\0\0\0", "tiff"),
        (b"MM\0+\0\x08\0\0", "tiff"),
        (b"BM\0\0", "bmp"),
    ],
)
def test_formats_that_are_read(encoded, name):
    assert sniff_format(encoded) == name


@pytest.mark.parametrize(
    ("encoded", "name"),
    [
        (bytes(128) + b"DICM", "DICOM"),
        (b"II*\0" + bytes(124) + b"DICM", "DICOM"),
        (b"\x5c\x01\0\0" + bytes(340) + b"n+1\0", "NIfTI"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"%PDF-1.7", "PDF"),
        (b"GIF89a", "GIF"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"P5\n3 3\n255\n", "PNM"),
        (b"PK\x03\x04", "ZIP"),
        (b"\x89PNG\n\n\x1a\n", "sent as text"),
        (b"hello, world", "first bytes 68 65 6c 6c"),
    ],
)
def test_other_files_are_told_what_they_look_like(encoded, name):
    with pytest.raises(UnsupportedImage, match=rf"{name}.*must be PNG, JPEG, TIFF or BMP"):
        sniff_format(encoded)


def test_an_empty_file_is_broken():
    with pytest.raises(BrokenImage, match="empty"):
        sniff_format(b"")

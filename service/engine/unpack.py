"""The images of one request's zip archive: counted and measured before anything is unpacked.

The names in it are looked at only to pass over folders and hidden files; no file is written.
"""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from typing import BinaryIO, Protocol

from contract.errors import RequestInvalid
from imaging.errors import BrokenImage, UnsupportedImage
from service.errors import BodyMalformed, BodyTooLarge

_END, _END_BYTES = b"PK\x05\x06", 22
_LOCATOR_64, _LOCATOR_64_BYTES = b"PK\x06\x07", 20
# Of the directory, per image: an entry takes 46, its name and more besides. Python builds an object
# for each entry before it can be asked how many there are, and a small body may list a million.
_DIRECTORY_BYTES_PER_FILE = 1_000
_PIECE_BYTES = 1 << 20
_ENCRYPTED = 0x1
# What `zipfile` raises of a damaged archive, and the last one of kinds that it does not know.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,
)
_KNOWN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others cost memory that no header tells


class Readable(Protocol):
    """Something that gives its bytes; again, when asked again."""

    def read(self) -> bytes:
        """Return all of them."""


class ZippedFile:
    """One file of an archive."""

    def __init__(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, length: int) -> None:
        """``length`` is the archive's, in bytes."""
        self._archive = archive
        self._entry = entry
        self._length = length

    def read(self) -> bytes:
        """Unpack it; never more than its header says.

        Raises:
            BrokenImage, UnsupportedImage: it does not unpack, or is packed in a way not read here.
        """
        if self._entry.flag_bits & _ENCRYPTED or self._entry.compress_type not in _KNOWN:
            raise UnsupportedImage(
                "the archive has it encrypted, or compressed by another method than deflate; pack "
                "it again"
            )
        if not 0 <= self._entry.header_offset < self._length:
            # What seeking there raises depends on where the archive lies; some of it, as OSError,
            # would be told as our own fault.
            raise BrokenImage(
                "the archive says that it begins outside of it; pack the archive again"
            )
        try:
            with self._archive.open(self._entry) as packed:
                # Piece by piece: asked for all, `zipfile` expands all before it looks at the size
                # that the header gives, which may be a lie.
                return b"".join(iter(partial(packed.read, _PIECE_BYTES), b""))
        except _UNREADABLE as error:
            raise BrokenImage("it does not unpack; pack the archive again") from error


def open_zip(file: BinaryIO, *, max_files: int, max_bytes: int) -> Sequence[Readable]:
    """Return the files of an archive in the order of its directory.

    Args:
        file: the archive; it stays open for as long as the files are read.
        max_files: limit on their number.
        max_bytes: limit on all of them together, unpacked.

    Raises:
        BodyMalformed: no archive, or one that is spread or of more than 4 GB.
        BodyTooLarge: it unpacks to more bytes than the limit.
        RequestInvalid: no file in it, or too many.
    """
    length = file.seek(0, 2)
    _check_directory(file, length, max_files)
    try:
        archive = zipfile.ZipFile(file)
    except _UNREADABLE as error:
        raise BodyMalformed("the body is no zip archive, or not a whole one") from error
    entries = [entry for entry in archive.infolist() if not _is_passed_over(entry)]
    check_count(len(entries), max_files)
    size = sum(entry.file_size for entry in entries)
    if size > max_bytes:
        raise BodyTooLarge(
            f"the archive unpacks to {size:,} bytes, the limit is {max_bytes:,}; send it in parts"
        )
    return [ZippedFile(archive, entry, length) for entry in entries]


def check_count(count: int, max_files: int) -> None:
    """Refuse none and too many.

    Raises:
        RequestInvalid: with how many came.
    """
    if not 1 <= count <= max_files:
        raise RequestInvalid(
            f"{count} images came; send 1 to {max_files} in one request, as parts named 'file' of "
            "a form or as a zip archive"
        )


def _is_passed_over(entry: zipfile.ZipInfo) -> bool:
    # Finder adds __MACOSX/._a.png for every a.png.
    parts = entry.filename.split("/")
    is_folder = entry.filename.endswith("/")  # `is_dir` fails where the name is empty
    return is_folder or any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _check_directory(file: BinaryIO, length: int, max_files: int) -> None:
    """Read the archive's last bytes as `zipfile` does, and refuse what it would read more of."""
    file.seek(max(0, length - _LOCATOR_64_BYTES - _END_BYTES))
    tail = file.read()
    end, before = tail[-_END_BYTES:], tail[:-_END_BYTES]
    if not end.startswith(_END) or end[-2:] != b"\0\0" or before.startswith(_LOCATOR_64):
        raise BodyMalformed(
            "the body does not end like a zip archive without comment and of less than 4 GB; pack "
            "it again, and send it whole"
        )
    entries, directory_bytes = struct.unpack_from("<HI", end, 10)
    if directory_bytes > length - _END_BYTES:
        raise BodyMalformed("the archive's directory is longer than the body; send it whole")
    if directory_bytes > _DIRECTORY_BYTES_PER_FILE * max(max_files, 16):
        check_count(entries, max_files)
        raise RequestInvalid(
            f"the archive's directory has {directory_bytes:,} bytes, too many for {max_files} "
            "images; send fewer, with shorter names"
        )

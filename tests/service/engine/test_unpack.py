"""Archives: what is in them comes out, and none costs more than it may."""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import RequestInvalid
from imaging.errors import BrokenImage, UnsupportedImage
from service.engine.unpack import open_zip
from service.errors import BodyMalformed, BodyTooLarge

contents = st.lists(st.binary(max_size=2000), min_size=1, max_size=9)


def packed(
    files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b""
) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as writing:
        for name, content in files.items():
            writing.writestr(zipfile.ZipInfo(name), content, method)
        writing.comment = comment
    return archive.getvalue()


def laid(archive: bytes, path: Path | None) -> BinaryIO:
    """Lay an archive into a file, or into memory where no path is given, as an upload is."""
    if path is None:
        return io.BytesIO(archive)
    path.write_bytes(archive)
    return path.open("rb")


def opened(archive: bytes, *, max_files: int = 9, max_bytes: int = 100_000) -> Any:
    return open_zip(io.BytesIO(archive), max_files=max_files, max_bytes=max_bytes)


@given(contents, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
def test_what_was_packed_comes_out_in_order_and_again(files: list[bytes], method: int) -> None:
    read = opened(packed({f"{len(files) - n}.png": one for n, one in enumerate(files)}, method))
    for _ in range(2):
        assert [file.read() for file in read] == files


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_archive_is_refused_and_nothing_else(
    content: bytes, place: int, byte: int
) -> None:
    damaged = bytearray(packed({"a.png": content, "b.png": b"b"}))
    damaged[place % len(damaged)] = byte
    try:
        for file in opened(bytes(damaged)):
            file.read()
    except (BodyMalformed, BodyTooLarge, RequestInvalid, BrokenImage, UnsupportedImage):
        pass


@given(st.binary(max_size=200))
def test_what_is_no_archive_is_refused(body: bytes) -> None:
    with pytest.raises((BodyMalformed, RequestInvalid)):
        opened(body)


def test_folders_and_hidden_files_are_passed_over() -> None:
    names = ("a/", "a/1.png", "__MACOSX/a/._1.png", ".DS_Store", "a/.hidden/2.png", "../../2.png")
    read = opened(packed({name: name.encode() for name in names}))
    assert [file.read() for file in read] == [b"a/1.png"]
    with pytest.raises(RequestInvalid, match="0 images"):
        opened(packed({"a/": b"", ".b": b""}))


def test_a_file_without_a_name_is_a_file() -> None:
    assert [file.read() for file in opened(packed({"": b"a", "b.png": b"b"}))] == [b"a", b"b"]


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
def test_a_file_outside_the_archive_is_told_of_it_alone(
    tmp_path: Path, offset: int, in_memory: bool
) -> None:
    archive = bytearray(packed({"a.png": b"a", "b.png": b"b"}))
    # An offset of 64 bits stands in an extra field, 46 bytes and a name after the entry's start.
    entry, end = archive.index(b"PK\x01\x02"), len(archive) - 22
    struct.pack_into("<H", archive, entry + 30, 12)
    struct.pack_into("<I", archive, entry + 42, 0xFFFFFFFF)
    (directory_bytes,) = struct.unpack_from("<I", archive, end + 12)
    struct.pack_into("<I", archive, end + 12, directory_bytes + 12)
    place = entry + 46 + len("a.png")
    archive[place:place] = struct.pack("<HHQ", 1, 8, offset)
    with laid(bytes(archive), None if in_memory else tmp_path / "archive") as file:
        lost, good = open_zip(file, max_files=9, max_bytes=100_000)
        with pytest.raises(BrokenImage, match="outside"):
            lost.read()
        assert good.read() == b"b"


def with_more_in_its_end(archive: bytes, field: int, more: int) -> bytes:
    """Add to a field of an archive's last 22 bytes: 12 is its directory's size, 16 the place."""
    changed = bytearray(archive)
    place = len(archive) - 22 + field
    (value,) = struct.unpack_from("<I", archive, place)
    struct.pack_into("<I", changed, place, value + more)
    return bytes(changed)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_directory_said_to_lie_further_on_is_the_clients_fault(
    tmp_path: Path, in_memory: bool
) -> None:
    """Seeking before the start of a real file is an OSError, as a disk that fails would be."""
    archive = with_more_in_its_end(packed({"a.png": b"a"}), 16, 100)
    with laid(archive, None if in_memory else tmp_path / "archive") as file:
        (lost,) = open_zip(file, max_files=9, max_bytes=100_000)
        with pytest.raises(BrokenImage, match="outside"):
            lost.read()


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_directory_longer_than_the_body_is_the_clients_fault(
    tmp_path: Path, in_memory: bool
) -> None:
    archive = with_more_in_its_end(packed({"a.png": b"a"}), 12, 5000)
    path = None if in_memory else tmp_path / "archive"
    with laid(archive, path) as file, pytest.raises(BodyMalformed, match="longer than the body"):
        open_zip(file, max_files=9, max_bytes=100_000)


def test_too_many_are_refused_before_they_are_listed() -> None:
    assert len(opened(packed({f"{n}": b"" for n in range(9)}))) == 9
    with pytest.raises(RequestInvalid, match="10 images came; send 1 to 9"):
        opened(packed({f"{n}": b"" for n in range(10)}))
    crowd = packed({f"{n}": b"" for n in range(30_000)})
    tracemalloc.start()
    with pytest.raises(RequestInvalid, match="30000 images"):
        opened(crowd)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_the_size_unpacked_is_bounded() -> None:
    assert len(opened(packed({"a": bytes(50_000), "b": bytes(50_000)}))) == 2
    with pytest.raises(BodyTooLarge, match="unpacks to 100,001 bytes"):
        opened(packed({"a": bytes(50_000), "b": bytes(50_001)}))


def test_a_size_that_lies_does_not_expand_the_rest() -> None:
    honest = packed({"a": bytes(50_000_000)})
    size = struct.pack("<I", 50_000_000)
    assert honest.count(size) == 2
    (file,) = opened(honest.replace(size, struct.pack("<I", 10)))
    tracemalloc.start()
    with pytest.raises(BrokenImage, match="does not unpack"):
        file.read()
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_told_of_the_file(method: int) -> None:
    (file,) = opened(packed({"a": b"a"}, method))
    with pytest.raises(UnsupportedImage, match="deflate"):
        file.read()


def test_an_encrypted_file_is_told() -> None:
    archive = bytearray(packed({"a": b"a"}))
    archive[archive.index(b"PK\x01\x02") + 8] |= 1
    (file,) = opened(bytes(archive))
    with pytest.raises(UnsupportedImage, match="encrypted"):
        file.read()


def test_a_directory_of_64_bits_or_a_comment_is_refused() -> None:
    archive = packed({"a": b"a"})
    locator = b"PK\x06\x07" + bytes(16)
    for odd in (packed({"a": b"a"}, comment=b"hello"), archive[:-22] + locator + archive[-22:]):
        with pytest.raises(BodyMalformed, match="without comment"):
            opened(odd)

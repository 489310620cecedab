"""Pieces, put together, are the archive; each can be read when it comes."""

import io
import struct
import zipfile

from hypothesis import given
from hypothesis import strategies as st

from service.protocols.zip_stream import ZipStream


@given(st.lists(st.binary(max_size=500), max_size=8))
def test_the_pieces_are_an_archive(contents: list[bytes]) -> None:
    stream = ZipStream()
    pieces = [stream.add(f"{n:04d}.bin", content) for n, content in enumerate(contents)]
    with zipfile.ZipFile(io.BytesIO(b"".join([*pieces, stream.end()]))) as archive:
        assert archive.testzip() is None
        assert [archive.read(name) for name in archive.namelist()] == contents
    for piece, content in zip(pieces, contents, strict=True):
        # The local header (APPNOTE.TXT, 4.3.7): no flag that sizes come behind, so a reader of
        # streams knows where the entry ends.
        signature, flags, method, stored, plain, name = struct.unpack_from("<4s2xHH8xIIH2x", piece)
        assert (signature, flags & 0x8, method) == (b"PK\x03\x04", 0, zipfile.ZIP_STORED)
        assert stored == plain == len(content)
        assert piece[30 + name :] == content


def test_equal_answers_have_equal_bytes_at_any_time() -> None:
    archives = [ZipStream(), ZipStream()]
    assert len({one.add("a", b"a") + one.end() for one in archives}) == 1

"""Compressed bodies: what goes in comes out, and no bomb is expanded."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import RequestInvalid
from service.errors import BodyTooLarge, MediaTypeUnsupported
from service.protocols.compression import choose_encoding, compress, expand

LIMIT = 10_000


@given(st.binary(max_size=LIMIT), st.sampled_from(["gzip", "deflate"]))
def test_what_is_compressed_expands_again(body: bytes, encoding: str) -> None:
    packed = compress(body, encoding)
    assert expand(packed, encoding, max_bytes=LIMIT) == body
    other = gzip.decompress(packed) if encoding == "gzip" else zlib.decompress(packed)
    assert other == body


def test_a_plain_body_is_handed_on() -> None:
    assert expand(b"abc", "", max_bytes=1) == b"abc"
    assert expand(b"abc", " Identity ", max_bytes=1) == b"abc"


def test_a_bomb_is_not_expanded() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    taken: list[int] = []
    with pytest.raises(BodyTooLarge, match="10,000,000"):
        expand(bomb, "gzip", max_bytes=10_000_000, take=taken.append)
    assert sum(taken) <= 10_000_000


@pytest.mark.parametrize(
    ("body", "encoding", "reason"),
    [
        (b"no gzip", "gzip", "not what Content-Encoding gzip says"),
        (gzip.compress(b"x" * 100)[:-9], "gzip", "ends within"),
        (b"", "deflate", "ends within"),
        (zlib.compress(b"x") + b"more", "deflate", "stand behind the end"),
    ],
)
def test_a_broken_body_is_refused(body: bytes, encoding: str, reason: str) -> None:
    with pytest.raises(RequestInvalid, match=reason):
        expand(body, encoding, max_bytes=LIMIT)


def test_another_encoding_is_refused() -> None:
    with pytest.raises(MediaTypeUnsupported, match="none of gzip, deflate"):
        expand(b"x", "br", max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", ""),
        ("identity", ""),
        ("br", ""),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("gzip;q=0.2, deflate;q=0.8", "deflate"),
        ("gzip;q=0", ""),
        ("gzip;q=0.5, identity", ""),
        ("gzip;q=x", ""),
    ],
)
def test_the_client_chooses(accept: str, chosen: str) -> None:
    assert choose_encoding(accept) == chosen

"""Bodies that are compressed on their way, as the Open Inference Protocol's clients may ask.

``deflate`` is zlib's format (RFC 9110, section 8.4.1.2).
"""

import zlib
from collections.abc import Callable

from contract.errors import RequestInvalid
from service.errors import BodyTooLarge, MediaTypeUnsupported

GZIP, ZLIB = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS
WINDOWS = {"gzip": GZIP, "deflate": ZLIB}
# Labels shrink a hundredfold already by the fastest level.
LEVEL = 1
CHUNK_BYTES = 1 << 20


def expand(
    body: bytes, encoding: str, *, max_bytes: int, take: Callable[[int], None] = lambda _: None
) -> bytes:
    """Return a body as it was before it was compressed.

    Args:
        body: as it came.
        encoding: the Content-Encoding header; empty or ``identity`` for a plain body.
        max_bytes: limit on the answer; what is past it is not expanded.
        take: called with the bytes of each piece before the next is expanded.

    Raises:
        MediaTypeUnsupported: an encoding that is not read.
        RequestInvalid: the body is not of that encoding, or not whole.
        BodyTooLarge: it expands past the limit.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in WINDOWS:
        raise MediaTypeUnsupported("the Content-Encoding is none of gzip, deflate and identity")
    stream = zlib.decompressobj(WINDOWS[name])
    pieces, size, rest = [], 0, body
    while not stream.eof:
        try:
            piece = stream.decompress(rest, CHUNK_BYTES)
        except zlib.error as error:
            raise RequestInvalid(f"the body is not what Content-Encoding {name} says") from error
        rest = stream.unconsumed_tail
        if not piece and not rest and not stream.eof:
            raise RequestInvalid(f"the body ends within its {name} stream; send it whole")
        size += len(piece)
        if size > max_bytes:
            raise BodyTooLarge(
                f"the body expands to more than {max_bytes:,} bytes, the limit of this service"
            )
        take(len(piece))
        pieces.append(piece)
    if stream.unused_data:
        raise RequestInvalid(f"bytes stand behind the end of the body's {name} stream")
    return b"".join(pieces)


def choose_encoding(accept: str) -> str:
    """Return ``gzip``, ``deflate``, or empty for none, by the Accept-Encoding header."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, _, parameter = part.partition(";")
        try:
            weights[name.strip()] = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
    least = max(weights.get("identity", 0.0), 0.0)
    wanted = {name: weights.get(name, 0.0) for name in WINDOWS}
    best = max(wanted, key=lambda name: wanted[name])  # of equals the first
    return best if wanted[best] > 0 and wanted[best] >= least else ""


def compress(body: bytes, encoding: str) -> bytes:
    """Return a body in the encoding that ``choose_encoding`` chose."""
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOWS[encoding])
    return stream.compress(body) + stream.flush()

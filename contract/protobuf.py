"""Protobuf, as far as an ONNX file is looked at without ``onnx``.

A message is a row of fields, each a key (number and wire type) and its content, of which those
with a length can be stepped over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MOST_VARINT_BYTES = 10


@dataclass(frozen=True)
class Field:
    """Where one field of a message lies in its stream, in bytes.

    Attributes:
        number: as in the ``.proto`` file.
        has_length: whether it is a text, bytes or a message.
        start: of its key.
        content: behind key and length.
        end: of its content.
    """

    number: int
    has_length: bool
    start: int
    content: int
    end: int


def fields(stream: BinaryIO, size: int) -> Iterator[Field]:
    """Yield the fields of a message that ends at ``size``; the stream may be moved in between.

    Raises:
        ValueError, EOFError: this is no such message.
    """
    end = stream.tell()
    while end < size:
        start = stream.seek(end)
        number, kind = divmod(read_varint(stream), 8)
        if kind not in (VARINT, FIXED64, LENGTH, FIXED32):
            raise ValueError(f"field {number} has the unknown wire type {kind}")
        length = {FIXED64: 8, FIXED32: 4}.get(kind)
        if length is None:
            varint = read_varint(stream)
            length = varint if kind == LENGTH else 0
        content = stream.tell()
        end = content + length
        if end > size:
            raise EOFError(f"field {number} ends past the end of the file")
        yield Field(number, kind == LENGTH, start, content, end)


def read_varint(stream: BinaryIO) -> int:
    """Return an unsigned number: 7 bits per byte, lowest first; the high bit means more.

    Raises:
        ValueError, EOFError: there is none.
    """
    number = 0
    for place in range(MOST_VARINT_BYTES):
        byte = stream.read(1)
        if not byte:
            raise EOFError("the file ends within a number")
        number |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return number
    raise ValueError(f"a number has more than {MOST_VARINT_BYTES} bytes")


def field_of_bytes(number: int, content: bytes) -> bytes:
    """Return a field that has a length, with its key."""
    return _varint(number * 8 + LENGTH) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def contents(stream: BinaryIO, size: int, number: int) -> Iterator[bytes]:
    """Yield the content of each field of a number that has a length; others are stepped over.

    Raises:
        ValueError, EOFError: this is no such message.
    """
    for field in fields(stream, size):
        if field.number == number and field.has_length:
            stream.seek(field.content)
            yield stream.read(field.end - field.content)

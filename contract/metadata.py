"""Read a model file's metadata without building a session: only those bytes, whatever its size.

ONNX is protobuf: a file is a row of fields, each a key (number and wire type) and its content, of
which those with a length can be stepped over. ``ModelProto`` holds the weights in field 7 and an
entry of ``metadata_props`` in each field 14 (onnx.proto3); an entry has ``key`` 1 and ``value`` 2.
"""

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from contract.errors import ModelBroken, ModelNotFound

METADATA_PROPS = 14
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MOST_VARINT_BYTES = 10


def read_metadata(path: Path | str) -> dict[str, str]:
    """Return what ``onnxruntime`` calls ``custom_metadata_map``.

    Raises:
        ModelNotFound: there is no such file.
        ModelBroken: the file is no whole ONNX file.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelNotFound(f"there is no model file {path}; give the path of a .onnx file")
    try:
        with path.open("rb") as file:
            entries = _texts(file, path.stat().st_size, METADATA_PROPS)
            pairs = [_entry(entry) for entry in entries]
    except (ValueError, EOFError) as error:
        raise ModelBroken(
            f"{path} cannot be read as an ONNX model: {error}. Was it copied whole? "
            "Export or fetch it again."
        ) from error
    return dict(pairs)


def _entry(content: bytes) -> tuple[str, str]:
    key, value = (
        b"".join(list(_texts(BytesIO(content), len(content), number))[-1:]) for number in (1, 2)
    )
    return key.decode(), value.decode()


def _texts(stream: BinaryIO, size: int, wanted: int) -> Iterator[bytes]:
    """Yield the content of each field ``wanted``, and step over all others to the end."""
    while stream.tell() < size:
        number, kind = divmod(_varint(stream), 8)
        if kind == VARINT:
            _varint(stream)
            continue
        if kind not in (FIXED64, LENGTH, FIXED32):
            raise ValueError(f"field {number} has the unknown wire type {kind}")
        length = _varint(stream) if kind == LENGTH else 8 if kind == FIXED64 else 4
        if stream.tell() + length > size:
            raise EOFError(f"field {number} ends past the end of the file")
        if number == wanted and kind == LENGTH:
            yield stream.read(length)
        else:
            stream.seek(length, os.SEEK_CUR)


def _varint(stream: BinaryIO) -> int:
    """Return an unsigned number: 7 bits per byte, lowest first; the high bit means more."""
    number = 0
    for place in range(MOST_VARINT_BYTES):
        byte = stream.read(1)
        if not byte:
            raise EOFError("the file ends within a number")
        number |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return number
    raise ValueError(f"a number has more than {MOST_VARINT_BYTES} bytes")

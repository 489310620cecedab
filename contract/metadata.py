"""Read a model file's metadata without building a session: only those bytes, whatever its size.

``ModelProto`` holds the weights in field 7 and an entry of ``metadata_props`` in each field 14
(onnx.proto3); an entry has ``key`` 1 and ``value`` 2.
"""

from io import BytesIO
from pathlib import Path

from contract.errors import ModelBroken, ModelNotFound
from contract.protobuf import contents

METADATA_PROPS = 14


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
            entries = contents(file, path.stat().st_size, METADATA_PROPS)
            pairs = [_entry(entry) for entry in entries]
    except (ValueError, EOFError) as error:
        raise ModelBroken(
            f"{path} cannot be read as an ONNX model: {error}. Was it copied whole? "
            "Export or fetch it again."
        ) from error
    return dict(pairs)


def _entry(content: bytes) -> tuple[str, str]:
    key, value = (
        b"".join(list(contents(BytesIO(content), len(content), number))[-1:]) for number in (1, 2)
    )
    return key.decode(), value.decode()

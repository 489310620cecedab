"""The optional inputs of a file, for runtimes that know inputs only.

``statistics`` and ``skip_gain`` are initialisers that a caller may override. onnxruntime hands all
initialisers of a subgraph to TensorRT, whose parser takes them for constants: what is fed then is
ignored without a word, so tiles would be normalised one by one and the dial would do nothing.
"""

from collections.abc import Callable, Mapping
from io import BytesIO

from contract.errors import ModelBroken
from contract.protobuf import contents, field_of_bytes, fields

OPTIONAL_INPUTS = ("statistics", "skip_gain")

# Fields of onnx.proto3: ModelProto.graph, GraphProto.initializer, TensorProto.name.
GRAPH, INITIALIZER, NAME = 7, 5, 8


def require_inputs(model: bytes, *, source: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a model file without the values of its optional inputs, and the names of those.

    They are inputs like ``image`` then, and each run has to be fed with them.

    Raises:
        ModelBroken: it is no whole ONNX file.
    """
    names: list[str] = []
    try:
        stripped = _edited(model, {GRAPH: lambda graph: _without_values(graph, names)})
    except (ValueError, EOFError) as error:
        raise ModelBroken(
            f"{source} cannot be read as an ONNX model: {error}. Was it copied whole? "
            "Export or fetch it again."
        ) from error
    return stripped, tuple(names)


def _without_values(graph: bytes, names: list[str]) -> bytes:
    """Return a graph without the values of optional inputs, and add those inputs to ``names``."""

    def edit(tensor: bytes) -> bytes | None:
        name = b"".join(contents(BytesIO(tensor), len(tensor), NAME)).decode()
        if name not in OPTIONAL_INPUTS:
            return tensor
        names.append(name)
        return None

    return _edited(graph, {INITIALIZER: edit})


def _edited(message: bytes, edits: Mapping[int, Callable[[bytes], bytes | None]]) -> bytes:
    """Return a message with the contents of some fields replaced, or left out where None."""
    parts = []
    for field in fields(BytesIO(message), len(message)):
        edit = edits.get(field.number) if field.has_length else None
        content = message[field.content : field.end]
        edited = content if edit is None else edit(content)
        if edited is content:
            parts.append(message[field.start : field.end])
        elif edited is not None:
            parts.append(field_of_bytes(field.number, edited))
    return b"".join(parts)

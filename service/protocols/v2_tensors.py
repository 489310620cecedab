"""Tensors of the Open Inference Protocol: JSON with raw bytes behind it, in and out.

After https://github.com/kserve/open-inference-protocol and Triton's extension "binary tensor data".
A body is a JSON object, and behind it the values of those tensors that have a
``binary_data_size``, in order, little-endian and row-major. The header
``Inference-Header-Content-Length`` then tells where the JSON ends. Runs in a thread.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from contract.errors import RequestInvalid
from service.errors import BodyTooLarge

DATATYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "UINT8": np.dtype("u1")}
"""Those that our models have; the names are the protocol's."""
# A number of eight characters becomes a Python float of 32 bytes, so 16 MB take half a gigabyte.
JSON_BYTES_MAX = 16_000_000
AXES_MAX = 8
TensorJson = dict[str, Any]


@dataclass(frozen=True)
class AskedOutput:
    """An output that the client wants, and whether as bytes."""

    name: str
    binary: bool


@dataclass(frozen=True)
class InferRequest:
    """What a client sent.

    Attributes:
        request_id: to be repeated in the answer; empty where there was none.
        inputs: by name, each of one of ``DATATYPES``.
        outputs: those asked for; empty asks for all.
        all_binary: whether outputs that are not named come as bytes.
        timeout_s: the client's own deadline; None: it gave none.
    """

    request_id: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: tuple[AskedOutput, ...]
    all_binary: bool
    timeout_s: float | None


def read_request(body: bytes, json_bytes: int | None) -> InferRequest:
    """Read a request.

    Args:
        body: not compressed.
        json_bytes: length of its JSON; None: all of it is JSON.

    Raises:
        RequestInvalid: it does not follow the protocol; the text says where.
        BodyTooLarge: the JSON is so long that its tensor has to be sent as bytes.
    """
    length = len(body) if json_bytes is None else json_bytes
    if length > len(body):
        raise RequestInvalid(
            f"Inference-Header-Content-Length is {length}, but the body has {len(body)} bytes"
        )
    if length > JSON_BYTES_MAX:
        raise BodyTooLarge(
            f"the JSON has {length:,} bytes, more than {JSON_BYTES_MAX:,}; send the tensor as "
            "bytes behind it (binary_data_size)"
        )
    head = _read_json(body[:length])
    parameters = _parameters(head, "the request")
    return InferRequest(
        request_id=_optional(head, "id", str, "", "the request"),
        inputs=_read_inputs(head, memoryview(body)[length:]),
        outputs=_read_outputs(head, parameters),
        all_binary=_flag(parameters, "binary_data_output", "the request"),
        timeout_s=_timeout_s(parameters),
    )


def write_answer(
    head: Mapping[str, Any], outputs: Sequence[tuple[AskedOutput, NDArray[Any]]]
) -> tuple[bytes, int | None]:
    """Return the body, and the length of its JSON where bytes stand behind it.

    Raises:
        RequestInvalid: an output wanted as JSON holds NaN.
    """
    tensors, blobs = [], []
    for asked, array in outputs:
        tensor: TensorJson = {
            "name": asked.name,
            "datatype": datatype_of(array.dtype),
            "shape": list(array.shape),
        }
        if asked.binary:
            blob = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
            blobs.append(blob)
            tensor["parameters"] = {"binary_data_size": len(blob)}
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            raise RequestInvalid(
                f"the output {asked.name} holds NaN, which JSON does not have: are the intensities "
                "sound? Ask for bytes (binary_data) to see them all the same"
            )
        else:
            tensor["data"] = array.ravel().tolist()
        tensors.append(tensor)
    text = json.dumps({**head, "outputs": tensors}, separators=(",", ":")).encode()
    if not blobs:
        return text, None
    return b"".join((text, *blobs)), len(text)


def datatype_of(dtype: np.dtype[Any]) -> str:
    """Return the protocol's name of a type."""
    return next(name for name, known in DATATYPES.items() if known == dtype)


def _read_json(text: bytes) -> TensorJson:
    def refuse(constant: str) -> NoReturn:
        raise RequestInvalid(f"the JSON holds {constant}, which JSON does not have")

    try:
        head = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        # Not the decoder's own text: it may quote what the client sent.
        place = f" at byte {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise RequestInvalid(f"the request's JSON does not parse{place}") from error
    if not isinstance(head, dict):
        raise RequestInvalid("the request's JSON is no object; give {'inputs': […]}")
    return head


def _read_inputs(head: TensorJson, blob: memoryview) -> dict[str, NDArray[Any]]:
    inputs: dict[str, NDArray[Any]] = {}
    rest = blob
    for place, tensor in enumerate(_objects(head, "inputs", required=True)):
        where = f"inputs[{place}]"
        name = _required(tensor, "name", str, where)
        if name in inputs:
            raise RequestInvalid(f"{where} has the name of an input before it; give each once")
        dtype = _dtype(tensor, where)
        shape = _shape(tensor, where)
        parameters = _parameters(tensor, where)
        if any(key.startswith("shared_memory") for key in parameters):
            raise RequestInvalid(
                f"{where} lies in shared memory, which is not read here; send its bytes"
            )
        size = parameters.get("binary_data_size")
        if size is None:
            inputs[name] = _finite(_from_json(tensor, dtype, shape, where), where)
            continue
        if not _is_count(size):
            raise RequestInvalid(f"{where}: binary_data_size must be a whole number from 0")
        if size > len(rest):
            raise RequestInvalid(
                f"{where} announces {size} bytes, but {len(rest)} are left behind the JSON; is "
                "Inference-Header-Content-Length right?"
            )
        inputs[name] = _finite(_from_bytes(rest[:size], dtype, shape, where), where)
        rest = rest[size:]
    if len(rest):
        raise RequestInvalid(f"{len(rest)} bytes stand behind the last input, and belong to none")
    return inputs


def _finite(array: NDArray[Any], where: str) -> NDArray[Any]:
    """Refuse what would make every pixel of an answer NaN, as `/v1` does."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RequestInvalid(
            f"{where} holds NaN, infinity or a number too large for its datatype; replace them "
            "first"
        )
    return array


def _from_bytes(
    blob: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], where: str
) -> NDArray[Any]:
    expected = math.prod(shape) * dtype.itemsize
    if len(blob) != expected:
        raise RequestInvalid(
            f"{where} has {len(blob)} bytes; its shape {list(shape)} needs {expected}"
        )
    return np.frombuffer(blob, dtype).reshape(shape)


def _from_json(
    tensor: TensorJson, dtype: np.dtype[Any], shape: tuple[int, ...], where: str
) -> NDArray[Any]:
    data = _required(tensor, "data", list, where)
    try:
        values = np.array(data)
    except ValueError as error:  # rows of unequal length
        raise RequestInvalid(f"{where}: data is neither flat nor of one shape") from error
    if values.size and values.dtype.kind not in "iuf":
        raise RequestInvalid(f"{where}: data holds what is no number")
    if values.size != math.prod(shape) or values.shape not in ((values.size,), shape):
        raise RequestInvalid(
            f"{where}: data has the shape {list(values.shape)}; 'shape' says {list(shape)}"
        )
    with np.errstate(over="ignore"):  # infinite then, and refused
        kept = values.astype(dtype)
    if dtype.kind == "u" and not np.array_equal(kept, values):
        raise RequestInvalid(f"{where}: data holds what {tensor['datatype']} does not")
    return kept.reshape(shape)


def _read_outputs(head: TensorJson, parameters: TensorJson) -> tuple[AskedOutput, ...]:
    all_binary = _flag(parameters, "binary_data_output", "the request")
    asked: list[AskedOutput] = []
    for place, tensor in enumerate(_objects(head, "outputs", required=False)):
        where = f"outputs[{place}]"
        name = _required(tensor, "name", str, where)
        if name in {one.name for one in asked}:
            raise RequestInvalid(f"{where} has the name of an output before it; give each once")
        wishes = _parameters(tensor, where)
        if wishes.get("classification"):
            raise RequestInvalid(f"{where} asks for a classification; these models segment")
        if any(key.startswith("shared_memory") for key in wishes):
            raise RequestInvalid(
                f"{where} is wanted in shared memory, which is not written here; take its bytes"
            )
        asked.append(AskedOutput(name, _flag(wishes, "binary_data", where, absent=all_binary)))
    return tuple(asked)


def _timeout_s(parameters: TensorJson) -> float | None:
    timeout_us = parameters.get("timeout")
    if timeout_us is None or timeout_us == 0:
        return None
    if not _is_count(timeout_us):
        raise RequestInvalid("timeout must be a whole number of microseconds")
    return float(timeout_us) / 1e6


def _objects(head: TensorJson, key: str, *, required: bool) -> list[TensorJson]:
    found = head.get(key)
    if found is None and not required:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise RequestInvalid(f"'{key}' must be a list of objects, each with a 'name'")
    if required and not found:
        raise RequestInvalid(f"'{key}' is empty; a model needs its inputs")
    return found


def _dtype(tensor: TensorJson, where: str) -> np.dtype[Any]:
    datatype = _required(tensor, "datatype", str, where)
    if datatype not in DATATYPES:
        raise RequestInvalid(f"{where}: no model here takes that datatype; they take FP32")
    return DATATYPES[datatype]


def _shape(tensor: TensorJson, where: str) -> tuple[int, ...]:
    shape = _required(tensor, "shape", list, where)
    if len(shape) > AXES_MAX or not all(_is_count(extent) for extent in shape):
        raise RequestInvalid(
            f"{where}: shape must be whole numbers from 0, at most {AXES_MAX} of them"
        )
    return tuple(shape)


def _parameters(holder: TensorJson, where: str) -> TensorJson:
    parameters: TensorJson = _optional(holder, "parameters", dict, {}, where)
    return parameters


def _flag(parameters: TensorJson, key: str, where: str, *, absent: bool = False) -> bool:
    flag = parameters.get(key, absent)
    if not isinstance(flag, bool):
        raise RequestInvalid(f"{where}: {key} must be true or false")
    return flag


def _is_count(value: object) -> bool:
    # More digits than an array can have elements are nobody's size.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _required(holder: TensorJson, key: str, kind: type, where: str) -> Any:
    if not isinstance(holder.get(key), kind):
        raise RequestInvalid(f"{where} needs {key!r}, a {JSON_NAMES[kind]}")
    return holder[key]


def _optional(holder: TensorJson, key: str, kind: type, absent: Any, where: str) -> Any:
    return _required(holder, key, kind, where) if holder.get(key) is not None else absent


JSON_NAMES: dict[type, str] = {str: "string", list: "list", dict: "object"}

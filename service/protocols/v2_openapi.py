"""What ``/openapi.json`` says of the Open Inference Protocol's bodies and answers."""

from typing import Any

from service.protocols.openapi import error_answer


def _json_answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


_TENSOR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"enum": ["FP32", "UINT8"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 8},
        "parameters": {
            "type": "object",
            "properties": {"binary_data_size": {"type": "integer", "minimum": 0}},
        },
        "data": {"type": "array", "description": "flat, or nested as `shape`; row-major"},
    },
}
_INFER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {
            "type": "object",
            "properties": {
                "timeout": {"type": "integer", "minimum": 0, "description": "microseconds"},
                "binary_data_output": {"type": "boolean"},
            },
        },
        "inputs": {"type": "array", "minItems": 1, "items": _TENSOR_SCHEMA},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "parameters": {
                        "type": "object",
                        "properties": {"binary_data": {"type": "boolean"}},
                    },
                },
            },
        },
    },
}
_INFERRED_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "id": {"type": "string"},
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "outputs": {"type": "array", "minItems": 1, "items": _TENSOR_SCHEMA},
    },
}
_INFER_EXAMPLE = {
    "inputs": [
        {
            "name": "image",
            "datatype": "FP32",
            "shape": [1, 3, 2, 2],
            "data": [0, 90, 180, 255, 0, 90, 180, 255, 0, 90, 180, 255],
        }
    ],
    "outputs": [{"name": "labels"}],
}
_TENSOR_BYTES = {"schema": {"type": "string", "format": "binary"}}
INFER_BODY: dict[str, Any] = {
    "parameters": [
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "bytes of the body's JSON, where tensors stand behind it",
            "schema": {"type": "integer", "minimum": 0},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _INFER_SCHEMA, "example": _INFER_EXAMPLE},
            "application/octet-stream": _TENSOR_BYTES,
        },
    },
}
INFER_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the outputs asked for, as JSON or as bytes behind it",
        "content": {
            "application/json": {
                "schema": _INFERRED_SCHEMA,
                "example": {
                    "model_name": "nuclei",
                    "model_version": "1",
                    "outputs": [
                        {
                            "name": "labels",
                            "datatype": "UINT8",
                            "shape": [1, 2, 2],
                            "data": [0, 0, 1, 1],
                        }
                    ],
                },
            },
            "application/octet-stream": _TENSOR_BYTES,
        },
    },
    400: error_answer("the request does not follow the protocol, or does not fit the model"),
    404: error_answer("no such model or version"),
    408: error_answer("the body came too slowly"),
    413: error_answer("too many bytes, or too many pixels"),
    # Otherwise FastAPI documents a form of its own, which is never sent.
    422: error_answer("a version that is no version"),
    429: error_answer("no room now; Retry-After says when to come again"),
    504: error_answer("no answer before the deadline"),
}

_TEXT, _COUNT, _TRUE = {"type": "string"}, {"type": "integer", "minimum": 0}, {"const": True}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": -1}}
_ABOUT_TENSORS = {
    "type": "array",
    "minItems": 1,
    "items": _object(name=_TEXT, datatype={"enum": ["FP32", "UINT8"]}, shape=_SHAPE),
}
_ABOUT_DIMS = {
    "type": "array",
    "minItems": 1,
    "items": _object(name=_TEXT, data_type={"enum": ["TYPE_FP32", "TYPE_UINT8"]}, dims=_SHAPE),
}
_DURATION = _object(count=_COUNT, ns=_COUNT)
_RUN_PARTS = ("compute_input", "compute_infer", "compute_output")
_PARTS = ("success", "fail", "queue", *_RUN_PARTS, "cache_hit", "cache_miss")
SERVER_ANSWER = _json_answer(
    "name, version and extensions",
    _object(name=_TEXT, version=_TEXT, extensions={"type": "array", "items": _TEXT}),
)
LIVE_ANSWER = _json_answer("it is", _object(live=_TRUE))
READY_ANSWER = _json_answer(
    "it can; providers and precisions in use",
    _object(ready=_TRUE, runs_on={"type": "array", "items": _TEXT}),
)
MODEL_READY_ANSWER = _json_answer("it can", _object(name=_TEXT, ready=_TRUE))
METADATA_ANSWER = _json_answer(
    "-1 is a size that the model leaves open",
    _object(
        name=_TEXT,
        versions={"type": "array", "items": _TEXT, "minItems": 1},
        platform=_TEXT,
        inputs=_ABOUT_TENSORS,
        outputs=_ABOUT_TENSORS,
    ),
)
CONFIGURATION_ANSWER = _json_answer(
    "the fields of Triton's `ModelConfig` that have not its defaults; the batch is not in `dims`",
    _object(
        name=_TEXT,
        platform=_TEXT,
        backend=_TEXT,
        version_policy={"type": "object"},
        max_batch_size={"type": "integer", "minimum": 1},
        input=_ABOUT_DIMS,
        output=_ABOUT_DIMS,
        parameters={"type": "object", "additionalProperties": _object(string_value=_TEXT)},
    ),
)
STATISTICS_ANSWER = _json_answer(
    "since the start; times in nanoseconds, `last_inference` in milliseconds since 1970",
    _object(
        model_stats={
            "type": "array",
            "items": _object(
                name=_TEXT,
                version=_TEXT,
                last_inference=_COUNT,
                inference_count=_COUNT,
                execution_count=_COUNT,
                inference_stats=_object(**dict.fromkeys(_PARTS, _DURATION)),
                batch_stats={
                    "type": "array",
                    "items": _object(batch_size=_COUNT, **dict.fromkeys(_RUN_PARTS, _DURATION)),
                },
            ),
        }
    ),
)
INDEX_ANSWER = _json_answer(
    "every version",
    {
        "type": "array",
        "items": {
            **_object(name=_TEXT, version=_TEXT, state={"enum": ["READY", "UNAVAILABLE"]}),
            "description": "`reason` where there is one",
        },
    },
)

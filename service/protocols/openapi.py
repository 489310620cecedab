"""The words and examples of ``/openapi.json``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # --help says the words below, and need not wait for it
    from fastapi import FastAPI

TITLE = "Longskip"
SUMMARY = "Segmentation of medical images by U-Nets with and without long skips."
RESEARCH_USE_ONLY = "Research use only; not a medical device."
DESCRIPTION = f"""{SUMMARY}

**{RESEARCH_USE_ONLY}** Do not use its answers for diagnosis, treatment or any other clinical
decision.

```sh
curl -F file=@image.png "$ADDRESS/v1/models/nuclei/segment?format=png" -o mask.png
```

Images: PNG, JPEG, TIFF and BMP, 8 and 16 bit and float, any channel count that the model takes.
The answer has the image's own size, EXIF orientation applied (`orientation=stored` opts out).
Every answer carries `X-Longskip-Model`, `-Version`, `-Sha256`, `-Provider`, `-Precision` and
`-Request-Id`, and `Server-Timing` with its stages. A model with `skip_levels` takes
`skip_gain=1,1,0,1`, a factor on each of its long skips, and says it in `X-Longskip-Skip-Gain`.
Errors are problem documents (RFC 9457).
Images, file names and tags are never stored or logged.
"""

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:longskip:problem:image-too-large"]},
        "title": {"type": "string", "examples": ["Too many pixels"]},
        "status": {"type": "integer", "examples": [413]},
        "detail": {
            "type": "string",
            "description": "what came, what was expected, what to do",
            "examples": [
                "the image has 13000x13000 px = 169,000,000 pixels, the limit is 25,000,000: "
                "cut it into parts or make it smaller"
            ],
        },
        "request_id": {"type": "string", "examples": ["6f1e0c5b1d7a4f02"]},
    },
}

_SEGMENT_JSON_EXAMPLE = {
    "size": [256, 320],
    "skip_gain": [1.0, 1.0, 0.0, 1.0],
    "classes": [
        {
            "index": 1,
            "name": "nucleus",
            "area_px": 812,
            "boxes_xyxy": [[10, 12, 31, 40]],
            "rle": {"size": [256, 320], "counts": "Wba0…"},
        }
    ],
}
_GEOJSON_EXAMPLE = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[10, 12], [31, 12], [31, 40], [10, 40], [10, 12]]],
            },
            "properties": {"classification": {"name": "nucleus", "color": [230, 60, 60]}},
        }
    ],
}

_PAIR = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2}
_SEGMENT_JSON_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["size", "classes"],
    "properties": {
        "size": {**_PAIR, "description": "height and width"},
        "skip_gain": {"type": "array", "items": {"type": "number"}},
        "classes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "name", "area_px", "boxes_xyxy", "rle"],
                "properties": {
                    "index": {"type": "integer", "minimum": 0},
                    "name": {"type": "string"},
                    "area_px": {"type": "integer", "minimum": 0},
                    "boxes_xyxy": {
                        "type": "array",
                        "description": "one per region; right and lower edge exclusive",
                        "items": {
                            "type": "array",
                            "items": {"type": "integer", "minimum": 0},
                            "minItems": 4,
                            "maxItems": 4,
                        },
                    },
                    "rle": {
                        "type": "object",
                        "description": "COCO's compressed run lengths, column by column",
                        "required": ["size", "counts"],
                        "properties": {"size": _PAIR, "counts": {"type": "string"}},
                    },
                },
            },
        },
    },
}
_GEOJSON_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "geometry", "properties"],
                "properties": {"type": {"const": "Feature"}},
            },
        },
    },
}

IMAGE_TYPES = ("image/png", "image/jpeg", "image/tiff", "image/bmp")
SEGMENT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "PNG, JPEG, TIFF or BMP; told by content, not by name",
                        }
                    },
                },
                "encoding": {"file": {"contentType": ", ".join(IMAGE_TYPES)}},
            },
            **{
                media_type: {"schema": {"type": "string", "format": "binary"}}
                for media_type in (*IMAGE_TYPES, "application/octet-stream")
            },
        },
    }
}


def problem_answer(description: str) -> dict[str, Any]:
    """Return an error's entry in an operation's ``responses``."""
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": PROBLEM_SCHEMA}},
    }


def error_answer(description: str) -> dict[str, Any]:
    """Return the same for ``/v2``, in the Open Inference Protocol's form."""
    schema = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
    }
    return {"description": description, "content": {"application/json": {"schema": schema}}}


SEGMENT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the labels, in the format asked for",
        "headers": {
            "X-Longskip-Skip-Gain": {
                "description": "of models with `skip_levels`: the factor on each long skip, finest "
                "level first; `format=json` has it as `skip_gain`, too",
                "schema": {"type": "string", "examples": ["1,1,0,1"]},
            }
        },
        "content": {
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {"schema": _SEGMENT_JSON_SCHEMA, "example": _SEGMENT_JSON_EXAMPLE},
            "application/geo+json": {"schema": _GEOJSON_SCHEMA, "example": _GEOJSON_EXAMPLE},
            "application/x-npz": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    400: problem_answer("a multipart body that does not parse"),
    404: problem_answer("no such model or version"),
    406: problem_answer("the Accept header names no format that there is"),
    408: problem_answer("the body came too slowly"),
    413: problem_answer("too many bytes, or too many pixels"),
    415: problem_answer("a kind of image that is not read"),
    422: problem_answer("options that do not fit, or an image that does not decode"),
    429: problem_answer("no room now; Retry-After says when to come again"),
    503: problem_answer("the model cannot be used, or there is no memory for the image now"),
    504: problem_answer("no answer before the deadline"),
}

_ZIP = {"schema": {"type": "string", "format": "binary"}}
SEGMENT_MANY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "the images; `LONGSKIP_MAX_FILES` at most",
                        }
                    },
                },
                "encoding": {"file": {"contentType": ", ".join(IMAGE_TYPES)}},
            },
            "application/zip": _ZIP,
        },
    }
}
SEGMENT_MANY_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "a zip archive of the answers in the images' order: `0001.png`, "
        "`0002.png`, … in the format asked for, `0003.problem.json` for an image that was refused, "
        "and at its end `index.json`, which has file and status of each",
        "headers": SEGMENT_RESPONSES[200]["headers"],
        "content": {"application/zip": _ZIP},
    },
    **{
        status: answer
        for status, answer in SEGMENT_RESPONSES.items()
        if status not in (200, 406)  # the format is asked for by `format` alone
    },
    413: problem_answer("too many bytes, packed or unpacked"),
    415: problem_answer("neither a form nor a zip archive"),
    422: problem_answer("options that do not fit, no image, or too many"),
}

_HEADERS: dict[str, Any] = {
    "X-Longskip-Request-Id": {
        "description": "of this answer; the client's own, where it sent a safe one",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "Server-Timing": {
        "description": "milliseconds of each stage",
        "required": True,
        "schema": {"type": "string", "examples": ["decode;dur=2.1, run;dur=14.0, total;dur=17.9"]},
    },
}
_RETRY_AFTER: dict[str, Any] = {
    "Retry-After": {
        "description": "seconds",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    }
}


def complete(app: "FastAPI") -> dict[str, Any]:
    """Return FastAPI's text with what all operations share: headers, and answers about keys."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    text = type(app).openapi(app)
    text["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "an API key, where the service was started with `LONGSKIP_KEYS`",
        }
    }
    for path, operation in _operations(text):
        _declare_version(path, operation)
        answers = operation["responses"]
        if not path.startswith("/v2/health"):
            operation["security"] = [{}, {"key": []}]
            refusal = error_answer if path.startswith("/v2") else problem_answer
            answers.setdefault("401", refusal("no API key, or a wrong one"))
            answers.setdefault("403", refusal("the key does not open this"))
        for status, answer in answers.items():
            own = answer.get("headers", {}) | (_RETRY_AFTER if status == "429" else {})
            answer["headers"] = _HEADERS | own
    return text


def _declare_version(path: str, operation: dict[str, Any]) -> None:
    """Declare the path's version where FastAPI does not: one operation has both addresses."""
    declared = operation.setdefault("parameters", [])
    if "{version}" in path and all(one["name"] != "version" for one in declared):
        declared.append(
            {
                "name": "version",
                "in": "path",
                "required": True,
                "description": "a version of the model, or an alias of one",
                "schema": {"type": ["integer", "string"], "examples": [1, "stable"]},
            }
        )


def _operations(text: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in text["paths"].items():
        for operation in methods.values():
            yield path, operation

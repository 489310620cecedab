"""What is sent: each request as the arguments of httpx's ``request``."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

Image: TypeAlias = bytes | str | os.PathLike[str]
"""An image file's bytes, or where it lies. Only the bytes are sent, never the name."""

Version: TypeAlias = int | str
"""A number, or an alias such as ``stable``."""

Request: TypeAlias = dict[str, Any]
Options: TypeAlias = Mapping[str, object]
"""What goes into the query."""

MODELS: Request = {"method": "GET", "url": "/v1/models"}


def segment(image: Image, model: str, version: Version | None, options: Options) -> Request:
    """Segment an image.

    Raises:
        OSError: the file cannot be read.
    """
    return _post(f"{_place(model, version)}/segment", options, image)


def segment_many(
    images: Sequence[Image], model: str, version: Version | None, options: Options
) -> Request:
    """Segment several images.

    Raises:
        OSError: a file cannot be read.
    """
    return {
        "method": "POST",
        "url": f"{_place(model, version)}/segment-many",
        "params": _params(options),
        "files": [("file", ("image", _content(image))) for image in images],
    }


def compare(image: Image, models: Sequence[str], options: Options) -> Request:
    """Compare models on an image.

    Raises:
        OSError: the file cannot be read.
    """
    return _post("/v1/compare", {"models": ",".join(models), **options}, image)


def _post(url: str, options: Options, image: Image) -> Request:
    return {
        "method": "POST",
        "url": url,
        "params": _params(options),
        "content": _content(image),
        "headers": {"Content-Type": "application/octet-stream"},
    }


def _place(model: str, version: Version | None) -> str:
    named = "" if version is None else f"/versions/{quote(str(version), safe='')}"
    return f"/v1/models/{quote(model, safe='')}{named}"


def _params(options: Options) -> dict[str, str]:
    return {name: str(value) for name, value in options.items()}


def _content(image: Image) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()

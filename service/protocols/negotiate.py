"""Which format an answer has: ``format=`` decides, else the ``Accept`` header."""

import math
from collections.abc import Sequence

from service.engine.encode import ENCODINGS, AnswerFormat
from service.errors import NotAcceptable

DEFAULT: AnswerFormat = "png"
# In order of our own preference. An overlay is a PNG too, bits and rle are npz archives: only
# format= can ask for them.
MEDIA_TYPES: dict[str, AnswerFormat] = {
    "image/png": "png",
    "application/json": "json",
    "application/geo+json": "geojson",
    "application/x-npz": "npz",
    "application/zip": "npz",
}


def choose_format(asked: AnswerFormat | None, accept: str) -> AnswerFormat:
    """Return the format of the answer.

    Args:
        asked: the query's ``format``.
        accept: the Accept header; empty takes anything.

    Raises:
        NotAcceptable: the header names only formats that there are not.
    """
    if asked is not None:
        return asked
    if not accept.strip():
        return DEFAULT
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    ranked = [(*_rank(media_type, ranges), media_type) for media_type in MEDIA_TYPES]
    weight, _, media_type = max(ranked, key=lambda rank: rank[:2])  # of equals the first
    if weight > 0:
        return MEDIA_TYPES[media_type]
    raise NotAcceptable(
        f"the Accept header takes none of {', '.join(MEDIA_TYPES)}; name one, or ask by "
        f"?format={'|'.join(ENCODINGS)}"
    )


Range = tuple[str, float]
"""A media range such as ``image/*``, and its weight."""


def _rank(media_type: str, ranges: Sequence[Range]) -> tuple[float, int]:
    """Weight of the range that says most of a type (RFC 9110, 12.5.1), and how early it stands."""
    kind = media_type.partition("/")[0]
    for spelling in (media_type, f"{kind}/*", "*/*"):
        for place, (name, weight) in enumerate(ranges):
            if name == spelling:
                return weight, -place
    return 0.0, 0


def _range(part: str) -> Range:
    media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    try:
        return media_type, min(1.0, float(weight)) if math.isfinite(float(weight)) else 0.0
    except ValueError:
        return media_type, 0.0

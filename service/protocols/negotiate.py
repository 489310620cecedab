"""Which format an answer has: ``format=`` decides, else the ``Accept`` header."""

from service.engine.encode import ENCODINGS, AnswerFormat
from service.errors import NotAcceptable

DEFAULT: AnswerFormat = "png"
# An overlay is a PNG too; only format= can ask for it.
BY_MEDIA_TYPE: dict[str, AnswerFormat] = {
    "image/png": "png",
    "application/json": "json",
    "application/geo+json": "geojson",
    "application/x-npz": "npz",
    "application/zip": "npz",
    "image/*": "png",
    "application/*": "json",
    "*/*": DEFAULT,
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
    # Sorting is stable, so equal weights keep the client's order.
    for media_type, weight in sorted(ranges, key=lambda item: -item[1]):
        if weight > 0 and media_type in BY_MEDIA_TYPE:
            return BY_MEDIA_TYPE[media_type]
    raise NotAcceptable(
        f"the Accept header names none of {', '.join(BY_MEDIA_TYPE)}; name one, or ask by "
        f"?format={'|'.join(ENCODINGS)}"
    )


def _range(part: str) -> tuple[str, float]:
    media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    try:
        return media_type, float(weight)
    except ValueError:
        return media_type, 0.0

"""``format=`` decides, then the Accept header by weight and order."""

import pytest

from service.engine.encode import ENCODINGS
from service.errors import NotAcceptable
from service.protocols.negotiate import choose_format


@pytest.mark.parametrize("asked", list(ENCODINGS))
def test_format_wins(asked: str) -> None:
    assert choose_format(asked, "text/html") == asked


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "png"),
        ("*/*", "png"),
        ("image/png", "png"),
        ("image/*", "png"),
        ("APPLICATION/JSON", "json"),
        ("application/json;q=0.2, application/geo+json;q=0.9", "geojson"),
        ("application/json, image/png", "json"),
        ("text/html, */*;q=0.1", "png"),
        ("image/png;q=0, application/zip", "npz"),
        ("application/json;q=rubbish, image/png;q=0.1", "png"),
        (" , application/json", "json"),
        ("image/png;q=0, */*", "json"),
        ("*/*, image/*;q=0", "json"),
        ("application/*;q=0.5, application/json;q=0, image/*;q=0.1", "geojson"),
        ("application/*, application/json;q=0.2", "geojson"),
        ("image/png;q=nan, application/zip;q=0.1", "npz"),
    ],
)
def test_accept(accept: str, chosen: str) -> None:
    assert choose_format(None, accept) == chosen


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "image/png;q=0",
        "image/webp, image/avif",
        ";",
        "*/*;q=0",
        "image/*, image/png;q=0",
    ],
)
def test_nothing_that_there_is(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="format="):
        choose_format(None, accept)

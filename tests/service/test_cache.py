"""Kept answers of a service: what hits, what misses, and that nothing is different about a hit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.model import Model

PROVENANCE = (
    "content-type",
    "content-length",
    "x-longskip-skip-gain",
    "x-longskip-tiled",
    *tuple(
        f"x-longskip-{name}" for name in ("model", "version", "sha256", "provider", "precision")
    ),
)


@pytest.fixture
def counted(models: Path, shut_gate: Any) -> dict[str, Any]:
    """Models that note each of their runs, one of them with a dial, one of them tiled."""
    opened = {}
    for name in ("grey", "dial", "tiled"):
        path = models / name / "1" / "model.onnx"
        opened[name] = shut_gate(Model.open(path, device="cpu", threads=1))
        opened[name].gate.set()
    return opened


@pytest.fixture
def caching(serve_in_thread: Any, counted: Any) -> Iterator[httpx.Client]:
    """Talks to a service that keeps a megabyte."""
    with (
        serve_in_thread(list(counted.items()), cache_mb=1) as address,
        httpx.Client(base_url=address, timeout=30, trust_env=False) as client,
    ):
        yield client


def ask(client: httpx.Client, model: str, image: bytes, **query: object) -> httpx.Response:
    answer = client.post(f"/v1/models/{model}/segment", params=query, content=image)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("answer_format", ["png", "overlay", "json", "geojson", "npz"])
def test_a_hit_is_the_answer_of_before_without_a_run(
    caching: httpx.Client, counted: Any, make_pixels: Any, encode_png: Any, answer_format: str
) -> None:
    image = encode_png(make_pixels(20, 30))
    first = ask(caching, "dial", image, format=answer_format, skip_gain="1,0.5")
    second = ask(caching, "dial", image, format=answer_format, skip_gain="1,0.5")
    assert first.headers["x-longskip-cache"] == "miss"
    assert second.headers["x-longskip-cache"] == "hit"
    assert first.content == second.content
    for name in PROVENANCE:
        assert first.headers.get(name) == second.headers.get(name)
    assert first.headers["x-longskip-request-id"] != second.headers["x-longskip-request-id"]
    assert len(counted["dial"].sizes_run) == 1
    assert "run;dur=" not in second.headers["server-timing"]


def test_that_it_was_tiled_is_told_again(
    caching: httpx.Client, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(70, 80))
    answers = [ask(caching, "tiled", image) for _ in range(2)]
    assert [one.headers["x-longskip-cache"] for one in answers] == ["miss", "hit"]
    assert [one.headers["x-longskip-tiled"] for one in answers] == ["true", "true"]


def test_all_that_changes_an_answer_misses(
    caching: httpx.Client, make_pixels: Any, encode_png: Any
) -> None:
    image, other = (encode_png(make_pixels(20, 30, seed=seed)) for seed in (0, 1))
    asked: list[tuple[str, bytes, dict[str, object]]] = [
        ("dial", image, {}),
        ("dial", other, {}),
        ("grey", image, {}),
        ("dial", image, {"skip_gain": "1,0"}),
        ("dial", image, {"format": "json"}),
        ("dial", image, {"orientation": "stored"}),
        ("dial", image, {"format": "overlay"}),
        ("dial", image, {"format": "overlay", "opacity": 1}),
    ]
    for outcome in ("miss", "hit"):
        for model, content, query in asked:
            answer = ask(caching, model, content, **query)
            assert answer.headers["x-longskip-cache"] == outcome, (model, query)
    # What is the default, said or not, is the same question.
    assert ask(caching, "dial", image, skip_gain="1,1").headers["x-longskip-cache"] == "hit"
    told = caching.get("/metrics").text
    assert f'longskip_cache_questions_total{{outcome="hit"}} {len(asked) + 1}.0' in told
    assert f'longskip_cache_questions_total{{outcome="miss"}} {len(asked)}.0' in told


def test_what_is_refused_is_not_kept(caching: httpx.Client) -> None:
    for _ in range(2):
        refused = caching.post("/v1/models/grey/segment", content=b"no image at all")
        assert refused.status_code == 415
        assert refused.headers["x-longskip-cache"] == "miss"


def test_by_default_nothing_is_kept(segment: Any, make_pixels: Any, encode_png: Any) -> None:
    for _ in range(2):
        answer = segment("grey", encode_png(make_pixels(8, 8)))
        assert "x-longskip-cache" not in answer.headers
        assert "run;dur=" in answer.headers["server-timing"]

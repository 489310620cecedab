"""``/v1/compare``: several models' answers for one image, held side by side."""

import io
import math
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from contract.metrics import score_labels
from service.engine.compare import ONLY_FIRST, ONLY_SECOND, OTHERWISE

Compare = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def compare(client: httpx.Client) -> Compare:
    """Post an image's bytes to ``service``."""

    def post(models: str, image: bytes, **query: object) -> httpx.Response:
        params = {"models": models, **query}
        return client.post("/v1/compare", params=params, files={"file": ("image", image)})

    return post


@pytest.fixture(scope="module")
def pixels(make_pixels: Any) -> Any:
    """An RGB image."""
    return make_pixels(40, 56, 3, seed=3)


@pytest.fixture(scope="module")
def image(pixels: Any, encode_png: Any) -> bytes:
    """The same as a file."""
    return encode_png(pixels)


@pytest.fixture(scope="module")
def labels_of(client: httpx.Client, image: bytes) -> Callable[[str], Any]:
    """What ``segment`` answers."""

    def ask(model: str) -> Any:
        name, _, version = model.partition("@")
        place = f"/v1/models/{name}" + (f"/versions/{version}" if version else "")
        answer = client.post(f"{place}/segment", content=image)
        return np.array(Image.open(io.BytesIO(answer.content)))

    return ask


def test_the_figures_are_those_of_the_single_answers(
    compare: Compare, image: bytes, labels_of: Any
) -> None:
    answer = compare("colour@1,colour@2", image)
    said = answer.json()
    one, other = labels_of("colour@1"), labels_of("colour@2")
    assert said["size"] == [40, 56]
    for model, version, labels in zip(said["models"], (1, 2), (one, other), strict=True):
        assert (model["name"], model["version"]) == ("colour", version)
        areas = {entry["index"]: entry["area_px"] for entry in model["classes"]}
        assert areas == {index: int((labels == index).sum()) for index in (1, 2)}
        assert model["ms"]["run"] >= 0
    (pair,) = said["pairs"]
    assert pair["models"] == ["colour@1", "colour@2"]
    assert pair["differing_px"] == int((one != other).sum()) > 0
    assert math.isclose(pair["equal_share"], (one == other).mean())
    scores = score_labels(one, other, task="multiclass", n_classes=3)[1:]
    assert [entry["name"] for entry in pair["classes"]] == ["mid", "high"]
    for entry, score in zip(pair["classes"], scores, strict=True):
        assert entry["dice"] == pytest.approx(score.dice)


def test_each_pair_is_told_and_a_model_agrees_with_itself(
    compare: Compare, make_pixels: Any, encode_png: Any
) -> None:
    said = compare("grey,tiled,dial,grey@1", encode_png(make_pixels(20, 30))).json()
    assert [model["name"] for model in said["models"]] == ["grey", "tiled", "dial", "grey"]
    assert len(said["pairs"]) == 6
    for pair in said["pairs"]:
        assert pair["equal_share"] == 1
        assert pair["differing_px"] == 0
        assert [entry["dice"] for entry in pair["classes"]] == [1]


def test_overlapping_classes_and_classes_that_nobody_sees(
    compare: Compare, make_pixels: Any, encode_png: Any
) -> None:
    said = compare("layers,layers", encode_png(make_pixels(20, 30))).json()
    assert [entry["name"] for entry in said["pairs"][0]["classes"]] == ["a", "b"]
    flat = np.full((8, 8, 1), 7, np.uint8)  # no pixel is brighter than the image's mean
    nothing = compare("layers,layers@1", encode_png(flat)).json()
    assert [entry["dice"] for entry in nothing["pairs"][0]["classes"]] == [None, None]
    assert nothing["pairs"][0]["equal_share"] == 1


def test_the_overlay_shows_what_they_agree_on_and_where_they_differ(
    compare: Compare, image: bytes, pixels: Any, labels_of: Any
) -> None:
    answer = compare("colour@1,colour@2", image, format="overlay", opacity=1)
    assert answer.headers["content-type"] == "image/png"
    drawn = np.array(Image.open(io.BytesIO(answer.content)))
    one, other = labels_of("colour@1"), labels_of("colour@2")
    palette = ((0, 0, 0), (40, 90, 0), (80, 180, 0))  # of build_threshold_model
    for index in (1, 2):
        assert (drawn[(one == index) & (other == index)] == palette[index]).all()
    both_none = (one == 0) & (other == 0)
    np.testing.assert_array_equal(drawn[both_none], pixels[both_none])
    only = [((one > 0) & (other == 0), ONLY_FIRST), ((one == 0) & (other > 0), ONLY_SECOND)]
    for where, colour in (*only, ((one > 0) & (other > 0) & (one != other), OTHERWISE)):
        assert (drawn[where] == colour).all()
    assert only[0][0].any()
    swapped = compare("colour@2,colour@1", image, format="overlay", opacity=1)
    drawn = np.array(Image.open(io.BytesIO(swapped.content)))
    assert (drawn[only[0][0]] == ONLY_SECOND).all()


def test_of_three_models_a_difference_is_a_difference(
    compare: Compare, image: bytes, labels_of: Any
) -> None:
    answer = compare("colour@1,colour@2,colour@1", image, format="overlay", opacity=1)
    drawn = np.array(Image.open(io.BytesIO(answer.content)))
    assert (drawn[labels_of("colour@1") != labels_of("colour@2")] == OTHERWISE).all()


def test_where_all_agree_the_overlay_is_that_of_either(
    compare: Compare, segment: Any, make_pixels: Any, encode_png: Any
) -> None:
    picture = encode_png(make_pixels(20, 30))
    for model in ("grey", "layers"):
        both = compare(f"{model},{model}", picture, format="overlay")
        assert both.content == segment(model, picture, format="overlay").content


def test_who_answered_stands_in_the_header(
    compare: Compare, image: bytes, client: httpx.Client
) -> None:
    answer = compare("colour@1,colour", image, format="overlay")
    first, second = answer.headers["x-longskip-models"].split(", ")
    for part, version in ((first, 1), (second, 2)):
        sha256 = client.get(f"/v1/models/colour/versions/{version}").json()["sha256"]
        name, *facts = part.split(";")
        assert name == f"colour@{version}"
        assert facts == [f"sha256={sha256}", "provider=CPUExecutionProvider", "precision=fp32"]
    for stage in ("admit", "decode", "queue", "run", "encode", "total"):
        assert f"{stage};dur=" in answer.headers["server-timing"]


@pytest.mark.parametrize(
    ("asked", "query", "status", "told"),
    [
        ("grey", {}, 422, "models"),
        ("grey,", {}, 422, "models"),
        ("grey,grey,grey,grey,grey", {}, 422, "models"),
        ("grey,grey@0", {}, 422, "models"),
        ("grey,../grey", {}, 422, "models"),
        ("grey,nowhere", {}, 404, "no model of that name"),
        ("grey,grey@2", {}, 404, "no version of that number"),
        ("grey,grey@canary", {}, 404, "no alias"),
        ("grey,foreign", {}, 503, "adopt"),
        ("grey,colour", {}, 422, "background, mid, high"),
        ("grey,layers", {}, 422, "multilabel: a, b"),
        ("grey,five", {}, 422, "5"),
        ("grey,grey", {"format": "png"}, 422, "format"),
        ("grey,grey", {"skip_gain": "1,1"}, 422, "skip_gain"),
        ("grey,grey", {"models": ["grey,grey", "dial,grey"]}, 422, "more than once"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    client: httpx.Client,
    make_pixels: Any,
    encode_png: Any,
    asked: str,
    query: dict[str, Any],
    status: int,
    told: str,
) -> None:
    params = {"models": asked, **query}
    answer = client.post("/v1/compare", params=params, content=encode_png(make_pixels(8, 8)))
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert told in answer.json()["detail"]


def test_an_image_that_is_none_is_refused_as_by_segment(compare: Compare) -> None:
    answer = compare("grey,dial", b"no image at all")
    assert answer.status_code == 415


def test_each_model_that_answers_counts_an_inference(
    compare: Compare, client: httpx.Client, image: bytes
) -> None:
    def counted(version: int) -> Any:
        (one,) = client.get(f"/v2/models/colour/versions/{version}/stats").json()["model_stats"]
        return one

    def grown(before: Any, after: Any) -> dict[str, int]:
        names = ("success", "fail", "queue", "compute_infer", "compute_input", "compute_output")
        parts = {
            name: after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"]
            for name in names
        }
        counts = ("inference_count", "execution_count")
        return parts | {name: after[name] - before[name] for name in counts}

    def nanoseconds(before: Any, after: Any, part: str) -> int:
        old, new = (one["inference_stats"][part]["ns"] for one in (before, after))
        return int(new - old)

    before = [counted(version) for version in (1, 2)]
    said = compare("colour@1,colour@2,colour@2", image).json()
    after = [counted(version) for version in (1, 2)]
    for times, old, new in zip((1, 2), before, after, strict=True):
        expected = dict.fromkeys(grown(old, new), times) | {"fail": 0}
        assert grown(old, new) == expected
        assert new["last_inference"] > old["last_inference"]
    for part, stage in (("compute_infer", "run"), ("queue", "queue")):
        told_ms = said["models"][0]["ms"][stage]
        assert nanoseconds(before[0], after[0], part) / 1e6 == pytest.approx(told_ms, abs=0.06)
    assert nanoseconds(before[0], after[0], "success") >= nanoseconds(
        before[0], after[0], "compute_infer"
    )
    # An image that is none is the fault of no model, and nothing is counted of it.
    assert compare("colour@1,colour@2", b"no image").status_code == 415
    assert grown(after[0], counted(1)) == dict.fromkeys(grown(after[0], after[0]), 0)


def test_it_has_a_deadline_and_a_place_in_the_queue_like_any_request(
    serve_in_thread: Any, gated_model: Any, make_pixels: Any, encode_png: Any
) -> None:
    picture = encode_png(make_pixels(8, 8))
    with serve_in_thread([("gated", gated_model)], deadline_s=0.3, queue_size=1) as address:
        url = f"{address}/v1/compare?models=gated,gated"
        late = httpx.post(url, content=picture, timeout=20, trust_env=False)
        assert late.status_code == 504
        gated_model.gate.set()
        again = httpx.post(url, content=picture, timeout=20, trust_env=False)
        assert again.status_code == 200, again.text

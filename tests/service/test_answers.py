"""Every format, decoded again, holds exactly what plain onnxruntime says of the same file."""

import io
import itertools
from collections.abc import Callable
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from contract.model import Model
from imaging.rle import decode_rle

# pycocotools 2.0.11 decodes through an __array__ of NumPy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZES = [(1, 1), (1, 37), (33, 47), (64, 64), (101, 59)]


@pytest.mark.parametrize("size", SIZES)
def test_png_holds_class_indices_and_the_palette(
    segment: Any, plain_onnxruntime: Any, make_pixels: Any, encode_png: Any, size: Any
) -> None:
    pixels = make_pixels(*size, 3)
    answer = segment("colour", encode_png(pixels))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    mask = Image.open(io.BytesIO(answer.content))
    assert mask.mode == "P"
    assert mask.getpalette()[:9] == [0, 0, 0, 40, 90, 0, 80, 180, 0]
    expected = plain_onnxruntime("colour", pixels, version=2)["labels"]
    np.testing.assert_array_equal(np.asarray(mask), expected)


@pytest.mark.parametrize("size", SIZES)
def test_npz_holds_labels_and_probabilities(
    segment: Any, plain_onnxruntime: Any, make_pixels: Any, encode_png: Any, size: Any
) -> None:
    pixels = make_pixels(*size)
    answer = segment("grey", encode_png(pixels), format="npz")
    archive = np.load(io.BytesIO(answer.content))
    expected = plain_onnxruntime("grey", pixels)
    assert archive["probabilities"].dtype == np.float32
    np.testing.assert_array_equal(archive["labels"], expected["labels"])
    np.testing.assert_array_equal(archive["probabilities"], expected["probabilities"])


def test_json_holds_areas_boxes_and_rle(
    segment: Any, plain_onnxruntime: Any, make_pixels: Any, encode_png: Any
) -> None:
    pixels = make_pixels(57, 83, 3, seed=3)
    answer = segment("colour", encode_png(pixels), format="json").json()
    labels = plain_onnxruntime("colour", pixels, version=2)["labels"]
    assert answer["size"] == [57, 83]
    assert [entry["index"] for entry in answer["classes"]] == [1, 2]
    assert [entry["name"] for entry in answer["classes"]] == ["mid", "high"]
    for entry in answer["classes"]:
        mask = labels == entry["index"]
        assert mask.any()
        assert entry["area_px"] == mask.sum()
        np.testing.assert_array_equal(decode_rle(entry["rle"]), mask)
        covered = np.zeros_like(mask)
        for x1, y1, x2, y2 in entry["boxes_xyxy"]:
            covered[y1:y2, x1:x2] = True
        assert not (mask & ~covered).any()


def test_a_class_that_is_absent_is_listed_as_empty(segment: Any, encode_png: Any) -> None:
    answer = segment("grey", encode_png(np.full((20, 30, 1), 7, np.uint8)), format="json").json()
    (entry,) = answer["classes"]
    assert (entry["area_px"], entry["boxes_xyxy"]) == (0, [])
    assert not decode_rle(entry["rle"]).any()


def test_geojson_covers_the_same_area(
    segment: Any, plain_onnxruntime: Any, make_pixels: Any, encode_png: Any
) -> None:
    pixels = make_pixels(70, 90, seed=5)
    answer = segment("grey", encode_png(pixels), format="geojson")
    assert answer.headers["content-type"] == "application/geo+json"
    collection = answer.json()
    assert collection["type"] == "FeatureCollection"
    area = 0.0
    for feature in collection["features"]:
        assert feature["properties"]["classification"]["name"] == "bright"
        geometry = feature["geometry"]
        polygons = geometry["coordinates"]
        for rings in polygons if geometry["type"] == "MultiPolygon" else [polygons]:
            outer, *holes = (abs(_shoelace(ring)) for ring in rings)
            area += outer - sum(holes)
    assert area == (plain_onnxruntime("grey", pixels)["labels"] == 1).sum()


def _shoelace(ring: list[list[float]]) -> float:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring)) / 2


def test_overlay_changes_only_what_is_labelled(
    segment: Any, plain_onnxruntime: Any, make_pixels: Any, encode_png: Any
) -> None:
    pixels = make_pixels(60, 61, 3, seed=2)
    answer = segment("colour", encode_png(pixels), format="overlay", opacity=0.7)
    shown = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    background = plain_onnxruntime("colour", pixels, version=2)["labels"] == 0
    np.testing.assert_array_equal(shown[background], pixels[background])
    assert (shown[~background] != pixels[~background]).any()


def test_multilabel_answers_in_the_formats_that_can_hold_overlaps(
    segment: Any, plain_onnxruntime: Any, make_pixels: Any, encode_png: Any
) -> None:
    pixels = make_pixels(40, 50, seed=1)
    image = encode_png(pixels)
    expected = plain_onnxruntime("layers", pixels)["labels"]
    archive = np.load(io.BytesIO(segment("layers", image, format="npz").content))
    np.testing.assert_array_equal(archive["labels"], expected)
    answer = segment("layers", image, format="json").json()
    assert answer["size"] == [40, 50]
    for entry in answer["classes"]:
        np.testing.assert_array_equal(decode_rle(entry["rle"]), expected[entry["index"]] != 0)
    assert segment("layers", image, format="overlay").status_code == 200
    refused = segment("layers", image, format="png")
    assert refused.status_code == 422
    assert "npz" in refused.json()["detail"]


@pytest.mark.parametrize("model", ["colour", "layers"])
def test_bits_and_run_lengths_hold_the_labels(
    segment: Any, plain_onnxruntime: Any, make_pixels: Any, encode_png: Any, model: str
) -> None:
    version, channels = (2, 3) if model == "colour" else (1, 1)
    pixels = make_pixels(33, 47, channels, seed=8)
    labels = plain_onnxruntime(model, pixels, version=version)["labels"]
    answer = segment(model, encode_png(pixels), format="bits")
    assert answer.headers["content-type"] == "application/x-npz"
    with np.load(io.BytesIO(answer.content)) as bits:
        masks = np.unpackbits(bits["planes"], axis=-1, count=int(bits["width"]))
        names = list(bits["classes"])
    if model == "colour":
        assert names == ["mid", "high"]
        np.testing.assert_array_equal(masks, np.stack([labels == 1, labels == 2]))
    else:
        assert names == ["a", "b"]
        np.testing.assert_array_equal(masks, labels)
    with np.load(io.BytesIO(segment(model, encode_png(pixels), format="rle").content)) as rle:
        np.testing.assert_array_equal(
            np.repeat(rle["values"], rle["lengths"]).reshape(rle["shape"]), labels
        )


def test_sixteen_bits_keep_their_depth(
    segment: Any, plain_onnxruntime: Any, make_pixels: Any, encode_png: Any
) -> None:
    # All within one step of 8 bits: an 8-bit path would see a constant image.
    pixels = (make_pixels(45, 38, 3, bits=16) // 300 + 30_000).astype(np.uint16)
    assert len(np.unique(pixels >> 8)) <= 2
    answer = segment("colour", encode_png(pixels), format="npz")
    archive = np.load(io.BytesIO(answer.content))
    expected = plain_onnxruntime("colour", pixels, version=2)
    assert len(np.unique(expected["labels"])) == 3
    np.testing.assert_array_equal(archive["probabilities"], expected["probabilities"])


@pytest.mark.parametrize("size", [(65, 64), (130, 97), (40, 400)])
def test_a_large_image_is_tiled_as_evaluate_tiles_it(
    segment: Any, models: Any, make_pixels: Any, encode_png: Any, size: Any
) -> None:
    pixels = make_pixels(*size, seed=4)
    model = Model.open(models / "tiled" / "1" / "model.onnx", device="cpu", threads=1)
    image_chw = pixels.transpose(2, 0, 1).astype(np.float32)
    expected = model.segment(image_chw, probabilities=True)
    assert expected.tiled
    archive = np.load(io.BytesIO(segment("tiled", encode_png(pixels), format="npz").content))
    np.testing.assert_array_equal(archive["labels"], expected.labels)
    np.testing.assert_array_equal(archive["probabilities"], expected.probabilities)


def test_a_large_image_for_a_model_that_cannot_be_tiled_is_413(
    segment: Any, make_pixels: Any, encode_png: Any
) -> None:
    fits = segment("whole", encode_png(make_pixels(64, 64)))
    too_large = segment("whole", encode_png(make_pixels(65, 64)))
    assert fits.status_code == 200
    assert too_large.status_code == 413
    assert "cannot be tiled" in too_large.json()["detail"]


def _with_orientation(pixels_hwc: Any, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels_hwc[:, :, 0]).save(buffer, "png", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("orientation", "as_shown"),
    [
        (1, lambda p: p),
        (3, lambda p: p[::-1, ::-1]),
        (5, lambda p: p.transpose(1, 0, 2)),
        (6, lambda p: np.rot90(p, -1)),
        (8, lambda p: np.rot90(p, 1)),
    ],
)
def test_the_mask_has_the_size_that_a_viewer_shows(
    segment: Any,
    plain_onnxruntime: Any,
    make_pixels: Any,
    orientation: int,
    as_shown: Callable[[Any], Any],
) -> None:
    pixels = make_pixels(40, 23, seed=orientation)
    image = _with_orientation(pixels, orientation)
    shown = np.load(io.BytesIO(segment("grey", image, format="npz").content))["labels"]
    expected = plain_onnxruntime("grey", as_shown(pixels))["labels"]
    np.testing.assert_array_equal(shown, expected)
    stored = segment("grey", image, format="npz", orientation="stored")
    expected = plain_onnxruntime("grey", pixels)["labels"]
    np.testing.assert_array_equal(np.load(io.BytesIO(stored.content))["labels"], expected)


def test_raw_bodies_give_the_same_bytes_as_multipart(
    client: httpx.Client, segment: Any, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(31, 29))
    by_form = segment("grey", image)
    for media_type in ("image/png", "application/octet-stream", "image/x-anything", None):
        headers = {} if media_type is None else {"Content-Type": media_type}
        raw = client.post("/v1/models/grey/segment", content=image, headers=headers)
        assert raw.status_code == 200
        assert raw.content == by_form.content


def test_a_version_can_be_named(
    client: httpx.Client, plain_onnxruntime: Any, make_pixels: Any, encode_png: Any
) -> None:
    pixels = make_pixels(48, 48, 3, seed=9)
    answers = []
    for version in (1, 2):
        url = f"/v1/models/colour/versions/{version}/segment"
        answer = client.post(url, content=encode_png(pixels))
        assert answer.headers["x-longskip-version"] == str(version)
        labels = np.asarray(Image.open(io.BytesIO(answer.content)))
        np.testing.assert_array_equal(
            labels, plain_onnxruntime("colour", pixels, version=version)["labels"]
        )
        answers.append(labels)
    assert (answers[0] != answers[1]).any()

"""The Open Inference Protocol, spoken by its stock client to a real service."""

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def stock(service: Any) -> Iterator[Any]:
    """NVIDIA's own client."""
    with triton.InferenceServerClient(service.address.removeprefix("http://")) as client:
        yield client


def image_input(images: Any, *, binary: bool = True, name: str = "image") -> Any:
    tensor = triton.InferInput(name, images.shape, "FP32")
    tensor.set_data_from_numpy(images, binary_data=binary)
    return tensor


def images_of(make_pixels: Any, n: int = 1, size: tuple[int, int] = (21, 33)) -> Any:
    pixels = [make_pixels(*size, seed=seed).transpose(2, 0, 1) for seed in range(n)]
    return np.stack(pixels).astype(np.float32)


def test_health_and_metadata(stock: Any) -> None:
    assert stock.is_server_live()
    assert stock.is_server_ready()
    assert stock.is_model_ready("grey")
    assert stock.is_model_ready("colour", "1")
    assert not stock.is_model_ready("colour", "3")
    assert not stock.is_model_ready("nowhere")
    assert "binary_tensor_data" in stock.get_server_metadata()["extensions"]
    colour = stock.get_model_metadata("colour")
    assert colour["versions"] == ["1", "2"]
    assert colour["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 3, -1, -1]}]
    assert colour["outputs"] == [
        {"name": "labels", "datatype": "UINT8", "shape": [-1, -1, -1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3, -1, -1]},
    ]
    assert stock.get_model_metadata("colour", "1")["versions"] == ["1"]
    layers = stock.get_model_metadata("layers")
    assert [tensor["shape"] for tensor in layers["outputs"]] == [[-1, 2, -1, -1]] * 2
    dial = stock.get_model_config("dial")
    assert [(one["name"], one["optional"]) for one in dial["input"]] == [
        ("image", False),
        ("skip_gain", True),
    ]
    assert dial["max_batch_size"] == 8


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
def test_answers_are_those_of_plain_onnxruntime(
    stock: Any,
    plain_onnxruntime: Any,
    make_pixels: Any,
    binary_in: bool,
    binary_out: bool | None,
    packed: str | None,
) -> None:
    images = images_of(make_pixels, n=3)
    asked = None
    if binary_out is not None:
        names = ("probabilities", "labels")
        asked = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]

    answer = stock.infer(
        "grey",
        [image_input(images, binary=binary_in)],
        outputs=asked,
        request_id="seven",
        request_compression_algorithm=packed,
        response_compression_algorithm=packed,
    )

    said = answer.get_response()
    assert (said["id"], said["model_name"], said["model_version"]) == ("seven", "grey", "1")
    labels, probabilities = answer.as_numpy("labels"), answer.as_numpy("probabilities")
    assert labels.dtype == np.uint8
    for place, image in enumerate(images):
        plain = plain_onnxruntime("grey", image.transpose(1, 2, 0))
        np.testing.assert_array_equal(labels[place], plain["labels"])
        np.testing.assert_array_equal(probabilities[place], plain["probabilities"])


def test_only_the_outputs_asked_for_come(stock: Any, make_pixels: Any) -> None:
    asked = [triton.InferRequestedOutput("labels")]
    answer = stock.infer("grey", [image_input(images_of(make_pixels))], outputs=asked)
    assert [tensor["name"] for tensor in answer.get_response()["outputs"]] == ["labels"]


def test_every_image_of_a_batch_may_turn_its_own_dial(stock: Any, make_pixels: Any) -> None:
    # The same image four times: what differs is the dial alone.
    images = np.repeat(images_of(make_pixels, size=(16, 16)), 4, axis=0)
    config = stock.get_model_config("dial")
    levels = config["input"][1]["dims"][0]
    gains = np.ones((4, levels), np.float32)
    gains[1] = 0
    gains[3] = 0

    answer = stock.infer(
        "dial", [image_input(images), image_input(gains, name="skip_gain")]
    ).as_numpy("probabilities")

    np.testing.assert_array_equal(answer[0], answer[2])
    np.testing.assert_array_equal(answer[1], answer[3])
    assert (answer[0] != answer[1]).any()
    plain = stock.infer("dial", [image_input(images[:1])]).as_numpy("probabilities")
    np.testing.assert_array_equal(plain[0], answer[0])


def test_a_large_image_is_tiled_as_v1_tiles_it(
    stock: Any, segment: Any, encode_png: Any, make_pixels: Any
) -> None:
    answer = stock.infer("tiled", [image_input(images_of(make_pixels, size=(90, 120)))])
    packed = segment("tiled", encode_png(make_pixels(90, 120)), format="npz").content
    with np.load(io.BytesIO(packed)) as v1:
        for name in ("labels", "probabilities"):
            np.testing.assert_array_equal(answer.as_numpy(name)[0], v1[name])


def test_what_was_asked_is_counted(stock: Any, make_pixels: Any) -> None:
    def counts() -> Any:
        return stock.get_inference_statistics("five", "1")["model_stats"][0]

    before = counts()
    images = np.zeros((2, 5, 8, 8), np.float32)
    stock.infer("five", [image_input(images)])
    with pytest.raises(InferenceServerException):
        stock.infer("five", [image_input(images[:, :3])])
    after = counts()

    def grown(*path: str) -> int:
        was, is_now = before, after
        for key in path:
            was, is_now = was[key], is_now[key]
        return int(is_now - was)

    def images_run(counted: Any) -> int:
        sizes = counted["batch_stats"]
        return sum(one["batch_size"] * one["compute_infer"]["count"] for one in sizes)

    assert grown("inference_count") == 2
    assert grown("inference_stats", "success", "count") == 1
    assert grown("inference_stats", "fail", "count") == 1
    assert grown("inference_stats", "compute_infer", "ns") > 0
    assert images_run(after) - images_run(before) == 2
    assert grown("last_inference") > 0
    # Those that Triton's typed messages know; another one they do not parse.
    assert after["inference_stats"].keys() == {
        *("success", "fail", "queue", "cache_hit", "cache_miss"),
        *("compute_input", "compute_infer", "compute_output"),
    }
    everything = stock.get_inference_statistics()["model_stats"]
    assert {(one["name"], one["version"]) for one in everything} >= {("five", "1"), ("colour", "2")}


@pytest.mark.parametrize(
    ("model", "shape", "name", "status", "reason"),
    [
        ("nowhere", (1, 1, 4, 4), "image", "404", "there is no model of that name"),
        ("rubbish", (1, 1, 4, 4), "image", "400", "cannot be used"),
        ("grey", (1, 1, 0, 4), "image", "400", "each >= 1"),
        ("grey", (1, 4, 4), "image", "400", "each >= 1"),
        ("grey", (1, 3, 4, 4), "image", "400", "3 channels; grey takes 1"),
        ("grey", (9, 1, 4, 4), "image", "400", "8 is the limit"),
        ("grey", (1, 1, 4, 4), "skip_gain", "400", "grey takes image"),
        ("whole", (1, 1, 65, 65), "image", "413", "cannot be tiled"),
    ],
)
def test_what_does_not_fit_is_refused(
    stock: Any, model: str, shape: tuple[int, ...], name: str, status: str, reason: str
) -> None:
    tensor = image_input(np.zeros(shape, np.float32), name=name)
    with pytest.raises(InferenceServerException, match=reason) as refused:
        stock.infer(model, [tensor])
    assert refused.value.status() == status


def test_gains_out_of_range_and_unknown_outputs_are_refused(stock: Any, make_pixels: Any) -> None:
    image = image_input(images_of(make_pixels))
    levels = stock.get_model_config("dial")["input"][1]["dims"][0]
    gains = image_input(np.full((1, levels), 3, np.float32), name="skip_gain")
    with pytest.raises(InferenceServerException, match="0 to 2"):
        stock.infer("dial", [image, gains])
    with pytest.raises(InferenceServerException, match="labels, probabilities"):
        stock.infer("grey", [image], outputs=[triton.InferRequestedOutput("logits")])


def test_errors_of_a_bare_client_have_the_protocols_form(client: httpx.Client) -> None:
    url = "/v2/models/grey/infer"
    image = {"name": "image", "datatype": "FP32", "shape": [1, 1, 1, 1], "data": [1]}
    good = json.dumps({"inputs": [image]})
    # tritonclient sends no Content-Type; others send what they like.
    assert client.post(url, content=good, headers={"Content-Type": "text/plain"}).is_success
    for body, headers, status in (
        (b"", {}, 400),
        (b"{}", {"Inference-Header-Content-Length": "0"}, 400),
        (b"no json", {}, 400),
        (good, {"Inference-Header-Content-Length": "-1"}, 400),
        (good, {"Inference-Header-Content-Length": "9" * 30}, 400),
        (good, {"Inference-Header-Content-Length": "99999"}, 400),
        (good, {"Content-Encoding": "gzip"}, 400),
        (good, {"Content-Encoding": "br"}, 400),
        (bytes(3_000_000), {}, 413),
    ):
        answer = client.post(url, content=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.json().keys() == {"error"}


def test_a_deadline_of_the_clients_own_is_kept(stock: Any) -> None:
    image = image_input(np.zeros((1, 1, 1200, 400), np.float32))
    with pytest.raises(InferenceServerException) as late:
        stock.infer("tiled", [image], timeout=1)
    assert late.value.status() == "504"

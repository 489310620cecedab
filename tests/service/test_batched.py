"""Answers are the same bits alone and in a batch, and only equals share a batch."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract.model import Model
from imaging.decode import read_image

SIZES = [(33, 47), (33, 47), (64, 31), (33, 47), (64, 31), (7, 5), (1, 1), (33, 47)]


def _post(address: str, image: bytes, answer_format: str = "npz") -> Any:
    url = f"{address}/v1/models/gated/segment"
    answer = httpx.post(url, params={"format": answer_format}, content=image, timeout=60)
    answer.raise_for_status()
    return answer


def test_mixed_odd_sizes_at_once_equal_plain_onnxruntime(
    service: Any, plain_onnxruntime: Any, make_pixels: Any, encode_png: Any
) -> None:
    images = [make_pixels(*size, 3, seed=n) for n, size in enumerate(SIZES * 6)]
    url = f"{service.address}/v1/models/colour/segment?format=npz"
    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(16) as threads:
        answers = list(
            threads.map(lambda pixels: client.post(url, content=encode_png(pixels)), images)
        )
    for pixels, answer in zip(images, answers, strict=True):
        archive = np.load(io.BytesIO(answer.content))
        expected = plain_onnxruntime("colour", pixels, version=2)
        np.testing.assert_array_equal(archive["labels"], expected["labels"])
        np.testing.assert_array_equal(archive["probabilities"], expected["probabilities"])


def test_what_waits_runs_together_by_size_and_is_bit_identical(
    serve_in_thread: Any,
    gated_model: Any,
    wait_until_waiting: Any,
    plain_onnxruntime: Any,
    make_pixels: Any,
    encode_png: Any,
) -> None:
    images = [make_pixels(*size, seed=n) for n, size in enumerate(SIZES)]
    with (
        serve_in_thread([("gated", gated_model)], max_batch=8) as address,
        ThreadPoolExecutor(9) as threads,
    ):
        # The first holds the worker, so that all others wait when it is let go.
        first = threads.submit(_post, address, encode_png(make_pixels(2, 2)))
        assert gated_model.entered.acquire(timeout=30)
        others = [threads.submit(_post, address, encode_png(pixels)) for pixels in images]
        wait_until_waiting(address, "gated", len(images))
        gated_model.gate.set()
        first.result()
        answers = [other.result() for other in others]
    for pixels, answer in zip(images, answers, strict=True):
        archive = np.load(io.BytesIO(answer.content))
        expected = plain_onnxruntime("grey", pixels)
        np.testing.assert_array_equal(archive["labels"], expected["labels"])
        np.testing.assert_array_equal(archive["probabilities"], expected["probabilities"])
    expected_runs = {(1, 1, 2, 2), (4, 1, 33, 47), (2, 1, 64, 31), (1, 1, 7, 5), (1, 1, 1, 1)}
    assert len(gated_model.sizes_run) == len(expected_runs)
    assert set(gated_model.sizes_run) == expected_runs


def test_different_outputs_do_not_share_a_batch(
    serve_in_thread: Any,
    gated_model: Any,
    wait_until_waiting: Any,
    make_pixels: Any,
    encode_png: Any,
) -> None:
    image = encode_png(make_pixels(20, 20))
    with (
        serve_in_thread([("gated", gated_model)], max_batch=8) as address,
        ThreadPoolExecutor(5) as threads,
    ):
        first = threads.submit(_post, address, encode_png(make_pixels(2, 2)))
        assert gated_model.entered.acquire(timeout=30)
        formats = ("npz", "png", "npz", "json")
        others = [threads.submit(_post, address, image, name) for name in formats]
        wait_until_waiting(address, "gated", len(formats))
        gated_model.gate.set()
        for answer in (first, *others):
            answer.result()
    assert sorted(gated_model.sizes_run[1:]) == [(2, 1, 20, 20), (2, 1, 20, 20)]


@pytest.mark.slow
def test_the_shipped_nets_answer_the_same_bits_alone_and_batched(
    serve_in_thread: Any,
    shut_gate: Any,
    wait_until_waiting: Any,
    repository_root: Path,
    encode_png: Any,
) -> None:
    """A real U-Net, whose sums could depend on the batch, on real images of mixed odd sizes."""
    samples = sorted((repository_root / "docs" / "samples").glob("*.png"))
    picture = read_image(samples[0]).pixels_hwc[:, :, :3]
    crops = [(33, 47), (33, 47), (48, 48), (33, 47), (61, 29), (48, 48), (7, 5), (1, 1), (101, 96)]
    images = [
        np.ascontiguousarray(picture[n : n + height, 3 * n : 3 * n + width])
        for n, (height, width) in enumerate(crops)
    ]
    files = {
        "nuclei": "nuclei/1/model.onnx",
        "nuclei-int8": "nuclei/1/model.int8.onnx",
        "nuclei-noskip": "nuclei-noskip/1/model.int8.onnx",
    }
    opened = {
        name: Model.open(repository_root / "models" / file, device="cpu", prove=False)
        for name, file in files.items()
    }
    gated = {name: shut_gate(model) for name, model in opened.items()}
    with serve_in_thread(list(gated.items())) as address, ThreadPoolExecutor(18) as threads:

        def post(name: str, pixels: Any) -> bytes:
            url = f"{address}/v1/models/{name}/segment?format=npz"
            return httpx.post(url, content=encode_png(pixels), timeout=60).content

        for name, model in gated.items():
            waiting = [threads.submit(post, name, images[0])]
            assert model.entered.acquire(timeout=30)
            waiting += [threads.submit(post, name, pixels) for pixels in images[1:]]
            wait_until_waiting(address, name, len(images) - 1)
            model.gate.set()
            for pixels, answer in zip(images, waiting, strict=True):
                archive = np.load(io.BytesIO(answer.result()))
                image_nchw = pixels.transpose(2, 0, 1)[None].astype(np.float32)
                labels, probabilities = opened[name].session.run(
                    ["labels", "probabilities"], {"image": image_nchw}
                )
                np.testing.assert_array_equal(archive["labels"], labels[0])
                np.testing.assert_array_equal(archive["probabilities"], probabilities[0])
            assert max(shape[0] for shape in model.sizes_run) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx"])
@pytest.mark.parametrize("name", ["nuclei", "nuclei-noskip"])
def test_the_shipped_nets_answer_the_same_bits_on_one_core_and_on_several(
    repository_root: Path, name: str, file: str
) -> None:
    """So that a crowd, whose images take one core each, gets what a single request gets."""
    path = repository_root / "models" / name / "1" / file
    one, several = (Model.open(path, device="cpu", threads=n, prove=False) for n in (1, 3))
    picture = read_image(sorted((repository_root / "docs" / "samples").glob("*.png"))[0])
    image_chw = picture.pixels_hwc[:, :, :3].transpose(2, 0, 1).astype(np.float32)
    for height, width in [(1, 1), (7, 5), (33, 47), (64, 64), (101, 96), (250, 201)]:
        crop_nchw = np.ascontiguousarray(image_chw[None, :, :height, :width])
        outputs = ("labels", "probabilities")
        expected, found = (m.run(crop_nchw, outputs=outputs) for m in (several, one))
        for output in outputs:
            np.testing.assert_array_equal(found[output], expected[output])

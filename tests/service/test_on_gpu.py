"""The service with models that run as on a GPU: its batches and limits, and the file's masks."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract.gpu.tensorrt import EngineShapes
from contract.model import Model
from contract.session import CUDA_PROVIDER, TENSORRT_PROVIDER
from contract.spec import Tiles
from imaging.label_png import read_mask
from tests.contract.gpu.as_on_gpu import as_on_cuda, as_on_tensorrt


@pytest.fixture
def plain(tmp_path: Path, build_threshold_model: Callable[..., Path]) -> Model:
    path = tmp_path / "m" / "1" / "model.onnx"
    build_threshold_model(path, name="m", tiles=Tiles(patch=(40, 48)), with_dial=True)
    return Model.open(path, device="cpu", threads=1)


@pytest.mark.parametrize("provider", [CUDA_PROVIDER, TENSORRT_PROVIDER])
def test_a_crowd_gets_the_masks_of_the_file_itself(
    plain: Model,
    serve_in_thread: Any,
    encode_png: Callable[[Any], bytes],
    make_pixels: Callable[..., Any],
    provider: str,
) -> None:
    sizes = [(40, 48), (30, 60), (61, 20), (1, 1)]
    if provider == CUDA_PROVIDER:
        model = as_on_cuda(plain, graphs=True)
    else:
        model = as_on_tensorrt(plain, EngineShapes(3, (60, 60), (40, 48)))
    model.warm_up(sizes[:2], max_batch=8)
    images = [make_pixels(*sizes[n % 4], seed=n) for n in range(40)]
    with serve_in_thread([("m", replace(model, provider=provider))]) as address:

        def ask(pixels: Any) -> httpx.Response:
            url = f"{address}/v1/models/m/segment"
            return httpx.post(url, content=encode_png(pixels), timeout=30, trust_env=False)

        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(ask, images))
    for pixels, answer in zip(images, answers, strict=True):
        assert answer.status_code == 200
        assert answer.headers["x-longskip-provider"] == provider
        tiled = provider == TENSORRT_PROVIDER and pixels.shape[0] > 60
        assert answer.headers.get("x-longskip-tiled") == ("true" if tiled else None)
        image = pixels.transpose(2, 0, 1).astype(np.float32)
        expected = plain.segment(image, in_tiles=tiled).labels
        np.testing.assert_array_equal(read_mask(answer.content), expected)

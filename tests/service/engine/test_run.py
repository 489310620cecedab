"""One image of a batch that fails does not spoil the others' answers."""

import asyncio
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.errors import RequestInvalid
from contract.halt import Halt
from contract.model import Model, Segmentation
from service.engine.budget import PixelBudget
from service.engine.encode import Answer, encode
from service.engine.engine import batch_pixels
from service.engine.queue import Decoded, Job
from service.engine.run import run_batch


class FailsOnBlack:
    """A real model that cannot bear a black image, in a batch or alone."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run(self, image_nchw: Any, **options: Any) -> Any:
        if (image_nchw == 0).all(axis=(1, 2, 3)).any():
            raise RequestInvalid("a black image")
        return self._model.run(image_nchw, **options)

    def segment(self, image_chw: Any, **options: Any) -> Segmentation:
        if (image_chw == 0).all():
            raise RequestInvalid("a black image")
        return self._model.segment(image_chw, **options)


class OnGpu:
    """What the bound on batches looks at, of a model on a GPU."""

    provider = "CUDAExecutionProvider"

    def __init__(self, model: Model) -> None:
        self.spec = model.spec


def test_large_images_are_batched_on_a_gpu_only(models: Path) -> None:
    model = Model.open(models / "grey" / "1" / "model.onnx", device="cpu", threads=1)
    limit = model.spec.whole_image_max_pixels
    assert batch_pixels(OnGpu(model)) == limit
    assert batch_pixels(model) == 256 * 256 < limit
    tiled = Model.open(models / "tiled" / "1" / "model.onnx", device="cpu", threads=1)
    assert batch_pixels(tiled) == tiled.spec.whole_image_max_pixels < 256 * 256


def test_a_failing_batch_is_run_image_by_image(models: Path, make_pixels: Any) -> None:
    model = Model.open(models / "grey" / "1" / "model.onnx", device="cpu", threads=1)
    images = [make_pixels(20, 30, seed=n).transpose(2, 0, 1).astype(np.float32) for n in range(3)]
    images[1][:] = 0

    async def run() -> list[Segmentation | Exception]:
        loop = asyncio.get_running_loop()
        lease = PixelBudget(1).lease()
        jobs = [Job(Decoded(image), False, lease, loop.create_future()) for image in images]
        return run_batch(FailsOnBlack(model), jobs, Halt())

    outcomes = asyncio.run(run())
    assert isinstance(outcomes[1], RequestInvalid)
    for n in (0, 2):
        outcome = outcomes[n]
        assert isinstance(outcome, Segmentation)
        np.testing.assert_array_equal(outcome.labels, model.segment(images[n]).labels)


@pytest.mark.parametrize("members", [True, False])
def test_disagreement_is_in_an_npz_of_a_model_that_gives_it(
    tmp_path: Path, build_threshold_model: Any, make_pixels: Any, members: bool
) -> None:
    file = build_threshold_model(tmp_path / "model.onnx", with_disagreement=members)
    model = Model.open(file, device="cpu", threads=1)
    images = [make_pixels(20, 30, seed=n).transpose(2, 0, 1).astype(np.float32) for n in range(3)]

    async def run(images: list[Any]) -> list[Segmentation | Exception]:
        loop = asyncio.get_running_loop()
        lease = PixelBudget(1).lease()
        jobs = [Job(Decoded(i), True, lease, loop.create_future()) for i in images]
        return run_batch(model, jobs, Halt())

    for outcome in [*asyncio.run(run(images)), *asyncio.run(run(images[:1]))]:
        assert isinstance(outcome, Segmentation)
        assert outcome.probabilities is not None
        archive = np.load(io.BytesIO(encode(Answer(model.spec, outcome, None, 0.5), "npz")))
        names = {"labels", "probabilities", *(["disagreement"] if members else [])}
        assert set(archive.files) == names
        if members:
            np.testing.assert_array_equal(archive["disagreement"], outcome.probabilities[0])

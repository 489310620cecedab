"""Work that nobody waits for any more, and answers that would be too large."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contract.errors import RequestInvalid
from contract.model import Model, Segmentation
from contract.spec import Tiles
from imaging.errors import ImageTooLarge
from service.engine.budget import PixelBudget
from service.engine.encode import OUTLINE_PX_MAX, Answer, encode
from service.engine.queue import Decoded, Job
from service.engine.run import run_batch
from service.errors import ClientGone


@pytest.fixture
def tiled(build_threshold_model: Callable[..., Path], tmp_path: Path) -> Model:
    path = build_threshold_model(
        tmp_path / "m.onnx", whole_image_max_pixels=32 * 32, tiles=Tiles(patch=(32, 32))
    )
    return Model.open(path, device="cpu")


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_tiled_run_stops_when_its_request_has_ended(tiled: Model, cancelled: bool) -> None:
    async def outcome() -> Segmentation | Exception:
        answer: asyncio.Future[Segmentation] = asyncio.get_running_loop().create_future()
        if cancelled:
            answer.cancel()
        job = Job(
            image=Decoded(np.zeros((1, 100, 130), dtype=np.float32)),
            probabilities=False,
            lease=PixelBudget(10**6).lease(),
            answer=answer,
        )
        return run_batch(tiled, [job])[0]

    found = asyncio.run(outcome())
    assert isinstance(found, ClientGone if cancelled else Segmentation)


@pytest.mark.parametrize("answer_format", ["json", "geojson"])
def test_noise_is_not_written_as_outlines(tiled: Model, answer_format: str) -> None:
    side = 1700  # 2 x 1700 x 1699 px of outline in a checkerboard
    board = (np.indices((side, side)).sum(axis=0) % 2).astype(np.uint8)
    answer = Answer(
        spec=tiled.spec,
        segmentation=Segmentation(labels=board, probabilities=None, tiled=False),
        pixels_hwc=None,
        opacity=0.4,
    )
    length_px = 2 * side * (side - 1)
    assert OUTLINE_PX_MAX["geojson"] < length_px > OUTLINE_PX_MAX["json"]
    with pytest.raises(RequestInvalid, match=f"{length_px:,} px of outline"):
        encode(answer, answer_format)  # type: ignore[arg-type]


def test_an_image_that_never_fits_is_too_large_and_not_told_to_come_again() -> None:
    budget = PixelBudget(100)
    with pytest.raises(ImageTooLarge, match="101"):
        budget.take(101, "one")
    budget.take(100, "one")
    assert budget.held_pixels == 100

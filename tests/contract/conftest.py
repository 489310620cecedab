"""Fixtures of the contract's tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.model import Model
from contract.spec import Tiles


@pytest.fixture
def open_threshold_model(
    tmp_path: Path, build_threshold_model: Callable[..., Path]
) -> Callable[..., Model]:
    """Build a threshold model with the given options and open it on the CPU."""

    def build_and_open(**options: Any) -> Model:
        return Model.open(
            build_threshold_model(tmp_path / "model.onnx", **options), device="cpu", threads=1
        )

    return build_and_open


@pytest.fixture
def tiled_model(open_threshold_model: Callable[..., Model]) -> Model:
    """A threshold model that cuts images past 4000 pixels into tiles of 48 x 64."""
    return open_threshold_model(whole_image_max_pixels=4000, tiles=Tiles(patch=(48, 64)))


@pytest.fixture
def picture() -> Callable[..., NDArray[np.float32]]:
    """Return ``picture(channels, height, width, seed=0)``: noise on a slope, 0-255."""

    def make(channels: int, height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
        random = np.random.default_rng(seed)
        slope = np.linspace(0, 120, width) + np.linspace(0, 60, height)[:, None]
        noise = random.integers(0, 76, (channels, height, width))
        return np.floor(slope + noise).astype(np.float32)

    return make

"""The nets that every tester of this folder runs over, tiny, and how they are built."""

from collections.abc import Callable

import pytest
import torch

from training.nets.build import build_net
from training.nets.config import NetConfig
from training.nets.net import SegmentationNet

CHANNELS = 2
CLASSES = 3


@pytest.fixture(scope="session")
def build() -> Callable[[NetConfig], SegmentationNet]:
    """Build a net for 2 channels and 3 classes from seed 0, in eval mode."""

    def _build(config: NetConfig) -> SegmentationNet:
        torch.manual_seed(0)
        return build_net(config, channels=CHANNELS, classes=CLASSES).eval()

    return _build


@pytest.fixture(scope="session")
def image() -> Callable[..., torch.Tensor]:
    """Make normal noise [B, 2, H, W] from seed 1."""

    def _image(height: int, width: int, batch: int = 2) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.randn(batch, CHANNELS, height, width, generator=generator)

    return _image

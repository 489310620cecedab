"""NetConfig -> net. A new architecture is one entry of ``ARCHITECTURES``."""

from collections.abc import Callable

from training.nets.config import NetConfig
from training.nets.net import SegmentationNet
from training.nets.unet import UNet

ARCHITECTURES: dict[str, Callable[..., SegmentationNet]] = {
    "unet": UNet,
}


def build_net(config: NetConfig, *, channels: int, classes: int) -> SegmentationNet:
    """Return a freshly initialised net.

    Args:
        config: the architecture.
        channels: C of the input, at least 1.
        classes: K of the logits, at least 1; for a multiclass task it counts the background.

    Raises:
        ValueError: a count below 1, or an architecture that is not known.
    """
    if channels < 1 or classes < 1:
        raise ValueError(f"channels and classes must be at least 1, got {channels} and {classes}")
    if config.architecture not in ARCHITECTURES:
        raise ValueError(
            f"architecture must be one of {', '.join(ARCHITECTURES)}; got {config.architecture!r}"
        )
    return ARCHITECTURES[config.architecture](config, channels=channels, classes=classes)

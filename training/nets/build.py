"""NetConfig -> net. A new architecture is one entry of ``ARCHITECTURES``."""

from collections.abc import Callable

from training.nets.config import NetConfig
from training.nets.net import SegmentationNet
from training.nets.smp_architectures import SMP_ARCHITECTURES, SmpNet
from training.nets.smp_unet import SmpUNet
from training.nets.unet import build_unet

ARCHITECTURES: dict[str, Callable[..., SegmentationNet]] = {
    "unet": build_unet,
    "smp-unet": SmpUNet,
    **dict.fromkeys(SMP_ARCHITECTURES, SmpNet),
}


def build_net(config: NetConfig, *, channels: int, classes: int) -> SegmentationNet:
    """Return a freshly initialised net.

    Args:
        config: the architecture.
        channels: C of the input, at least 1.
        classes: K of the logits, at least 1; for a multiclass task it counts the background.

    Raises:
        ValueError: a count below 1, or an architecture, encoder or weights that are not known.
        LongskipError: weights for the encoder could not be downloaded.
    """
    if channels < 1 or classes < 1:
        raise ValueError(f"channels and classes must be at least 1, got {channels} and {classes}")
    _refuse_unknown(config)
    return ARCHITECTURES[config.architecture](config, channels=channels, classes=classes)


def export_refusal(config: NetConfig) -> str | None:
    """Return why nets of ``config`` are not exported, or None; builds nothing.

    Only what was tried and found wrong is refused here. The export proves every file itself.

    Raises:
        ValueError: the architecture is not known.
    """
    _refuse_unknown(config)
    facts = SMP_ARCHITECTURES.get(config.architecture)
    return None if facts is None else facts.export_refusal


def _refuse_unknown(config: NetConfig) -> None:
    if config.architecture not in ARCHITECTURES:
        raise ValueError(
            f"architecture must be one of {', '.join(ARCHITECTURES)}; got {config.architecture!r}"
        )

"""segmentation-models-pytorch's architectures as they are: smp's decoder, no dial of ours."""

from dataclasses import dataclass

import segmentation_models_pytorch as smp
from jaxtyping import Float
from torch import Tensor

from training.nets.config import NetConfig
from training.nets.net import SegmentationNet
from training.nets.smp_encoder import (
    clear_errors,
    drop_idle_layers,
    is_local,
    weights_argument,
)


@dataclass(frozen=True)
class SmpFacts:
    """What was found out about one of smp's decoders with smp 0.6.0 and torch 2.15.

    Attributes:
        is_local: False where it pools or attends over the whole image.
        export_refusal: why it is not exported, or None. Each was tried with a ResNet-18 at 6 sizes
            that were not traced, and 20 encoders under smp's U-Net likewise: only the two below
            were wrong. Every export is proved again all the same.
        least_strides: smallest side that it takes, in output strides of the encoder.
    """

    is_local: bool
    export_refusal: str | None = None
    least_strides: int = 1


_POOLS_TO_FIXED_GRIDS = (
    "its pyramid pools to fixed grids, and the exporter freezes their cells at the size of the "
    "example, so the file is wrong at every other size; choose deeplabv3plus or fpn"
)

SMP_ARCHITECTURES: dict[str, SmpFacts] = {
    "unetplusplus": SmpFacts(is_local=True),
    "fpn": SmpFacts(is_local=False),
    "linknet": SmpFacts(is_local=True),
    "manet": SmpFacts(is_local=False),
    "deeplabv3": SmpFacts(is_local=False),
    "deeplabv3plus": SmpFacts(is_local=False),
    "pan": SmpFacts(is_local=False, least_strides=8),
    "segformer": SmpFacts(is_local=True),
    "pspnet": SmpFacts(is_local=False, export_refusal=_POOLS_TO_FIXED_GRIDS),
    "upernet": SmpFacts(is_local=False, export_refusal=_POOLS_TO_FIXED_GRIDS),
}


class SmpNet(SegmentationNet):
    """One of smp's own models; it has no dial, so ``long_skips`` and ``widths`` are empty."""

    def __init__(self, config: NetConfig, *, channels: int, classes: int) -> None:
        super().__init__()
        facts = SMP_ARCHITECTURES[config.architecture]
        with clear_errors(config):
            self.model = smp.create_model(
                config.architecture,
                encoder_name=config.encoder,
                encoder_weights=weights_argument(config),
                in_channels=channels,
                classes=classes,
            )
            drop_idle_layers(self.model.encoder, channels=channels)
        self.long_skips = ()
        self.widths = ()
        self.divisor = int(self.model.encoder.output_stride)
        self.least_side = facts.least_strides * self.divisor
        self.tileable = facts.is_local and is_local(config.encoder)
        self.export_refusal = facts.export_refusal

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Return logits; H and W must be multiples of ``divisor``, at least ``least_side``."""
        logits: Tensor = self.model(image)  # [B, K, H, W]
        return logits

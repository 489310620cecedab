"""Stage 1: raw intensities -> what the net sees, (x - mean) / std per channel."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from contract.spec import Normalising

# A constant channel has std 0; this keeps it at exactly 0 instead of NaN. It is far below the
# intensity step of any integer format.
STD_FLOOR = 1e-6


class Normalise(nn.Module):
    """Standardise each channel by the image's own, the caller's, or fixed numbers.

    The image's own mean and std are reduced in float64: float32 ``ReduceMean`` made an image's
    answer depend on the batch it came in at odd sizes.
    """

    def __init__(self, normalising: Normalising) -> None:
        super().__init__()
        self.kind = normalising.kind
        self.fixed: Tensor
        if normalising.mean is not None and normalising.std is not None:
            fixed = torch.tensor([normalising.mean, normalising.std], dtype=torch.float32).T
            self.register_buffer("fixed", fixed.contiguous()[None], persistent=False)

    @property
    def takes_statistics(self) -> bool:
        """Whether the optional input ``statistics`` has a meaning for this normalising."""
        return self.kind == "image"

    def forward(
        self, image: Float[Tensor, "b c h w"], statistics: Float[Tensor, "s c 2"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Standardise ``image``.

        Args:
            image: raw intensities.
            statistics: mean and std per channel, for all images (s = 1) or each (s = b); NaN
                means the image's own. None means NaN for all.
        """
        if self.kind == "fixed":
            used = self.fixed
        else:
            used = image_statistics(image)  # [b, c, 2]
            if statistics is not None:
                used = torch.where(torch.isnan(statistics), used, statistics)
        mean, std = used[..., 0, None, None], used[..., 1, None, None]  # [b, c, 1, 1]
        return (image - mean) / torch.clamp(std, min=STD_FLOOR)


def image_statistics(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2"]:
    """Mean and population std of each image and channel, reduced in float64."""
    wide = image.double()
    mean = wide.mean(dim=(2, 3), keepdim=True)
    std = (wide - mean).square().mean(dim=(2, 3)).sqrt()
    return torch.stack([mean[..., 0, 0], std], dim=-1).float()

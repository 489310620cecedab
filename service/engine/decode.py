"""Step 2 of data's way: encoded bytes become the array that the model takes. Runs in a thread."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from contract.model import Intensities
from contract.spec import ModelSpec
from imaging.channels import match_channels, to_chw_float32
from imaging.decode import Orientation, decode_image
from imaging.header import ImageHeader
from service.engine.budget import PixelLease
from service.engine.unpack import Readable

# Up to here a pixel costs one pixel of the budget; more channels cost in proportion.
CHANNELS_PER_BUDGET_PIXEL = 4


@dataclass(frozen=True)
class DecodedRequest:
    """One image, ready for the model.

    Attributes:
        image_chw: raw intensities ``[C, H, W]``: float32, contiguous; of an image that will be
            tiled as decoded, because its float32 copy would be most of the request's memory.
        pixels_hwc: the image as decoded ``[H, W, C]``, kept only for an answer that shows it.
    """

    image_chw: Intensities
    pixels_hwc: NDArray[Any] | None


def decode(
    file: Readable,
    spec: ModelSpec,
    *,
    max_pixels: int,
    orientation: Orientation,
    lease: PixelLease,
    keep_pixels: bool,
) -> DecodedRequest:
    """Read a file and bring it to the model's channels.

    Memory is taken from the budget by what the header says, before any pixel is decoded.

    Raises:
        UnsupportedImage, BrokenImage, ImageTooLarge, ChannelMismatch: see ``imaging``.
        Overloaded: other images hold the memory.
    """

    def admit(header: ImageHeader) -> None:
        lease.take(header.pixels * max(1, header.channels // CHANNELS_PER_BUDGET_PIXEL))

    with lease:
        decoded = decode_image(
            file.read(), max_pixels=max_pixels, orientation=orientation, admit=admit
        )
        matched = match_channels(decoded.pixels_hwc, spec.channels)
        tiled = decoded.header.pixels > spec.whole_image_max_pixels
        return DecodedRequest(
            image_chw=matched.transpose(2, 0, 1) if tiled else to_chw_float32(matched),
            pixels_hwc=decoded.pixels_hwc if keep_pixels else None,
        )

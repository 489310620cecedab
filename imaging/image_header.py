"""What an image file says about itself before any pixel is decoded."""

from dataclasses import dataclass

from imaging.errors import BrokenImage, ImageTooLarge

# A pixel of RGBA in float32: the most memory that one pixel of the limit may take decoded.
BYTES_PER_LIMIT_PIXEL = 16


@dataclass(frozen=True)
class ImageHeader:
    """The facts in a file's header; sizes are as stored, before the orientation is applied.

    Attributes:
        format: "png", "jpeg", "tiff" or "bmp".
        width_px: Stored width.
        height_px: Stored height.
        channels: Channels of the decoded array; a palette image has 3.
        bits_per_sample: Bits of one stored sample (of the index, for a palette image).
        orientation: EXIF orientation 1..8; 1 where the file names none.
        pages: Images in the file.
        has_palette: Whether the stored values are indices into a colour table.
    """

    format: str
    width_px: int
    height_px: int
    channels: int
    bits_per_sample: int
    orientation: int = 1
    pages: int = 1
    has_palette: bool = False

    def __post_init__(self) -> None:
        if self.width_px < 1 or self.height_px < 1 or self.channels < 1:
            raise BrokenImage(
                f"the {self.format.upper()} header gives {self.width_px}x{self.height_px} pixels "
                f"and {self.channels} channels; each must be at least 1: write the file again"
            )

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width_px * self.height_px

    @property
    def decoded_bytes(self) -> int:
        """Memory that the decoded samples take."""
        bytes_per_sample = next((n for n in (1, 2, 4) if 8 * n >= self.bits_per_sample), 8)
        return self.pixels * self.channels * bytes_per_sample

    @property
    def shown_size_hw(self) -> tuple[int, int]:
        """Height and width as a viewer shows them, with the orientation applied."""
        if self.orientation >= 5:
            return self.width_px, self.height_px
        return self.height_px, self.width_px


def check_size(header: ImageHeader, max_pixels: int) -> None:
    """Refuse an image that is too large to decode.

    Raises:
        ImageTooLarge: More than ``max_pixels`` pixels, or so many or so wide channels that the
            decoded samples take more than 16 bytes per pixel of the limit.
    """
    size = f"{header.width_px}x{header.height_px} px"
    if header.pixels > max_pixels:
        raise ImageTooLarge(
            f"the image has {size} = {header.pixels:,} pixels, the limit is {max_pixels:,}: "
            "cut it into parts or make it smaller"
        )
    if header.decoded_bytes > max_pixels * BYTES_PER_LIMIT_PIXEL:
        raise ImageTooLarge(
            f"the image of {size} with {header.channels} channels of {header.bits_per_sample} "
            f"bits takes {header.decoded_bytes:,} bytes, the limit is "
            f"{max_pixels * BYTES_PER_LIMIT_PIXEL:,}: cut it into parts or drop channels"
        )

"""The root of Longskip's errors and the branch that concerns images.

The whole tree is drawn in ``contract/errors.py``; the root stands here because imaging is the
room that imports no other.
"""


class LongskipError(Exception):
    """Root of every error that Longskip raises on purpose."""


class ImageError(LongskipError):
    """An image cannot be used."""


class UnsupportedImage(ImageError):
    """The format or sample type is not one that Longskip reads."""


class BrokenImage(ImageError):
    """The bytes begin like an image but do not decode."""


class ImageTooLarge(ImageError):
    """The image has more pixels than the limit; told from the header, before decoding."""


class ChannelMismatch(ImageError):
    """The image's channels cannot be brought to those that the model takes."""

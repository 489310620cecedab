"""Turn what a decoding library raises into our own error, and keep its chatter out of the logs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from imaging.errors import BrokenImage, ImageError

# They log every odd tag of a file, with its value: noise, and values may be personal.
for _library in ("imagecodecs", "tifffile"):
    logging.getLogger(_library).addHandler(logging.NullHandler())
    logging.getLogger(_library).propagate = False


@contextmanager
def broken_unless_decoded(format_name: str) -> Iterator[None]:
    """Raise BrokenImage for whatever a decoder raises on hostile bytes.

    Decoders answer malformed bytes with their own errors and with KeyError, struct.error,
    UnicodeDecodeError and the like, so everything but a lack of memory, of a library or of the
    system's own means "does not decode".
    """
    try:
        yield
    except (ImageError, MemoryError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise BrokenImage(
            f"the {format_name} data do not decode ({reason}): the file is damaged or incomplete; "
            "write or send it again"
        ) from error

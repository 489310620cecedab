import logging

import numpy as np
import pytest

from imaging.decode import decode_image
from imaging.errors import BrokenImage, ImageTooLarge
from imaging.formats.guard import broken_unless_decoded


def test_what_a_decoder_raises_becomes_a_broken_image_with_its_reason():
    reason = r"TIFF data do not decode \(tile 7 is bad\)"
    with pytest.raises(BrokenImage, match=reason) as caught, broken_unless_decoded("TIFF"):
        raise ValueError("tile 7\n  is bad")
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("error", [ImageTooLarge("too large"), MemoryError()])
def test_our_own_errors_and_a_lack_of_memory_pass_through(error):
    with pytest.raises(type(error)), broken_unless_decoded("PNG"):
        raise error


def test_nothing_is_printed_or_logged_about_a_damaged_file(tiff_bytes, capfd):
    encoded = tiff_bytes(np.zeros((5, 40, 40), np.uint8), ome=True, metadata={"axes": "CYX"})
    heard: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())
    library = logging.getLogger("tifffile")
    logging.getLogger().addHandler(listener)
    library.addHandler(proof := logging.Handler())
    proof.emit = lambda record: heard_by_the_library.append(record.getMessage())
    heard_by_the_library: list[str] = []
    try:
        with pytest.raises(BrokenImage):
            decode_image(encoded[: len(encoded) // 2], max_pixels=10_000)
    finally:
        logging.getLogger().removeHandler(listener)
        library.removeHandler(proof)
    assert heard_by_the_library  # or the file would prove nothing
    assert heard == []
    assert capfd.readouterr() == ("", "")

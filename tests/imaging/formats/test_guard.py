import logging
import subprocess
import sys

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


@pytest.mark.parametrize(
    "error",
    [ImageTooLarge("too large"), MemoryError(), ImportError("no codec"), OSError(24, "too many")],
)
def test_our_own_errors_and_what_the_machine_lacks_pass_through(error):
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


def test_codecs_are_loaded_before_a_file_comes(repository_root):
    """Later there may be no file left to open them with."""
    program = (
        "import resource, sys, numpy as np, tifffile, io, cv2\n"
        "from imaging.decode import decode_image\n"
        "files = [cv2.imencode(e, np.zeros((8, 8), np.uint8))[1].tobytes() for e in sys.argv[1:]]\n"
        "for kind in ('lzw', 'zlib', 'zstd', 'lzma', 'packbits'):\n"
        "    out = io.BytesIO()\n"
        "    tifffile.imwrite(out, np.zeros((8, 8), np.uint8), compression=kind, predictor=False)\n"
        "    files.append(out.getvalue())\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "for file in files: assert decode_image(file, max_pixels=64).pixels_hwc.shape == (8, 8, 1)"
    )
    command = [sys.executable, "-c", program, ".png", ".jpg"]
    finished = subprocess.run(command, cwd=repository_root, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr

"""Every hostile file gives an array or an ImageError, in bounded time and memory.

They run in a process of their own under a memory limit, so a crash or a leak fails the test and
not the suite.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="peak memory is read from Linux's /proc"
)

PROBE = """
import io, json, resource, sys, time, warnings
from pathlib import Path

resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
import numpy as np
from PIL import Image, ImageOps

from imaging.decode import decode_image
from imaging.errors import ImageError
from imaging.label_png import read_mask

def peak_mb():
    # Not ru_maxrss, which a child inherits from the process that started it.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

def as_pillow_sees(encoded):
    warnings.simplefilter("ignore")
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    image.load()
    pixels = np.asarray(image.convert({"P": "RGB", "1": "L"}.get(image.mode, image.mode)))
    return pixels.reshape(*pixels.shape[:2], -1)

for path in sorted(p for p in Path(sys.argv[1]).rglob("*") if p.is_file()):
    encoded = path.read_bytes()
    found = {"path": str(path.relative_to(sys.argv[1]))}
    began = time.process_time()
    try:
        pixels = decode_image(encoded, max_pixels=2**26).pixels_hwc
        found |= {"shape": pixels.shape, "dtype": str(pixels.dtype)}
    except ImageError as error:
        pixels = None
        found |= {"error": type(error).__name__, "text": str(error)}
    try:
        read_mask(encoded, max_pixels=2**26)
    except ImageError:
        pass
    found["seconds"] = time.process_time() - began
    found["peak_mb"] = peak_mb()
    if pixels is not None:
        expected = as_pillow_sees(encoded)
        if pixels.dtype == np.uint16 and expected.dtype == np.uint8:  # Pillow drops the depth
            pixels = pixels >> 8
        if pixels.shape[2] == 2 and expected.shape[2] == 4:  # and widens 16-bit grey + alpha
            pixels = pixels[:, :, [0, 0, 0, 1]]
        found["as_pillow"] = bool(np.array_equal(pixels, expected))
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def outcomes(shared_data, repository_root):
    run = subprocess.run(
        [sys.executable, "-c", PROBE, str(shared_data / "hostile")],
        capture_output=True,
        text=True,
        cwd=repository_root,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.shared
def test_each_gives_an_array_or_a_text_within_bounds(outcomes):
    assert len(outcomes) > 200
    assert max(outcome["peak_mb"] for outcome in outcomes) < 1024
    assert [o for o in outcomes if o["seconds"] > 2] == []
    assert all(len(o["text"]) > 20 for o in outcomes if "error" in o)


@pytest.mark.shared
def test_what_decodes_is_what_pillow_shows(outcomes):
    decoded = [outcome for outcome in outcomes if "shape" in outcome]
    assert len(decoded) > 90
    assert [o["path"] for o in decoded if not o["as_pillow"]] == []


@pytest.mark.shared
def test_valid_png_and_tiff_decode_and_damaged_ones_do_not(outcomes):
    error_of = {outcome["path"]: outcome.get("error") for outcome in outcomes}
    valid = [path for path in error_of if "exotic_valid/pngsuite" in path]
    assert len(valid) > 70
    assert [path for path in valid if error_of[path]] == []
    assert error_of["image_malformed/truncated_image.png"] == "BrokenImage"
    assert error_of["image_malformed/truncated_end_chunk.png"] == "BrokenImage"
    assert error_of["generated/bitflip_idat.png"] == "BrokenImage"
    assert error_of["generated/ihdr_max_dims.png"] == "ImageTooLarge"
    assert all(error_of[path] for path in error_of if "fuzz_png" in path)


@pytest.mark.shared
def test_16_bit_rgb_keeps_its_depth(outcomes):
    by_path = {outcome["path"]: outcome for outcome in outcomes}
    for name in ("pngsuite_basi2c16.png", "tiff_tiled_planar_16bit_RGB.tiff"):
        assert by_path[f"image_exotic_valid/{name}"]["dtype"] == "uint16"

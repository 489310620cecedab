"""Every image and mask is read once before training, so that nothing stops it halfway."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from contract.errors import DataError, ImageError
from imaging.decode import read_image
from training.data.case import Case
from training.data.findings import Finding
from training.data.masks import read_stored_mask, value_counts

# Limits what a broken header can ask for; far above any image that a training set holds.
MAX_PIXELS = 1 << 28
ROTATED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap height and width
LINE_EVERY_S = 10.0

T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """What one case turned out to be; None where its file could not be read.

    ``values``: per mask file, how many pixels hold each stored value.
    """

    size_hw: tuple[int, int] | None
    channels: int
    values: tuple[dict[int, int] | None, ...]
    findings: tuple[Finding, ...]


def look_at_all(cases: Sequence[Case], *, progress: bool) -> list[Seen]:
    """Read every file of every case, in threads (the decoders release the GIL)."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        seen = pool.map(look_at, cases)
        return list(_shown(seen, len(cases)) if progress else seen)


def look_at(case: Case) -> Seen:
    """Decode the image and the mask(s) of one case and note every fault."""
    findings: list[Finding] = []
    size_hw, channels, rotated = None, 0, False
    image = _tried(
        lambda: read_image(case.image, max_pixels=MAX_PIXELS), case.image, findings, "image"
    )
    if image is not None:
        pixels: NDArray[np.generic] = image.pixels_hwc
        size_hw = (pixels.shape[0], pixels.shape[1])
        rotated = image.header.orientation in ROTATED
        channels = _meaningful_channels(pixels)
    names = [None] if isinstance(case.mask, Path) else list(case.mask)
    values: list[dict[int, int] | None] = []
    for name, path in zip(names, case.mask_files, strict=True):
        stored = _tried(lambda n=name: read_stored_mask(case, n), path, findings, "mask")  # type: ignore[misc]
        values.append(None if stored is None else value_counts(stored))
        if stored is not None and size_hw is not None and stored.shape != size_hw:
            findings.append(_size_mismatch(path, stored.shape, size_hw, rotated))
    return Seen(size_hw, channels, tuple(values), tuple(findings))


def _tried(read: Callable[[], T], path: Path, findings: list[Finding], what: str) -> T | None:
    try:
        return read()
    except DataError as error:
        remedy = "store one class index (0, 1, 2, …) per pixel in a single-channel PNG"
        findings.append(Finding(path, str(error), remedy))
    except (ImageError, OSError) as error:
        remedy = f"save it again as PNG or TIFF, or take the {what} out"
        reason = str(error).removeprefix(f"{path}: ")
        findings.append(Finding(path, f"unreadable {what}: {reason}", remedy))
    return None


def _meaningful_channels(pixels_hwc: NDArray[np.generic]) -> int:
    """Return the channels that carry content: a constant alpha (2nd or 4th channel) does not."""
    channels = int(pixels_hwc.shape[2])
    if channels in (2, 4):
        alpha = pixels_hwc[..., -1]
        if alpha.size and bool((alpha == alpha[0, 0]).all()):
            return channels - 1
    return channels


def _size_mismatch(
    path: Path, mask_hw: tuple[int, ...], image_hw: tuple[int, int], rotated: bool
) -> Finding:
    found = f"{mask_hw[0]} x {mask_hw[1]} (H x W), but its image is {image_hw[0]} x {image_hw[1]}"
    if rotated and mask_hw == image_hw[::-1]:
        return Finding(
            path,
            f"{found} as a viewer shows it: the image carries an EXIF orientation",
            "turn the mask as the image is shown, or save the image upright without EXIF",
        )
    return Finding(path, found, "make both the same size (masks: nearest neighbour)")


def _shown(seen: Iterator[Seen], total: int) -> Iterator[Seen]:
    """Show progress: a bar on a terminal, else a plain line now and then."""
    if sys.stderr.isatty():
        yield from tqdm(seen, total=total, desc="checking images", unit="image")
        return
    last = time.monotonic()
    for count, item in enumerate(seen, start=1):
        if time.monotonic() - last > LINE_EVERY_S:
            last = time.monotonic()
            print(f"checking images: {count} of {total}", file=sys.stderr, flush=True)
        yield item

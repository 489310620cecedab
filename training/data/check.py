"""Every image and mask is read once before training, so that nothing stops it halfway."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from tqdm import tqdm

from contract.errors import DataError, ImageError
from imaging.decode import read_image
from training.data.case import Case
from training.data.findings import Finding, Kind
from training.data.glance import Glance, glance_at
from training.data.masks import ColourMask, read_stored_mask, value_counts

# Limits what a broken header can ask for; far above any image that a training set holds.
MAX_PIXELS = 1 << 28
ROTATED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap height and width
LINE_EVERY_S = 10.0
INDICES = (
    "store one class index (0, 1, 2, …) per pixel in a single-channel PNG; doctor --write-spec "
    "proposes which, and converts"
)

T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """What one case turned out to be; None where its file could not be read.

    ``values``: per mask file, how many pixels hold each stored value.
    """

    size_hw: tuple[int, int] | None
    glance: Glance | None
    values: tuple[dict[int, int] | None, ...]
    findings: tuple[Finding, ...]

    @property
    def channels(self) -> int:
        """The image's channels that carry content; 0 where it could not be read."""
        return self.glance.channels if self.glance is not None else 0


def look_at_all(cases: Sequence[Case], *, progress: bool) -> list[Seen]:
    """Read every file of every case, in threads (the decoders release the GIL)."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        seen = pool.map(look_at, cases)
        return list(shown(seen, len(cases), "checking images") if progress else seen)


def look_at(case: Case) -> Seen:
    """Decode the image and the mask(s) of one case and note every fault."""
    findings: list[Finding] = []
    size_hw, glance, rotated = None, None, False
    image = _tried(
        lambda: read_image(case.image, max_pixels=MAX_PIXELS), case.image, findings, "image"
    )
    if image is not None:
        size_hw = (image.pixels_hwc.shape[0], image.pixels_hwc.shape[1])
        rotated = image.header.orientation in ROTATED
        glance = glance_at(image)
    names = [None] if isinstance(case.mask, Path) else list(case.mask)
    values: list[dict[int, int] | None] = []
    for name, path in zip(names, case.mask_files, strict=True):
        stored = _tried(lambda n=name: read_stored_mask(case, n), path, findings, "mask")  # type: ignore[misc]
        values.append(None if stored is None else value_counts(stored))
        if stored is not None and size_hw is not None and stored.shape != size_hw:
            findings.append(_size_mismatch(path, stored.shape, size_hw, rotated))
    return Seen(size_hw, glance, tuple(values), tuple(findings))


def _tried(
    read: Callable[[], T], path: Path, findings: list[Finding], what: Literal["image", "mask"]
) -> T | None:
    try:
        return read()
    except DataError as error:
        kind: Kind = "colour-mask" if isinstance(error, ColourMask) else "mask-type"
        findings.append(Finding(path, kind, "not one class index per pixel", INDICES, str(error)))
    except (ImageError, OSError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        if what == "mask" and is_jpeg(path):
            findings.append(Finding(path, "jpeg-mask", "unreadable mask", INDICES, reason))
        else:
            remedy = f"save it again as PNG or TIFF, or take the {what} out"
            kind = "unreadable-image" if what == "image" else "unreadable-mask"
            findings.append(Finding(path, kind, f"unreadable {what}", remedy, reason))
    return None


def is_jpeg(path: Path) -> bool:
    """Tell by a file's first bytes, whatever its name; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(3) == b"\xff\xd8\xff"
    except OSError:
        return False


def _size_mismatch(
    path: Path, mask_hw: tuple[int, ...], image_hw: tuple[int, int], rotated: bool
) -> Finding:
    detail = f"{mask_hw[0]} x {mask_hw[1]} (H x W), but its image is {image_hw[0]} x {image_hw[1]}"
    if rotated and mask_hw == image_hw[::-1]:
        return Finding(
            path,
            "turned-mask",
            "a mask that lies on its side: the image carries an EXIF orientation",
            "turn the mask as the image is shown, or save the image upright without EXIF",
            f"{detail} as a viewer shows it",
        )
    remedy = "make both the same size (masks: nearest neighbour)"
    return Finding(path, "size-mismatch", "not the size of its image", remedy, detail)


def shown(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Show progress: a bar on a terminal, else a plain line now and then."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, unit="image")
        return
    last = time.monotonic()
    for count, item in enumerate(items, start=1):
        if time.monotonic() - last > LINE_EVERY_S:
            last = time.monotonic()
            print(f"{what}: {count} of {total}", file=sys.stderr, flush=True)
        yield item

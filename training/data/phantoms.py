"""Made-up micrographs with their truth, for the demo and for tests; nothing is downloaded.

Cells are bright ellipses with a wavy outline, a brighter thin wall and a nucleus. They touch, with
gaps of a pixel or two between them; the light is uneven, and unsharp ghosts of cells are not
cells. Where the outline runs is told by fine detail only, which is what long skips carry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray

from contract.errors import DataError
from training.data.spec import SPEC_FILE, default_colour

CLASS_NAMES = ("background", "cell", "nucleus", "wall")
PhantomClasses = Literal[2, 3, 4]
Bits = Literal[8, 16]

CELL, NUCLEUS, WALL = 1, 2, 3
RADIUS_PX = (8.0, 20.0)
WALL_PX = 2.0
AREA_PER_CELL_PX = 900
# Darkest and brightest of 16-bit pictures: scientific cameras use part of the range.
LEVELS_16_BIT = (400, 9000)


@dataclass(frozen=True)
class Phantom:
    """A picture, float32 ``[H, W]`` in 0..1, and its truth, uint8 ``[H, W]`` class indices."""

    image_hw: NDArray[np.float32]
    labels_hw: NDArray[np.uint8]


def draw_phantom(
    rng: np.random.Generator, size_hw: tuple[int, int], classes: PhantomClasses = 2
) -> Phantom:
    """Draw one picture; the same generator state gives the same picture.

    Args:
        rng: the only source of chance.
        size_hw: height and width in pixels.
        classes: 2: background and cell; 3: the nucleus apart; 4: the wall too.
    """
    height, width = size_hw
    parts = np.zeros(size_hw, dtype=np.uint8)
    light = np.zeros(size_hw, dtype=np.float32)
    for _ in range(max(2, round(height * width / AREA_PER_CELL_PX))):
        _add_cell(parts, light, rng)
    ghosts = np.zeros(size_hw, dtype=np.float32)
    for _ in range(max(1, height * width // 8000)):
        _add_cell(np.zeros(size_hw, dtype=np.uint8), ghosts, rng)
    light += 0.5 * cv2.GaussianBlur(ghosts, (0, 0), 6.0)
    light = cv2.GaussianBlur(light, (0, 0), 0.8)
    haze = _smooth(rng, size_hw, 24.0) * 0.06 + 0.12
    uneven = 1.0 + 0.35 * _smooth(rng, size_hw, max(height, width) / 3)
    image = (light * rng.uniform(0.6, 1.0) + haze) * uneven
    grain = rng.standard_normal(size_hw, dtype=np.float32)
    image = image + grain * (0.02 + 0.05 * np.sqrt(np.clip(image, 0, None)))
    lookup = np.array([0, 1, 2 if classes > 2 else 1, 3 if classes > 3 else 1], dtype=np.uint8)
    return Phantom(np.clip(image, 0, 1).astype(np.float32), lookup[parts])


def write_phantoms(
    folder: Path,
    *,
    count: int,
    size_hw: tuple[int, int],
    seed: int,
    classes: PhantomClasses = 2,
    bits: Bits = 8,
    on_written: Callable[[int], object] | None = None,
) -> None:
    """Write a data set of phantoms: ``images/``, ``masks/`` and dataset.yaml.

    The same arguments give the same bytes, and more images leave the first ones as they are.

    Args:
        folder: made where it is missing.
        count: number of pictures.
        size_hw: of each, in pixels.
        seed: of all of them.
        classes: as in ``draw_phantom``.
        bits: 8 writes PNG, 16 writes TIFF.
        on_written: is called with the number of pictures written so far.

    Raises:
        DataError: ``folder`` already holds other images.
        ValueError: a count or size below 1.
    """
    if count < 1 or min(size_hw) < 1:
        raise ValueError(f"count and size must be >= 1, got {count} and {size_hw}")
    suffix = ".png" if bits == 8 else ".tiff"
    stems = [f"phantom{index:04d}" for index in range(count)]
    _refuse_others(folder, {stem + suffix for stem in stems})
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, stem in enumerate(stems):
        phantom = draw_phantom(np.random.default_rng((seed, index)), size_hw, classes)
        _write_image(folder / "images" / (stem + suffix), phantom.image_hw)
        _write_png(folder / "masks" / f"{stem}.png", phantom.labels_hw)
        if on_written is not None:
            on_written(index + 1)
    named = [
        {"name": name, "colour": list(default_colour(index))}
        for index, name in enumerate(CLASS_NAMES[:classes])
    ]
    description = f"{count} phantoms, seed {seed}; made by Longskip, not real images"
    spec = {"classes": named, "licence": "CC0-1.0", "description": description}
    (folder / SPEC_FILE).write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")


def _add_cell(
    parts: NDArray[np.uint8], light: NDArray[np.float32], rng: np.random.Generator
) -> None:
    """Add a cell where there is none yet; its neighbour keeps a gap of one pixel."""
    height, width = parts.shape
    centre_y, centre_x = rng.uniform(0, height), rng.uniform(0, width)
    radius = rng.uniform(*RADIUS_PX)
    stretch, turn = rng.uniform(0.7, 1.0), rng.uniform(0, np.pi)
    waves = [(k, rng.uniform(0, 0.25) / k, rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5, 8, 13)]
    brightness = rng.uniform(0.25, 0.5)
    nucleus = rng.uniform(0.25, 0.45)
    reach = int(radius * 1.6) + 2
    top, left = max(0, int(centre_y) - reach), max(0, int(centre_x) - reach)
    window = (slice(top, int(centre_y) + reach + 1), slice(left, int(centre_x) + reach + 1))
    rows, columns = np.mgrid[window[0], window[1]]
    rows, columns = rows[: height - top, : width - left], columns[: height - top, : width - left]
    y, x = rows - centre_y, columns - centre_x
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    angle = np.arctan2(across, along)
    outline = 1 + sum(size * np.cos(k * angle + phase) for k, size, phase in waves)
    distance = np.hypot(along, across / stretch) / (radius * outline)  # 1 on the outline
    taken = cv2.dilate(np.minimum(parts[window], 1), np.ones((3, 3), dtype=np.uint8)) > 0
    inside = (distance < 1) & ~taken
    if inside.sum() < 0.5 * (distance < 1).sum():
        return  # mostly behind others: a sliver would not look like a cell
    wall = inside & (distance > 1 - WALL_PX / radius)
    core = inside & (distance < nucleus)
    parts[window][inside] = CELL
    parts[window][wall] = WALL
    parts[window][core] = NUCLEUS
    light[window][inside] += np.float32(brightness)
    light[window][wall] += np.float32(0.12)
    light[window][core] += np.float32(0.2)


def _smooth(
    rng: np.random.Generator, size_hw: tuple[int, int], sigma_px: float
) -> NDArray[np.float32]:
    """Return a smooth random field ``[H, W]`` within -1..1."""
    coarse_hw = [max(2, round(side / sigma_px) + 2) for side in size_hw]
    coarse = rng.uniform(-1, 1, size=coarse_hw).astype(np.float32)
    field: NDArray[np.float32] = cv2.resize(
        coarse, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_CUBIC
    )
    return np.clip(field, -1, 1)


def _write_image(path: Path, image_hw: NDArray[np.float32]) -> None:
    if path.suffix == ".png":
        _write_png(path, np.round(image_hw * 255).astype(np.uint8))
        return
    low, high = LEVELS_16_BIT
    levels = np.round(low + image_hw * (high - low)).astype(np.uint16)
    tifffile.imwrite(path, levels, photometric="minisblack", compression="zlib")


def _write_png(path: Path, pixels_hw: NDArray[np.uint8]) -> None:
    written, encoded = cv2.imencode(".png", pixels_hw)
    if not written:
        raise OSError(f"{path}: OpenCV could not encode a PNG of {pixels_hw.shape}")
    path.write_bytes(encoded.tobytes())


def _refuse_others(folder: Path, names: set[str]) -> None:
    images = folder / "images"
    others = sorted({p.name for p in images.iterdir()} - names) if images.is_dir() else []
    if others:
        raise DataError(
            f"{images} already holds {len(others)} other file(s), such as {others[0]}; phantoms "
            "would be mixed with them. Give an empty or a new folder."
        )

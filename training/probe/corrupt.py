"""Shifts of an image's intensities, each graded from 0 (as it is) to 1, at any bit depth.

An image's spread is the standard deviation of all of its intensities, its range what they span.
What comes out has the image's own type: rounded, and clipped to what that can hold, as a camera
would.
"""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contract.surface import Mask

MAX_NOISE = 1.0  # standard deviation, in spreads of the image
MAX_BLUR_PX = 4.0  # sigma
MAX_GAMMA = 4.0
LEAST_CONTRAST = 0.1  # that is left at strength 1
# The side of the smallest patch of background that makes a texture.
LEAST_PATCH_PX = 4

Pixels = NDArray[np.floating[Any]]
Corrupt = Callable[[Pixels, float, NDArray[np.int8], np.random.Generator], Pixels]


class NoTexture(ValueError):
    """An image shows no patch of background that a texture could be taken from."""


def corrupt(
    pixels_hwc: NDArray[np.generic],
    kind: str,
    strength: float,
    *,
    foreground_hw: Mask,
    known_hw: Mask,
    stem: str,
    seed: int,
) -> NDArray[np.generic]:
    """Return a shifted copy of an image, of its own type.

    The seed and the image's stem decide what is drawn; a stronger shift of the same kind draws
    the same, only more of it.

    Args:
        pixels_hwc: raw intensities ``[H, W, C]``.
        kind: a key of ``KINDS``.
        strength: 0 to 1; what it means stands at each kind.
        foreground_hw: True where the truth has any class, for ``texture``.
        known_hw: False where the truth is not known.
        stem: of the image.
        seed: of all images.

    Raises:
        NoTexture: ``texture`` found no patch of background.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be 0 to 1, got {strength}")
    if strength == 0 and kind != "texture":  # NoTexture does not depend on the strength
        return pixels_hwc
    random = np.random.default_rng((seed, zlib.crc32(stem.encode())))
    places = np.where(known_hw, foreground_hw.astype(np.int8), -1)
    shifted = KINDS[kind](pixels_hwc.astype(np.float64), strength, places, random)
    if np.issubdtype(pixels_hwc.dtype, np.integer):
        limits = np.iinfo(pixels_hwc.dtype)  # type: ignore[type-var]
        shifted = np.clip(np.rint(shifted), limits.min, limits.max)
    return shifted.astype(pixels_hwc.dtype)


def texture(
    pixels: Pixels, strength: float, places: NDArray[np.int8], random: np.random.Generator
) -> Pixels:
    """Blend every class with a texture of the background, of which it then has the share strength.

    After Kamath 2023, section 3: the task is harder the more the foreground's texture is that of
    the background; at strength 1 only seams show where it was. The texture is the largest square of
    known background, mirrored at its sides until it fills the image.
    """
    patch = background_patch(places == 0)
    height, width = places.shape
    tile = pixels[patch]
    rows, columns = (
        _mirrored(length, tile.shape[axis]) for axis, length in ((0, height), (1, width))
    )
    filled = tile[rows[:, None], columns[None, :]]
    share = strength * (places == 1)[..., None]
    blended: Pixels = (1 - share) * pixels + share * filled
    return blended


def noise(
    pixels: Pixels, strength: float, places: NDArray[np.int8], random: np.random.Generator
) -> Pixels:
    """Add Gaussian noise of strength × ``MAX_NOISE`` spreads, each channel its own."""
    drawn = random.standard_normal(pixels.shape)
    noisy: Pixels = pixels + strength * MAX_NOISE * pixels.std() * drawn
    return noisy


def blur(
    pixels: Pixels, strength: float, places: NDArray[np.int8], random: np.random.Generator
) -> Pixels:
    """Blur by a Gaussian of sigma strength × ``MAX_BLUR_PX`` pixels."""
    sigma_px = strength * MAX_BLUR_PX
    blurred: Pixels = ndimage.gaussian_filter(pixels, (sigma_px, sigma_px, 0), mode="nearest")
    return blurred


def gamma(
    pixels: Pixels, strength: float, places: NDArray[np.int8], random: np.random.Generator
) -> Pixels:
    """Raise intensities, as shares of the range, to the power ``MAX_GAMMA`` ^ strength: darker."""
    low, high = pixels.min(), pixels.max()
    if not high > low:
        return pixels
    bent: Pixels = low + (high - low) * ((pixels - low) / (high - low)) ** (MAX_GAMMA**strength)
    return bent


def contrast(
    pixels: Pixels, strength: float, places: NDArray[np.int8], random: np.random.Generator
) -> Pixels:
    """Draw intensities towards their mean; at strength 1 ``LEAST_CONTRAST`` of it is left.

    A net that normalises by the image's own statistics undoes this up to rounding.
    """
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    paler: Pixels = mean + (1 - (1 - LEAST_CONTRAST) * strength) * (pixels - mean)
    return paler


KINDS: dict[str, Corrupt] = {
    "texture": texture,
    "noise": noise,
    "blur": blur,
    "gamma": gamma,
    "contrast": contrast,
}
UNITS = {
    "texture": "share of background texture in the foreground",
    "noise": "standard deviation, times the image's own",
    "blur": f"sigma, times {MAX_BLUR_PX:g} px",
    "gamma": f"gamma is {MAX_GAMMA:g} to the power of this",
    "contrast": f"contrast taken away, times {1 - LEAST_CONTRAST:g}",
}


def background_patch(background_hw: Mask) -> tuple[slice, slice]:
    """Return the largest square that is all background.

    Raises:
        NoTexture: there is none of ``LEAST_PATCH_PX``.
    """
    # Beyond the image there is no background, so the square stays within it.
    framed = np.pad(background_hw, 1)
    reach = ndimage.distance_transform_cdt(framed, metric="chessboard")
    y, x = np.unravel_index(int(reach.argmax()), reach.shape)
    half = int(reach[y, x]) - 1
    if 2 * half + 1 < LEAST_PATCH_PX:
        raise NoTexture(f"no square of {LEAST_PATCH_PX} px of background")
    top, left = int(y) - 1 - half, int(x) - 1 - half
    return slice(top, top + 2 * half + 1), slice(left, left + 2 * half + 1)


def _mirrored(length: int, tile: int) -> NDArray[np.intp]:
    """Return indices 0 … tile-1, tile-1 … 0, 0 … up to ``length``."""
    place = np.arange(length) % (2 * tile)
    return np.where(place < tile, place, 2 * tile - 1 - place)

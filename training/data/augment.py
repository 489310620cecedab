"""Seeded augmentation; the only file that knows albumentations.

Intensities. The net sees (x - mean) / std with the mean and std of the *whole image*, in training
as in serving, so a patch travels with them. Three kinds of change follow from that:

- What another camera or stain would do to the whole image (inversion, gamma, colour) alters the
  patch, and the statistics become those of the whole image altered likewise. They are told from
  ``overview``, a fixed sample of the image's pixels that goes through the very same functions; for
  affine functions they come out exact.
- Brightness and contrast would cancel in the z-score if the statistics followed. They do not
  follow: what is taught is that the mean and std of an image depend on what else is in it.
- Noise widens the statistics by its own variance; blur leaves them.

All of it runs in float32 on the image's own range 0..1, so 8-bit, 16-bit and dim images are
treated alike and nothing is clipped or rounded.
"""

import os

# It looks for a newer version online when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import math
import random
from dataclasses import dataclass

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.overview import Overview, follow, overview_of
from training.data.recipe import AugmentConfig, Kind, Recipe
from training.data.warp import Placement, cut_image, cut_mask, place

__all__ = ["Augment", "AugmentConfig", "Kind", "Overview", "Recipe", "build_augment", "overview_of"]

ROTATED_SHARE = 0.35
ELASTIC_SIGMA_PX = 8.0
ELASTIC_ALPHA_PX = 60.0


@dataclass(frozen=True)
class AugmentedPatch:
    """Image float32 ``[C, h, w]`` raw, statistics ``[C, 2]``, mask ``[h, w]`` (``[h, w, K]``)."""

    image_chw: NDArray[np.float32]
    statistics: NDArray[np.float32]
    mask: NDArray[np.uint8]


def build_augment(
    config: AugmentConfig,
    patch_hw: tuple[int, int],
    *,
    channels: int,
    class_names: tuple[str, ...] = (),
    whole: bool = False,
) -> "Augment":
    """Build the augmentation of a training set.

    Args:
        config: kind, strength and single switches.
        patch_hw: size of what comes out, in pixels.
        channels: of the images; colour changes happen at 3 only.
        class_names: names after a body side turn mirroring off.
        whole: the whole image comes in at ``patch_hw`` already and is moved, not cropped.
    """
    recipe = config.recipe(class_names=class_names, channels=channels)
    return Augment(recipe, patch_hw, whole=whole)


class Augment:
    """Cuts one patch and alters it; equal generators give equal patches, bit for bit."""

    def __init__(self, recipe: Recipe, patch_hw: tuple[int, int], *, whole: bool = False) -> None:
        self.recipe = recipe
        self.patch_hw = patch_hw
        self.whole = whole
        self._geometry = A.Compose(_geometry(recipe, patch_hw))
        # The overview has another size than the patch.
        self._appearance = A.Compose(
            _appearance(recipe), additional_targets={"overview": "image"}, is_check_shapes=False
        )
        blurred = recipe.blur_probability
        self._blur = A.Compose(
            [A.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 1.5), p=blurred)] if blurred else []
        )

    def __call__(
        self,
        image_hwc: NDArray[np.generic],
        mask: NDArray[np.uint8],
        overview: Overview,
        rng: np.random.Generator,
        *,
        around_yx: tuple[int, int] | None = None,
    ) -> AugmentedPatch:
        """Return an altered patch of ``image_hwc`` ``[H, W, C]`` and ``mask``.

        Args:
            image_hwc: the whole image, raw.
            mask: ``[H, W]`` class indices, or ``[H, W, K]`` of 0/1; 255 is ignored.
            overview: of the same image.
            rng: the only source of chance.
            around_yx: a pixel to have near the middle.
        """
        for pipeline in (self._geometry, self._appearance, self._blur):
            pipeline.set_random_state(rng, random.Random(int(rng.integers(1 << 62))))
        image, mask = self._cut(image_hwc, mask, rng, around_yx)
        moved = self._geometry(image=image, mask=mask)
        image, mask = _channels_last(moved["image"]), moved["mask"]
        image, statistics = self._appear(image, overview)
        # Channels first from here: arithmetic per channel is five times as fast.
        planes = np.ascontiguousarray(image.transpose(2, 0, 1))
        statistics = self._add_noise(planes, statistics, rng)
        self._shift(planes, statistics, rng)
        return AugmentedPatch(planes, statistics.astype(np.float32), np.ascontiguousarray(mask))

    def _cut(
        self,
        image_hwc: NDArray[np.generic],
        mask: NDArray[np.uint8],
        rng: np.random.Generator,
        around_yx: tuple[int, int] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        low, high = self.recipe.scale
        scale = math.exp(rng.uniform(math.log(low), math.log(high))) if low < high else low
        turned = self.recipe.rotation_deg > 0 and rng.random() < ROTATED_SHARE
        angle = rng.uniform(-1, 1) * self.recipe.rotation_deg if turned else 0.0
        height, width = image_hwc.shape[:2]
        if self.whole:
            shift_y, shift_x = rng.uniform(-1, 1, size=2) * self.recipe.shift
            middle = ((height - 1) / 2 + shift_y * height, (width - 1) / 2 + shift_x * width)
            placement = Placement(middle, scale, angle, self.patch_hw)
        else:
            placement = place(
                rng,
                (height, width),
                self.patch_hw,
                scale=scale,
                rotation_deg=angle,
                around_yx=around_yx,
            )
        return cut_image(image_hwc, placement), cut_mask(mask, placement)

    def _appear(
        self, image: NDArray[np.float32], overview: Overview
    ) -> tuple[NDArray[np.float32], NDArray[np.floating]]:
        """Change patch and statistics as another camera or stain would."""
        extent = overview.high - overview.low
        # A constant image has no range to work in.
        if extent <= 0 or not (self._appearance.transforms or self._blur.transforms):
            return image, overview.statistics
        low = np.array([overview.low, 0.0])
        # In the range 0..1, because albumentations clips float images to it. Bilinear weights in
        # float32 may leave the range by a rounding error.
        unit = np.clip((image - np.float32(overview.low)) * np.float32(1 / extent), 0.0, 1.0)
        sample = (overview.pixels_hwc - np.float32(overview.low)) * np.float32(1 / extent)
        seen = self._appearance(image=unit, overview=sample)
        altered = self._blur(image=seen["image"])["image"]
        if altered is unit:
            return image, overview.statistics
        image = _channels_last(altered) * np.float32(extent) + np.float32(overview.low)
        if seen["overview"] is sample:
            return image, overview.statistics
        before = (overview.statistics - low) / extent
        after = follow(before, sample, _channels_last(seen["overview"]))
        return image, after * extent + low

    def _add_noise(
        self,
        image_chw: NDArray[np.float32],
        statistics: NDArray[np.floating],
        rng: np.random.Generator,
    ) -> NDArray[np.floating]:
        """Add noise in place; return the statistics that it widens."""
        if self.recipe.noise == 0 or rng.random() >= self.recipe.noise_probability:
            return statistics
        sigma = rng.uniform(0, self.recipe.noise) * statistics[:, 1]  # [C], raw units
        for plane, width in zip(image_chw, sigma, strict=True):
            plane += rng.standard_normal(plane.shape, dtype=np.float32) * np.float32(width)
        return np.stack([statistics[:, 0], np.hypot(statistics[:, 1], sigma)], axis=1)

    def _shift(
        self,
        image_chw: NDArray[np.float32],
        statistics: NDArray[np.floating],
        rng: np.random.Generator,
    ) -> None:
        """Alter brightness and contrast in place, in deviations about each channel's mean."""
        if self.recipe.brightness == 0 and self.recipe.contrast == 0:
            return
        gain = math.exp(rng.uniform(-1, 1) * self.recipe.contrast)
        shift = rng.uniform(-1, 1) * self.recipe.brightness
        for plane, (mean, std) in zip(image_chw, statistics, strict=True):
            plane *= np.float32(gain)
            plane += np.float32(mean * (1 - gain) + shift * std)


def _channels_last(image: NDArray[np.float32]) -> NDArray[np.float32]:
    # Some functions drop a single channel's axis.
    return image if image.ndim == 3 else image[..., None]


def _geometry(recipe: Recipe, patch_hw: tuple[int, int]) -> list[A.BasicTransform]:
    square = patch_hw[0] == patch_hw[1]
    steps: list[A.BasicTransform] = []
    if recipe.flip_horizontal:
        steps.append(A.HorizontalFlip(p=0.5))
    if recipe.flip_vertical:
        steps.append(A.VerticalFlip(p=0.5))
    if recipe.rotate90 and square:
        steps.append(A.RandomRotate90(p=1.0))
    if recipe.elastic_probability > 0:
        steps.append(
            A.ElasticTransform(
                alpha=ELASTIC_ALPHA_PX,
                sigma=ELASTIC_SIGMA_PX,
                border_mode=cv2.BORDER_REFLECT_101,
                p=recipe.elastic_probability,
            )
        )
    return steps


def _appearance(recipe: Recipe) -> list[A.BasicTransform]:
    steps: list[A.BasicTransform] = []
    if recipe.grey_probability > 0:
        steps.append(A.ToGray(num_output_channels=3, p=recipe.grey_probability))
    if recipe.colour_probability > 0:
        steps.append(
            A.ColorJitter(
                brightness=(1.0, 1.0),
                contrast=(1.0, 1.0),
                saturation=(0.6, 1.4),
                hue=(-0.08, 0.08),
                p=recipe.colour_probability,
            )
        )
    if recipe.invert_probability > 0:
        steps.append(A.InvertImg(p=recipe.invert_probability))
    if recipe.gamma > 0:
        limits = (100 * math.exp(-recipe.gamma), 100 * math.exp(recipe.gamma))
        steps.append(A.RandomGamma(gamma_limit=limits, p=0.5))
    return steps

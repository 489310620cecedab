"""Plans for small sets that are unlike those that the rules were made on, from real files."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from training.data.config import DataConfig
from training.data.folder import open_folder
from training.plan.rules import Choice
from training.plan.settings import look

Make = Callable[[int], tuple[np.ndarray, np.ndarray]]
RNG = np.random.default_rng(0)


def discs(size_hw: tuple[int, int], count: int, radius_px: int, value: int = 1) -> np.ndarray:
    mask = np.zeros(size_hw, np.uint8)
    for y, x in RNG.integers(0, size_hw, (count, 2)):
        cv2.circle(mask, (int(x), int(y)), radius_px, value, -1)
    return mask


def sparse_16_bit(index: int) -> tuple[np.ndarray, np.ndarray]:
    mask = discs((200, 240), 5, 2)
    image = RNG.normal(900, 60, (200, 240, 3))
    image[mask == 1] += 3000
    return image.astype(np.uint16), mask


def rare_class(index: int) -> tuple[np.ndarray, np.ndarray]:
    mask = discs((96, 96), 4, 9)
    if index == 3:
        mask[40:50, 40:50] = 2
    return np.clip(RNG.normal(80, 10, (96, 96)) + 60 * mask, 0, 255).astype(np.uint8), mask


def one_wide(index: int) -> tuple[np.ndarray, np.ndarray]:
    size = (600, 2000) if index == 0 else (200, 240)
    mask = discs(size, 6, 20)
    return np.clip(RNG.normal(120, 20, size) - 60 * mask, 0, 255).astype(np.uint8), mask


def opaque(index: int) -> tuple[np.ndarray, np.ndarray]:
    mask = discs((180, 240), 6, 14)
    image = np.full((180, 240, 4), 255, np.uint8)
    image[..., :3] -= (60 * mask + RNG.integers(0, 20, mask.shape, dtype=np.uint8))[..., None]
    return image, mask


def planned(root: Path, make: Make, images: int, suffix: str = ".png") -> dict[str, Choice]:
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for index in range(images):
        image, mask = make(index)
        assert cv2.imwrite(str(root / "images" / f"{index:02}{suffix}"), image)
        assert cv2.imwrite(str(root / "masks" / f"{index:02}.png"), mask)
    situation = look({"trainer.accelerator": "cpu"}, DataConfig(root=str(root)))
    return {choice.option: choice for choice in situation.choices()}


def test_tiny_sparse_objects_in_16_bits_are_sought(tmp_path: Path) -> None:
    choices = planned(tmp_path, sparse_16_bit, 8, ".tif")
    assert choices["normalising"].value == "image"
    assert choices["data.foreground_fraction"].value == 0.5
    assert choices["loss.class_weights"].value == "balanced"
    assert choices["data.rare_share"].value == 0


def test_three_images_make_an_epoch(tmp_path: Path) -> None:
    choices = planned(tmp_path, opaque, 3)
    assert choices["data.patches_per_image"].value >= choices["data.batch_size"].value
    assert choices["data.rare_share"].value == 0


def test_a_nearly_empty_class_is_named(tmp_path: Path) -> None:
    choices = planned(tmp_path, rare_class, 12)
    assert choices["data.rare_share"].value == 0.25
    assert "class 2 is in 1 of 12 images" in choices["data.rare_share"].reason


def test_one_wide_image_among_small_ones_is_drawn_more_often(tmp_path: Path) -> None:
    choices = planned(tmp_path, one_wide, 10)
    assert choices["data.area_power"].value == 0.5
    assert choices["data.area_power"].reason.startswith("the largest image has 25 times")


def test_an_opaque_alpha_is_no_channel(tmp_path: Path) -> None:
    choices = planned(tmp_path, opaque, 10)
    assert open_folder(tmp_path, progress=False).channels == 3
    assert choices["data.area_power"].value == choices["data.rare_share"].value == 0

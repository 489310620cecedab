"""Copies that were changed are found; images that are only of one kind are not."""

import cv2
import numpy as np
import pytest

from training.data.phantoms import write_phantoms
from training.doctor.duplicates import TURNS
from training.doctor.examination import examine

A, NEW = "phantom0002", "phantom9999"


def add_copy(root, read, save, change, *, mask_change=lambda m: m) -> None:
    save(root / "images" / f"{NEW}.png", change(read(root / "images" / f"{A}.png")))
    save(root / "masks" / f"{NEW}.png", mask_change(read(root / "masks" / f"{A}.png")))


def jpeg(quality):
    def change(image):
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)

    return change


def test_an_exact_copy(broken, read, save):
    add_copy(broken, read, save, lambda image: image)
    (finding,) = examine(broken, progress=False).findings
    assert (finding.severity, finding.kind) == ("warning", "duplicate")
    assert finding.where.name == f"{NEW}.png"
    assert [path.name for path in finding.others] == [f"{A}.png"]
    assert finding.detail == f"as images/{A}.png; Dice of the masks 1.000"


def test_the_same_pixels_stored_as_colour_are_the_same_picture(broken, read, save):
    def as_rgba(image):
        return np.dstack([image, image, image, np.full_like(image, 255)])

    add_copy(broken, read, save, as_rgba)
    kinds = {f.kind for f in examine(broken, progress=False).findings}
    assert "duplicate" in kinds


def test_annotation_noise_is_a_dice(broken, read, save):
    def moved(mask):
        return np.roll(mask, 2, axis=1)

    add_copy(broken, read, save, lambda image: image, mask_change=moved)
    mask = read(broken / "masks" / f"{A}.png")
    dice = 2 * (mask & moved(mask)).sum() / (2 * mask.sum())
    duplicate, noise = examine(broken, progress=False).findings
    assert (duplicate.kind, noise.kind) == ("duplicate", "annotation-noise")
    assert noise.severity == "warning"
    assert noise.detail == f"Dice {dice:.3f} with masks/{A}.png"
    assert noise.where.name == f"{NEW}.png"


@pytest.mark.parametrize(
    "change",
    [
        jpeg(90),
        jpeg(60),
        lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=20),
        lambda image: cv2.GaussianBlur(image, (0, 0), 0.8),
    ],
    ids=["jpeg 90", "jpeg 60", "dimmer", "blurred"],
)
def test_a_changed_copy_is_nearly_the_same(broken, read, save, change):
    add_copy(broken, read, save, change)
    (finding,) = examine(broken, progress=False).findings
    assert (finding.severity, finding.kind) == ("warning", "near-duplicate")
    assert f"with images/{A}.png; Dice of the masks 1.000" in finding.detail


def test_a_resized_copy(broken, read, save):
    def larger(pixels, how):
        return cv2.resize(pixels, None, fx=1.5, fy=1.5, interpolation=how)

    add_copy(
        broken,
        read,
        save,
        lambda image: larger(image, cv2.INTER_CUBIC),
        mask_change=lambda mask: larger(mask, cv2.INTER_NEAREST),
    )
    (finding,) = examine(broken, progress=False).findings
    assert finding.kind == "near-duplicate"
    assert float(finding.detail.split()[-1]) > 0.97


@pytest.mark.parametrize("turn", [name for name in TURNS if name])
def test_turned_and_mirrored_copies(broken, read, save, turn):
    def undo(pixels):
        back = {"turned by 90°": "turned by 270°", "turned by 270°": "turned by 90°"}
        return np.ascontiguousarray(TURNS[back.get(turn, turn)](pixels))

    add_copy(broken, read, save, undo, mask_change=undo)
    (finding,) = examine(broken, progress=False).findings
    assert finding.kind == "near-duplicate"
    assert finding.detail == (
        f"correlation 1.00 with images/{A}.png, {turn}; Dice of the masks 1.000"
    )


def test_sixty_pictures_of_one_kind_are_no_copies(tmp_path):
    write_phantoms(tmp_path, count=60, size_hw=(64, 64), seed=8)
    assert examine(tmp_path, progress=False).pairs == ()


def test_the_same_scale_bar_makes_no_copies(tmp_path, save):
    """It outshines the picture, but it is not the picture."""
    rng = np.random.default_rng(0)
    for index in range(20):
        picture = cv2.GaussianBlur(rng.normal(120, 60, (96, 96)), (0, 0), 2).astype(np.uint8)
        picture[80:84, 60:90] = 255
        save(tmp_path / "images" / f"{index}.png", picture)
        save(tmp_path / "masks" / f"{index}.png", (picture > 120).astype(np.uint8))
    assert examine(tmp_path, progress=False).pairs == ()

import numpy as np
import pytest

from contract.errors import DataError
from training.data.fingerprint import fingerprint, image_hash
from training.data.folder import load_image, open_folder


def test_sizes_counts_and_intensities(make_folder):
    dark, bright = np.full((10, 30), 10, np.uint8), np.full((20, 20), 200, np.uint8)
    dark[0, 0], bright[0, 0] = 11, 201
    masks = {"a.png": np.zeros((10, 30), np.uint8), "b.png": np.zeros((20, 20), np.uint8)}
    masks["b.png"][:10] = 1
    masks["a.png"][:5] = 9
    root = make_folder({"a.png": dark, "b.png": bright}, masks, "ignore: 9")
    dataset = open_folder(root, progress=False)
    seen = fingerprint(dataset, ["a", "b"])
    assert seen.images == 2
    assert seen.height_min_median_max == (10, 15, 20)
    assert seen.width_min_median_max == (20, 25, 30)
    assert seen.intensity_p01_p50_p99 == ((10.0, 200.0, 200.0),)
    assert seen.class_pixel_fraction == pytest.approx((350 / 550, 200 / 550))
    assert set(seen.image_hashes) == {image_hash(load_image(case, 1)) for case in dataset.cases}


def test_it_names_nobody(phantom_set):
    text = fingerprint(phantom_set, [case.stem for case in phantom_set.cases]).model_dump_json()
    assert "phantom0" not in text
    assert str(phantom_set.root) not in text


def test_it_is_the_same_every_time(phantom_set):
    stems = [case.stem for case in phantom_set.cases]
    assert fingerprint(phantom_set, stems) == fingerprint(phantom_set, stems)
    assert fingerprint(phantom_set, stems) != fingerprint(phantom_set, stems[:6])


def test_multilabel_fractions_are_per_class(make_folder):
    image = np.arange(100, dtype=np.uint8).reshape(10, 10)
    masks = {"a/x.png": (image < 80).astype(np.uint8), "a/y.png": (image < 50).astype(np.uint8)}
    dataset = open_folder(make_folder({"a.png": image}, masks, "task: multilabel"), progress=False)
    assert fingerprint(dataset, ["a"]).class_pixel_fraction == pytest.approx((0.8, 0.5))


def test_refusals(phantom_set):
    with pytest.raises(ValueError, match="at least one image"):
        fingerprint(phantom_set, [])
    with pytest.raises(DataError, match="nobody"):
        fingerprint(phantom_set, ["nobody"])


def test_hash_is_of_the_pixels_and_of_nothing_else():
    pixels = np.arange(24, dtype=np.uint16).reshape(2, 4, 3)
    known = image_hash(pixels)
    assert len(known) == 16
    assert int(known, 16) >= 0
    assert image_hash(np.asfortranarray(pixels)) == known
    assert image_hash(pixels.astype(">u2")) == known
    assert image_hash(pixels.astype(np.uint8)) != known
    assert image_hash(pixels.reshape(4, 2, 3)) != known
    assert image_hash(pixels + 1) != known

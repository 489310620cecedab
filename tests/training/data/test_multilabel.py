import numpy as np
import pytest

from contract.errors import DataError
from training.data.folder import load_mask, open_folder

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5)
HEART = (GREY > 9).astype(np.uint8)
LUNG = (GREY > 4).astype(np.uint8)
YAML = "task: multilabel\nclasses: [{name: lung}, {name: heart}]\n"


def refused(root) -> str:
    with pytest.raises(DataError) as error:
        open_folder(root, progress=False)
    return str(error.value)


def test_overlapping_classes_in_the_order_of_the_yaml(make_folder):
    masks = {"a/heart.png": HEART, "a/lung.png": LUNG}
    dataset = open_folder(make_folder({"a.png": GREY}, masks, YAML), progress=False)
    assert [c.name for c in dataset.classes] == ["lung", "heart"]
    np.testing.assert_array_equal(load_mask(dataset.cases[0], dataset.spec), [LUNG, HEART])
    assert dataset.facts["a"].class_pixels == (15, 10)


def test_classes_are_named_by_the_files(make_folder):
    masks = {"a/heart.png": HEART, "a/lung.png": LUNG}
    dataset = open_folder(make_folder({"a.png": GREY}, masks, "task: multilabel"), progress=False)
    assert [c.name for c in dataset.classes] == ["heart", "lung"]


def test_planes_of_0_and_255(make_folder):
    masks = {"a/heart.png": HEART * 255, "a/lung.png": LUNG * 255}
    root = make_folder({"a.png": GREY}, masks, YAML + "mask_map: {255: 1}")
    dataset = open_folder(root, progress=False)
    np.testing.assert_array_equal(load_mask(dataset.cases[0], dataset.spec), [LUNG, HEART])


def test_unmapped_plane(make_folder):
    masks = {"a/heart.png": HEART * 255, "a/lung.png": LUNG}
    message = refused(make_folder({"a.png": GREY}, masks, YAML))
    assert "masks/a/heart.png: mask values without a class: 255" in message


def test_missing_and_unknown_classes(make_folder):
    masks = {"a/lung.png": LUNG, "a/hart.png": HEART}
    message = refused(make_folder({"a.png": GREY}, masks, YAML))
    assert "no mask of class 'heart'" in message
    assert "unknown class 'hart'" in message


def test_one_plane_of_another_size(make_folder):
    masks = {"a/heart.png": HEART, "a/lung.png": LUNG[:2]}
    message = refused(make_folder({"a.png": GREY}, masks, YAML))
    assert "masks/a/lung.png: not the size of its image: 2 x 5" in message

"""What plan and doctor read off a data set, on pictures whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.folder import open_folder
from training.data.profile import atlas_dice, coarse_dice, profile, thickness_px


@pytest.mark.parametrize("width", [2, 4, 6, 10, 40])
def test_a_band_is_as_thick_as_it_is_wide(width):
    plane = np.zeros((100, 600), dtype=bool)
    plane[20 : 20 + width] = True
    assert thickness_px(plane) == pytest.approx(width, rel=0.02)


@pytest.mark.parametrize("width", [1, 3, 5, 9])
def test_an_odd_band_is_over_by_one_over_its_width(width):
    plane = np.zeros((100, 600), dtype=bool)
    plane[20 : 20 + width] = True
    assert thickness_px(plane) == pytest.approx(width + 1 / width, rel=0.02)


def test_a_disc_is_two_thirds_of_its_diameter_thick():
    y, x = np.mgrid[:201, :201]
    plane = (y - 100) ** 2 + (x - 100) ** 2 < 60**2
    assert thickness_px(plane) == pytest.approx(2 / 3 * 120, rel=0.03)


def fixed_masks(count: int) -> np.ndarray:
    """The same square left of the middle in every mask."""
    masks = np.zeros((count, 1, 32, 32), dtype=np.float32)
    masks[:, 0, 10:20, 2:10] = 1
    return masks


def test_place_tells_all_of_a_mask_that_never_moves():
    masks = fixed_masks(5)
    assert atlas_dice(masks, masks) == 1
    assert atlas_dice(masks, masks[..., ::-1]) == 0  # left is not right


def test_place_tells_nothing_of_masks_that_never_meet():
    masks = np.zeros((8, 1, 32, 32), dtype=np.float32)
    for index in range(8):
        masks[index, 0, :, 4 * index : 4 * index + 4] = 1
    assert atlas_dice(masks, masks) == 0  # and not the Dice of an image with itself


def test_one_image_says_nothing_about_place():
    masks = fixed_masks(1)
    assert atlas_dice(masks, masks) == 0


@given(st.integers(0, 2**32 - 1))
def test_coarse_dice_is_symmetric_and_one_for_equal_masks(seed):
    first, second = np.random.default_rng(seed).random((2, 3, 2, 4, 4)).astype(np.float32)
    assert coarse_dice(first, second) == pytest.approx(coarse_dice(second, first))
    assert coarse_dice(first, first) == pytest.approx(1)
    assert 0 <= coarse_dice(first, second) < 1


def test_sizes_shares_and_objects(make_folder):
    dark, bright = np.full((20, 40), 10, np.uint8), np.full((40, 40), 60, np.uint8)
    masks = {"a.png": np.zeros((20, 40), np.uint8), "b.png": np.zeros((40, 40), np.uint8)}
    masks["a.png"][2:6, 2:6] = 1
    masks["a.png"][2:6, 12:20] = 1
    masks["b.png"][0:20, 0:10] = 1
    dark[masks["a.png"] == 1] = 200
    dataset = open_folder(make_folder({"a.png": dark, "b.png": bright}, masks, ""), progress=False)
    seen = profile(dataset, ["a", "b"])
    assert (seen.images, seen.profiled, seen.channels, seen.bits) == (2, 2, 1, 8)
    assert seen.height_px == (20, 30, 40)
    assert seen.pixels == 2400
    assert seen.decoded_bytes == 4800  # a byte of image and one of mask
    assert seen.lowest == 10
    cell = seen.classes[0]
    assert cell.pixel_fraction == pytest.approx((16 + 32 + 200) / 2400)
    assert cell.images == 2
    assert cell.objects_per_image == 1.5
    assert cell.object_area_px is not None
    assert cell.object_area_px[1] == 32
    assert cell.extent == pytest.approx((8 / 40 + 20 / 40) / 2)
    assert seen.background_fraction == pytest.approx(1 - cell.pixel_fraction)
    assert seen.brighter_fraction == 0.5  # brighter in a, no brighter in b
    assert seen == profile(dataset, ["a", "b"])


def test_a_class_that_no_mask_holds_has_no_size(make_folder):
    mask = np.zeros((12, 12), np.uint8)
    mask[3:6, 3:6] = 1
    spec = "classes: [{name: background}, {name: cell}, {name: debris}]"
    dataset = open_folder(make_folder({"a.png": mask * 9}, {"a.png": mask}, spec), progress=False)
    debris = profile(dataset, ["a"]).classes[1]
    assert (debris.name, debris.images, debris.pixel_fraction) == ("debris", 0, 0)
    assert debris.width_px is debris.extent is debris.object_area_px is None


def test_slices_of_a_stack_are_more_alike_than_strangers(make_folder):
    images, masks = {}, {}
    for index in range(10):
        mask = np.zeros((64, 64), np.uint8)
        mask[10:30, 4 * index : 4 * index + 20] = 1  # drifts from slice to slice
        masks[f"z{index}.png"], images[f"z{index}.png"] = mask, mask * 50
    dataset = open_folder(make_folder(images, masks, ""), progress=False)
    seen = profile(dataset, [case.stem for case in dataset.cases])
    assert seen.neighbour_dice == pytest.approx(0.8)  # 16 of 20 columns
    assert seen.stranger_dice == pytest.approx(0, abs=0.01)  # five slices on: 20 columns off


def test_no_stems_are_refused(phantom_set):
    with pytest.raises(ValueError, match="at least one image"):
        profile(phantom_set, [])

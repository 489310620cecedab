import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.masks import IGNORE
from training.data.warp import Placement, cut_image, cut_mask, place


def noise(height: int, width: int, channels: int = 1, dtype=np.uint8) -> np.ndarray:
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels)).astype(dtype)


def middle(top: int, left: int, height: int, width: int, **changes) -> Placement:
    centre = (top + (height - 1) / 2, left + (width - 1) / 2)
    return Placement(centre, changes.get("scale", 1.0), changes.get("turn", 0.0), (height, width))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4, 7])
def test_unscaled_patch_is_an_exact_copy(dtype, channels):
    image = noise(40, 50, channels, dtype)
    patch = cut_image(image, middle(5, 8, 17, 22))
    assert patch.dtype == np.float32
    np.testing.assert_array_equal(patch, image[5:22, 8:30])


def test_mask_is_an_exact_copy_with_its_planes():
    mask = noise(40, 50, 6)
    np.testing.assert_array_equal(cut_mask(mask, middle(5, 8, 17, 22)), mask[5:22, 8:30])
    np.testing.assert_array_equal(cut_mask(mask[..., 0], middle(5, 8, 17, 22)), mask[5:22, 8:30, 0])


def test_beyond_the_edge_the_image_is_mirrored_and_the_mask_ignored():
    image, mask = noise(10, 12), noise(10, 12)[..., 0] % 2
    around = middle(-4, -3, 20, 20)
    mirrored = cv2.copyMakeBorder(image, 4, 6, 3, 5, cv2.BORDER_REFLECT_101)
    np.testing.assert_array_equal(cut_image(image, around)[..., 0], mirrored)
    expected = np.full((20, 20), IGNORE, np.uint8)
    expected[4:14, 3:15] = mask
    np.testing.assert_array_equal(cut_mask(mask, around), expected)


def test_mirroring_uses_the_true_edge_when_only_a_part_of_the_image_is_needed():
    image = noise(60, 60)
    for top, left in ((-7, 20), (50, 20), (20, -9), (20, 52), (-5, -6), (55, 51)):
        whole = cv2.copyMakeBorder(image, 30, 30, 30, 30, cv2.BORDER_REFLECT_101)
        expected = whole[top + 30 : top + 46, left + 30 : left + 46]
        np.testing.assert_array_equal(cut_image(image, middle(top, left, 16, 16))[..., 0], expected)


def test_a_single_pixel_fills_a_patch():
    patch = cut_image(np.full((1, 1, 1), 9, np.uint8), middle(-3, -3, 8, 8))
    np.testing.assert_array_equal(patch, np.full((8, 8, 1), 9, np.float32))


def test_half_scale_shows_twice_the_field():
    # A ramp stays a ramp under bilinear sampling; its slope tells the scale.
    ramp = np.tile(np.arange(100, dtype=np.float32), (100, 1))[..., None]
    patch = cut_image(ramp, middle(40, 40, 20, 20, scale=0.5))[..., 0]
    np.testing.assert_allclose(np.diff(patch, axis=1), 2.0, atol=1e-3)
    np.testing.assert_allclose(patch.mean(), 49.5, atol=1e-3)


def test_quarter_turn_turns():
    image = noise(31, 31)
    patch = cut_image(image, middle(0, 0, 31, 31, turn=90))
    np.testing.assert_allclose(patch, np.rot90(image), atol=0.05)


@settings(deadline=None)  # a loaded machine is no fault
@given(
    image_hw=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    patch_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    scale=st.floats(0.5, 2.0),
    seed=st.integers(0, 99),
)
def test_a_patch_stays_inside_where_it_fits(image_hw, patch_hw, scale, seed):
    rng = np.random.default_rng(seed)
    placed = place(rng, image_hw, patch_hw, scale=scale)
    for centre, patch, side in zip(placed.centre_yx, patch_hw, image_hw, strict=True):
        first, last = centre + 0.5 - patch / scale / 2, centre + 0.5 + patch / scale / 2
        if patch / scale <= side:
            assert first >= -1e-9
            assert last <= side + 1e-9
        else:  # the whole image is shown, but for a part of a pixel
            assert first <= 1e-9
            assert last >= side - 1


def test_random_places_reach_every_pixel():
    counts = np.zeros(10)
    for seed in range(400):
        placed = place(np.random.default_rng(seed), (10, 10), (4, 4))
        first = math.floor(placed.centre_yx[0] - 1.5)
        counts[first : first + 4] += 1
    assert counts.min() > 0


@settings(deadline=None)  # a loaded machine is no fault
@given(
    around=st.tuples(st.integers(0, 49), st.integers(0, 59)),
    scale=st.sampled_from([0.7, 1.0, 1.9]),
    seed=st.integers(0, 9),
)
def test_the_wanted_pixel_is_in_the_patch(around, scale, seed):
    mask = np.zeros((50, 60), np.uint8)
    mask[max(0, around[0] - 1) : around[0] + 2, max(0, around[1] - 1) : around[1] + 2] = 1
    placed = place(np.random.default_rng(seed), (50, 60), (24, 24), scale=scale, around_yx=around)
    assert (cut_mask(mask, placed) == 1).any()

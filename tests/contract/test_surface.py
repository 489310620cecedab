"""HD95, ASSD and NSD: closed forms, then case by case against three other libraries."""

import math
import warnings

import numpy as np
import pytest
import surface_distance
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medpy.metric import binary as medpy
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy import ndimage

from contract.surface import _near, _nearest, outline_distances, surface_dice

# MONAI 1.6 passes an argument to itself that it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy.*:FutureWarning")

ISOTROPIC = (1.0, 1.0)
SPACINGS = [ISOTROPIC, (0.5, 0.5), (2.0, 0.75), (0.31, 1.7)]


@st.composite
def mask_pairs(draw):
    """Two masks that both hold a pixel: noise of any density, or blocks of some pixels."""
    shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    block = draw(st.sampled_from([1, 3]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pair = []
    for density in draw(st.tuples(*[st.sampled_from([0.02, 0.3, 0.7, 1.0])] * 2)):
        mask = np.kron(random.random(shape) < density, np.ones((block, block), bool))
        mask.flat[random.integers(mask.size)] = True
        pair.append(mask)
    return pair


def square(top, left, side=10, shape=(40, 50)):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize("spacing", SPACINGS)
def test_of_two_pixels_every_distance_is_the_one_between_them(spacing):
    one, other = np.zeros((2, 20, 30), bool)
    one[4, 5] = other[7, 9] = True
    apart = math.hypot(3 * spacing[0], 4 * spacing[1])
    distances = outline_distances(one, other, spacing)
    assert distances.hd95 == pytest.approx(apart, rel=1e-12)
    assert distances.assd == pytest.approx(apart, rel=1e-12)
    assert surface_dice(one, other, spacing, apart) == 1
    assert surface_dice(one, other, spacing, 0) == 0


def test_a_square_within_a_square():
    """Side 10 within side 14: the inner outline is 2 away; the outer's corners a diagonal."""
    inner, outer = square(12, 12), square(10, 10, side=14)
    distances = outline_distances(inner, outer, ISOTROPIC)
    assert sorted(set(distances.to_truth)) == [2.0]
    assert distances.to_prediction.size == 52
    # Per side 8 pixels beside the inner corners' reach; at each corner (2, 1) twice and (2, 2).
    corner = 4 * (2 * math.sqrt(5) + math.sqrt(8))
    assert distances.to_prediction.sum() == pytest.approx(4 * 10 * 2 + corner)
    assert distances.hd95 == pytest.approx(np.percentile(distances.to_prediction, 95))
    assert distances.hd95 > 2


def test_the_surface_dice_weighs_length():
    """A square of 10 and one shifted right by 3, tolerance 0.

    Of each outline the corner codes at the same place count, at a distance of 0: 7 of 9 straight
    pieces above and below; the shifted corners (half a diagonal each) lie on the other's straight
    lines, so the places of two corners and two straight pieces fall together.
    """
    one, other = square(5, 5), square(5, 8)
    straight, corner = 1.0, math.sqrt(0.5)
    whole = 36 * straight + 4 * corner
    # Places of the top line in common: x from 8 to 15, ends being a corner of one of the two.
    common = 2 * (6 * straight + (straight + corner))
    assert surface_dice(one, other, ISOTROPIC, 0) == pytest.approx(2 * common / (2 * whole))
    assert surface_dice(one, other, ISOTROPIC, 3) == 1


def test_a_tolerance_equal_to_the_distance_counts_whatever_the_rounding():
    one, other = np.zeros((2, 5, 9), bool)
    one[2, 1] = other[2, 4] = True
    assert 3 * 0.7 != 2.1
    assert surface_dice(one, other, (0.7, 0.7), 2.1) == 1
    assert surface_dice(one, other, (0.2, 0.7), 2.1) == 1


def test_far_apart_in_a_large_image_nothing_is_rounded_away():
    one, other = np.zeros((2, 3000, 4000), bool)
    one[0, 0] = other[2999, 3999] = True
    assert outline_distances(one, other, ISOTROPIC).hd95 == pytest.approx(
        math.hypot(2999, 3999), rel=1e-6
    )


@given(mask_pairs(), st.sampled_from(SPACINGS), st.sampled_from([0.0, 0.6, 1.3, 3.1]))
def test_swapped_masks_swap_the_distances_and_scaled_spacing_scales_them(pair, spacing, tolerance):
    one, other = pair
    there, back = outline_distances(one, other, spacing), outline_distances(other, one, spacing)
    assert (there.hd95, there.assd) == (back.hd95, pytest.approx(back.assd))
    assert there.assd <= max(there.to_truth.max(), there.to_prediction.max())
    assert surface_dice(one, other, spacing, tolerance) == pytest.approx(
        surface_dice(other, one, spacing, tolerance)
    )
    doubled = tuple(2 * step for step in spacing)
    assert outline_distances(one, other, doubled).hd95 == pytest.approx(2 * there.hd95)
    assert surface_dice(one, other, doubled, 2 * tolerance) == pytest.approx(
        surface_dice(one, other, spacing, tolerance)
    )
    same = outline_distances(one, one, spacing)
    assert (same.hd95, same.assd, surface_dice(one, one, spacing, 0)) == (0, 0, 1)


@given(mask_pairs(), st.sampled_from(SPACINGS))
def test_what_lies_about_the_masks_changes_nothing(pair, spacing):
    padded = [np.pad(mask, ((3, 0), (1, 5))) for mask in pair]
    for one, other in (pair, padded):
        distances = outline_distances(one, other, spacing)
        assert distances.hd95 == outline_distances(*pair, spacing).hd95
        assert surface_dice(one, other, spacing, 1.1) == surface_dice(*pair, spacing, 1.1)


@given(mask_pairs(), st.sampled_from(SPACINGS))
def test_the_nearest_pixel_is_that_of_an_exact_distance_transform(pair, spacing):
    """Equal steps go through OpenCV's float32, unequal ones through a tree."""
    one, other = pair
    exact = ndimage.distance_transform_edt(~other, sampling=spacing)[one]
    assert _nearest(one, other, spacing) == pytest.approx(exact, rel=1e-12)


@given(
    mask_pairs(),
    st.sampled_from(SPACINGS),
    st.sampled_from([0.0, 0.31, 0.5, 0.6, 1.0, 1.3, 2.0, 3.1, 5.1, 40.0]),
)
def test_near_is_at_most_that_far(pair, spacing, within):
    """By a stamp where it is small, else by the distance itself; ties are in."""
    one, other = pair
    exact = ndimage.distance_transform_edt(~other, sampling=spacing)[one]
    assert np.array_equal(_near(one, other, spacing, within * (1 + 1e-6)), exact <= within + 1e-9)


def test_a_volume_with_its_own_step_per_axis():
    one, other = np.zeros((2, 6, 8, 9), bool)
    one[1, 2, 3] = other[3, 5, 7] = True
    apart = math.hypot(2 * 3.0, 3 * 0.5, 4 * 0.7)
    assert outline_distances(one, other, (3.0, 0.5, 0.7)).hd95 == pytest.approx(apart)
    with pytest.raises(ValueError, match=r"\[H, W\]"):
        surface_dice(one, other, (3.0, 0.5, 0.7), 1)


def test_empty_masks_have_no_outline():
    full, empty = np.ones((3, 3), bool), np.zeros((3, 3), bool)
    for pair in ((full, empty), (empty, full), (empty, empty)):
        with pytest.raises(ValueError, match="empty"):
            outline_distances(*pair, ISOTROPIC)
        with pytest.raises(ValueError, match="empty"):
            surface_dice(*pair, ISOTROPIC, 1)


def hot(mask):
    return torch.tensor(mask)[None, None].float()


def deepmind(one, other, spacing):
    # It looks its filters up in namespaces that scipy keeps for old code.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return surface_distance.compute_surface_distances(other, one, spacing)


@given(mask_pairs(), st.sampled_from(SPACINGS))
def test_hd95_and_assd_as_monai(pair, spacing):
    one, other = pair
    distances = outline_distances(one, other, spacing)
    options = {"include_background": True, "spacing": spacing}
    hd95 = compute_hausdorff_distance(hot(one), hot(other), percentile=95, **options)
    assd = compute_average_surface_distance(hot(one), hot(other), symmetric=True, **options)
    assert distances.hd95 == pytest.approx(float(hd95), rel=1e-5, abs=1e-6)
    assert distances.assd == pytest.approx(float(assd), rel=1e-5, abs=1e-6)


@given(mask_pairs(), st.sampled_from(SPACINGS))
def test_assd_as_medpy_and_its_hd95_from_the_same_distances(pair, spacing):
    """medpy pools both directions before it takes the percentile; the distances are ours."""
    one, other = pair
    distances = outline_distances(one, other, spacing)
    assert distances.assd == pytest.approx(medpy.assd(one, other, spacing), rel=1e-9)
    pooled = np.concatenate([distances.to_truth, distances.to_prediction])
    assert np.percentile(pooled, 95) == pytest.approx(medpy.hd95(one, other, spacing), rel=1e-9)
    assert max(d.max() for d in (distances.to_truth, distances.to_prediction)) == pytest.approx(
        medpy.hd(one, other, spacing), rel=1e-9
    )


@given(mask_pairs(), st.sampled_from(SPACINGS), st.sampled_from([0.0, 0.6, 1.3, 3.1]))
def test_nsd_as_deepmind_and_as_monai_with_subvoxels(pair, spacing, tolerance):
    one, other = pair
    ours = surface_dice(one, other, spacing, tolerance)
    theirs = surface_distance.compute_surface_dice_at_tolerance(
        deepmind(one, other, spacing), tolerance
    )
    assert ours == pytest.approx(float(theirs), rel=1e-9, abs=1e-12)
    monai = compute_surface_dice(
        hot(one),
        hot(other),
        class_thresholds=[tolerance],
        include_background=True,
        spacing=spacing,
        use_subvoxels=True,
    )
    assert ours == pytest.approx(float(monai), rel=1e-5, abs=1e-6)


@settings(max_examples=60)
@given(mask_pairs())
def test_deepminds_hausdorff_weighs_length_and_is_another_number(pair):
    """Its 100th percentile is that of the corners; ours of the pixels: at most a pixel apart."""
    one, other = pair
    distances = outline_distances(one, other, ISOTROPIC)
    ours = max(distances.to_truth.max(), distances.to_prediction.max())
    theirs = surface_distance.compute_robust_hausdorff(deepmind(one, other, ISOTROPIC), 100)
    assert abs(ours - theirs) <= math.sqrt(2) + 1e-9

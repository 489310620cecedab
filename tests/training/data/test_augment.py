import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.statistics import image_statistics
from training.data.augment import AugmentConfig, AugmentedPatch, build_augment, overview_of
from training.data.recipe import RECIPES

KINDS = [kind for kind in RECIPES if kind != "none"]


def picture(height=90, width=110, channels=3, dtype=np.uint8, low=20, high=200) -> np.ndarray:
    """Return blobs on a gradient, within ``low``..``high``."""
    y, x = np.mgrid[:height, :width]
    planes = [
        np.sin(y / (5 + c)) * np.cos(x / (7 + c)) + (x + y) / (height + width)
        for c in range(channels)
    ]
    stack = np.stack(planes, axis=2)
    stack = (stack - stack.min()) / (stack.max() - stack.min())
    return (low + stack * (high - low)).astype(dtype)


def statistics_of(image_hwc: np.ndarray) -> np.ndarray:
    return image_statistics(image_hwc.transpose(2, 0, 1).astype(np.float32))


def augmented(image: np.ndarray, mask: np.ndarray, seed=0, patch=(64, 64), **options):
    names = options.pop("class_names", ())
    whole = options.pop("whole", False)
    augment = build_augment(
        AugmentConfig(**options), patch, channels=image.shape[2], class_names=names, whole=whole
    )
    overview = overview_of(image, statistics_of(image))
    return augment(image, mask, overview, np.random.default_rng(seed))


def seen_by_the_net(patch: AugmentedPatch) -> np.ndarray:
    mean, std = patch.statistics[:, 0, None, None], patch.statistics[:, 1, None, None]
    return (patch.image_chw - mean) / std


def test_no_augmentation_copies_pixels_and_statistics():
    image = picture()
    mask = (image[..., 0] > 99).astype(np.uint8)
    patch = augmented(image, mask, kind="none")
    views = np.lib.stride_tricks.sliding_window_view(image, (64, 64), axis=(0, 1))
    found = (views == patch.image_chw).all(axis=(2, 3, 4))
    assert found.sum() == 1
    top, left = np.argwhere(found)[0]
    np.testing.assert_array_equal(patch.mask, mask[top : top + 64, left : left + 64])
    np.testing.assert_array_equal(patch.statistics, statistics_of(image))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint16), (5, np.float32)])
def test_every_kind_takes_every_image(kind, channels, dtype):
    image = picture(channels=channels, dtype=dtype)
    mask = (image[..., 0] > 99).astype(np.uint8)
    for seed in range(12):
        patch = augmented(image, mask, seed, kind=kind, strength=2.0)
        assert patch.image_chw.shape == (channels, 64, 64)
        assert patch.image_chw.dtype == patch.statistics.dtype == np.float32
        assert patch.image_chw.flags.c_contiguous
        assert np.isfinite(patch.image_chw).all()
        assert np.abs(seen_by_the_net(patch)).max() < 30
        assert patch.statistics.shape == (channels, 2)
        assert (patch.statistics[:, 1] > 0).all()
        assert patch.mask.dtype == np.uint8
        assert set(np.unique(patch.mask)) <= {0, 1, 255}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_generator_gives_the_same_patch(kind):
    image = picture()
    mask = (image[..., 0] > 99).astype(np.uint8)
    first, again, other = (augmented(image, mask, s, kind=kind, strength=2.0) for s in (4, 4, 5))
    np.testing.assert_array_equal(first.image_chw, again.image_chw)
    np.testing.assert_array_equal(first.statistics, again.statistics)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image_chw, other.image_chw)


def test_what_came_before_leaves_no_trace():
    image = picture()
    mask = (image[..., 0] > 99).astype(np.uint8)
    augment = build_augment(AugmentConfig(strength=2.0), (64, 64), channels=3)
    overview = overview_of(image, statistics_of(image))
    fresh = augment(image, mask, overview, np.random.default_rng(9))
    for seed in range(5):
        augment(image, mask, overview, np.random.default_rng(seed))
    used = augment(image, mask, overview, np.random.default_rng(9))
    sent = pickle.loads(pickle.dumps(augment))(image, mask, overview, np.random.default_rng(9))
    np.testing.assert_array_equal(fresh.image_chw, used.image_chw)
    np.testing.assert_array_equal(fresh.image_chw, sent.image_chw)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_image_and_mask_move_together(seed):
    # The mask's own picture: where the image is bright, the mask is 1, up to the edges' blur.
    mask = np.zeros((90, 110), np.uint8)
    mask[20:60, 30:80] = 1
    mask[70:80, 10:90] = 1
    image = (50 + 100 * mask)[..., None].astype(np.uint8)
    patch = augmented(
        image,
        mask,
        seed,
        kind="em",
        scale=(0.5, 2.0),
        rotation_deg=45.0,
        elastic_probability=0.5,
        gamma=0.0,
        brightness=0.0,
        contrast=0.0,
        blur_probability=0.0,
        noise=0.0,
    )
    counts = patch.mask != 255
    disagree = ((patch.image_chw[0] > 100) != (patch.mask == 1)) & counts
    assert disagree.sum() <= 0.06 * max(counts.sum(), 200)


def test_past_the_edge_is_ignored():
    image = picture(40, 40)
    patch = augmented(image, np.ones((40, 40), np.uint8), kind="none")
    assert (patch.mask == 1).sum() == 40 * 40
    assert (patch.mask == 255).sum() == 64 * 64 - 40 * 40


def test_planes_of_a_multilabel_mask_stay_apart():
    image = picture()
    mask = np.stack([image[..., 0] > 99, image[..., 1] > 120, image[..., 2] > 60], axis=2)
    patch = augmented(image, mask.astype(np.uint8), strength=1.0)
    assert patch.mask.shape == (64, 64, 3)
    assert set(np.unique(patch.mask)) <= {0, 1, 255}


def test_sided_classes_keep_their_side():
    # Left half dark, right half bright: whatever is done to an X-ray, bright stays on the right.
    image = np.zeros((80, 80, 1), np.uint8)
    image[:, 40:] = 200
    mask = (image[..., 0] > 0).astype(np.uint8) + 1
    names = ("background", "right lung", "left lung")
    for seed in range(40):
        patch = augmented(image, mask, seed, patch=(80, 80), whole=True, class_names=names)
        inside = patch.mask != 255
        columns = np.broadcast_to(np.arange(80), (80, 80))
        assert (
            columns[inside & (patch.mask == 2)].mean() > columns[inside & (patch.mask == 1)].mean()
        )


def test_inversion_inverts_the_statistics_exactly():
    image = picture()
    patch = augmented(
        image, np.zeros((90, 110), np.uint8), kind="none", invert_probability=1.0, patch=(90, 110)
    )
    inverted = image.max() + image.min() - image.astype(np.float64)
    np.testing.assert_allclose(patch.image_chw, inverted.transpose(2, 0, 1), atol=1e-3)
    np.testing.assert_allclose(patch.statistics, statistics_of(inverted), rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"gamma": 0.8},
        {"gamma": 0.8, "invert_probability": 0.5},
        {"colour_probability": 1.0},
        {"grey_probability": 1.0},
        {"noise": 0.5, "noise_probability": 1.0},
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_statistics_follow_what_happens_to_the_whole_image(options, dtype):
    image = picture(200, 200, dtype=dtype, high=200 if dtype == np.uint8 else 60_000)
    mask = np.zeros((200, 200), np.uint8)
    changed = 0
    for seed in range(8):
        patch = augmented(image, mask, seed, kind="none", patch=(200, 200), **options)
        truth = statistics_of(patch.image_chw.transpose(1, 2, 0))
        std = truth[:, 1]
        # A sample of a tenth of the pixels knows the mean to a fraction of a percent of the std.
        assert np.abs(patch.statistics[:, 0] - truth[:, 0]).max() <= 0.02 * std.min()
        np.testing.assert_allclose(patch.statistics[:, 1], std, rtol=0.02)
        changed += not np.allclose(truth, statistics_of(image), rtol=1e-3)
    assert changed >= 2


def test_brightness_and_contrast_are_left_for_the_net_to_see():
    image = picture()
    mask = np.zeros((90, 110), np.uint8)
    options = {"kind": "none", "brightness": 0.5, "contrast": 0.5, "patch": (90, 110)}
    plain = seen_by_the_net(augmented(image, mask, kind="none", patch=(90, 110)))
    for seed in range(10):
        patch = augmented(image, mask, seed, **options)
        np.testing.assert_array_equal(patch.statistics, statistics_of(image))
        seen = seen_by_the_net(patch)
        gain = seen.std() / plain.std()
        assert np.exp(-0.5) <= gain <= np.exp(0.5)
        np.testing.assert_allclose(seen - gain * plain, (seen - gain * plain).mean(), atol=1e-3)
        assert abs((seen - gain * plain).mean()) <= 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_net_sees_the_same_at_8_and_at_16_bits(kind):
    eight = picture(channels=1, low=3, high=40)
    sixteen = eight.astype(np.uint16) * 257
    mask = np.zeros(eight.shape[:2], np.uint8)
    for seed in range(6):
        one = seen_by_the_net(augmented(eight, mask, seed, kind=kind))
        two = seen_by_the_net(augmented(sixteen, mask, seed, kind=kind))
        np.testing.assert_allclose(one, two, atol=2e-3)


def test_a_constant_image_survives():
    image = np.full((50, 50, 3), 7, np.uint8)
    for seed in range(10):
        patch = augmented(image, np.zeros((50, 50), np.uint8), seed, strength=3.0)
        np.testing.assert_allclose(patch.image_chw, 7, atol=1e-4)


def test_non_square_patches_keep_their_shape():
    image = picture()
    for seed in range(8):
        patch = augmented(image, np.zeros((90, 110), np.uint8), seed, patch=(32, 80))
        assert patch.image_chw.shape == (3, 32, 80)
        assert patch.mask.shape == (32, 80)


def test_overview_of_a_large_image_is_bounded_and_fixed():
    image = picture(400, 300)
    first, again = (overview_of(image, statistics_of(image)) for _ in range(2))
    assert first.pixels_hwc.shape == (64, 64, 3)
    np.testing.assert_array_equal(first.pixels_hwc, again.pixels_hwc)
    assert (first.low, first.high) == (image.min(), image.max())

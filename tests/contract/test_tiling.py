import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.decision import labels_of
from contract.errors import RequestInvalid
from contract.spec import Tiles
from contract.tiling import blend_bands, plan_axis, plan_tiles

sizes = st.integers(1, 60)
patches = st.integers(1, 25)
overlaps = st.sampled_from([0.0, 0.1, 0.5, 0.75, 0.99])


def blend(image, run_tile, tiles, n_classes):
    bands = [
        (band.top, band.probabilities.copy())
        for band in blend_bands(image, run_tile, tiles, n_classes=n_classes)
    ]
    heights = [rows.shape[1] for _, rows in bands]
    assert [top for top, _ in bands] == [sum(heights[:i]) for i in range(len(heights))]
    return np.concatenate([rows for _, rows in bands], axis=1)


@pytest.mark.parametrize(
    ("size", "patch", "overlap", "starts"),
    [
        (10, 4, 0.5, (0, 2, 4, 6)),
        (11, 4, 0.5, (0, 2, 4, 6, 7)),
        (10, 5, 0.0, (0, 5)),
        (4, 4, 0.5, (0,)),
        (5, 4, 0.5, (0, 1)),
        (3, 4, 0.5, (0,)),
        (3, 1, 0.5, (0, 1, 2)),
    ],
)
def test_starts_in_closed_form(size, patch, overlap, starts):
    assert plan_axis(size, patch, overlap).starts == starts


@given(sizes, patches, overlaps)
def test_tiles_cover_the_axis_and_overlap_as_asked(size, patch, overlap):
    plan = plan_axis(size, patch, overlap)
    assert plan.patch == min(size, patch)
    covered = np.zeros(size, int)
    for start in plan.starts:
        assert 0 <= start <= size - plan.patch
        covered[start : start + plan.patch] += 1
    assert covered.all()
    steps = np.diff(plan.starts)
    assert (steps >= 1).all()
    assert (steps <= max(1, patch * (1 - overlap))).all()


@given(sizes, patches, overlaps)
def test_weights_sum_to_one_and_are_largest_in_the_middle(size, patch, overlap):
    plan = plan_axis(size, patch, overlap)
    total = np.zeros(size)
    for start, weights in zip(plan.starts, plan.weights(), strict=True):
        assert weights.shape == (plan.patch,)
        assert (weights > 0).all()
        total[start : start + plan.patch] += weights
    assert np.allclose(total, 1, atol=1e-6)


def test_weights_are_nnunets_gaussian():
    """At the same pixel, two tiles weigh as exp(-d²/2σ²) of their centres' distances."""
    plan = plan_axis(48, 32, 0.5)
    first, second = plan.weights()
    ratio = first[16:] / second[:16]
    distance_first, distance_second = np.arange(16, 32) - 15.5, np.arange(16) - 15.5
    sigma = 32 / 8
    expected = np.exp((distance_second**2 - distance_first**2) / (2 * sigma**2))
    assert np.allclose(ratio, expected, rtol=1e-4)


@given(sizes, sizes, patches, patches, overlaps, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_tile_then_merge_is_the_identity(height, width, patch_h, patch_w, overlap, seed):
    """A net that answers with its own pixels gives the image back, whatever the plan."""
    tiles = Tiles(patch=(patch_h, patch_w), overlap=overlap)
    image = np.random.default_rng(seed).random((2, height, width), np.float32)
    assert np.allclose(blend(image, lambda tile: tile, tiles, 2), image, atol=1e-5)


@given(sizes, sizes, overlaps)
@settings(max_examples=30, deadline=None)
def test_constant_probabilities_blend_to_the_constant(height, width, overlap):
    tiles = Tiles(patch=(16, 9), overlap=overlap)
    image = np.zeros((1, height, width), np.float32)
    constant = np.array([0.2, 0.5, 0.3], np.float32)[:, None, None]
    blended = blend(image, lambda tile: np.tile(constant, (1, *tile.shape[1:])), tiles, 3)
    assert np.allclose(blended, constant, atol=1e-5)


def test_every_tile_has_the_patch_size_where_the_image_allows():
    seen = set()

    def run_tile(tile):
        seen.add(tile.shape)
        return tile

    blend(np.zeros((1, 50, 7), np.float32), run_tile, Tiles(patch=(16, 16)), 1)
    assert seen == {(1, 16, 7)}


def test_the_middle_of_a_tile_decides():
    """Where two tiles disagree, the nearer centre wins."""
    answers = iter([0.0, 1.0])

    def run_tile(tile):
        return np.full(tile.shape, next(answers), np.float32)

    blended = blend(np.zeros((1, 8, 12), np.float32), run_tile, Tiles(patch=(8, 8)), 1)[0, 0]
    assert (blended[:4] == 0).all()
    assert (blended[8:] == 1).all()
    assert (np.diff(blended[3:9]) > 0).all()
    assert blended[5] == pytest.approx(1 - blended[6])


def test_progress_counts_every_tile():
    said = []
    tiles = Tiles(patch=(10, 10), overlap=0.0)
    image = np.zeros((1, 25, 20), np.float32)
    list(
        blend_bands(
            image, lambda t: t, tiles, n_classes=1, progress=lambda done, n: said.append((done, n))
        )
    )
    assert said == [(done, 6) for done in range(1, 7)]
    rows, columns = plan_tiles((25, 20), tiles)
    assert (rows.starts, columns.starts) == ((0, 10, 15), (0, 10))


def inner_columns(size, plan, margin):
    """Pixels that lie `margin` or more from every tile border inside the image."""
    away = np.ones(size, bool)
    for start in plan.starts:
        for border in (start, start + plan.patch):
            if 0 < border < size:
                away[max(0, border - margin) : border + margin] = False
    return away


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("size", [(150, 171), (200, 40), (30, 300)])
def test_a_tiled_image_equals_the_whole(open_threshold_model, picture, task, size):
    """The net sees one pixel around it, so away from tile borders nothing may differ."""
    model = open_threshold_model(
        task=task, channels=2, whole_image_max_pixels=4000, tiles=Tiles(patch=(48, 64))
    )
    image = picture(2, *size)
    tiled = model.segment(image, probabilities=True)
    assert tiled.tiled
    whole = model.run(image[None], outputs=("labels", "probabilities"))
    rows, columns = plan_tiles(size, model.spec.tiles)
    away = inner_columns(size[0], rows, 1)[:, None] & inner_columns(size[1], columns, 1)
    assert away.mean() > 0.7
    difference = np.abs(tiled.probabilities - whole["probabilities"][0])
    assert difference[:, away].max() < 1e-5
    assert difference.max() < 0.05  # the border itself, weighted by the Gaussian's tail
    assert (tiled.labels != whole["labels"][0]).mean() < 1e-3
    assert np.array_equal(tiled.labels, labels_of(tiled.probabilities, task))


def test_labels_alone_are_those_with_probabilities(tiled_model, picture):
    image = picture(1, 130, 90)
    with_probabilities = tiled_model.segment(image, probabilities=True)
    alone = tiled_model.segment(image)
    assert alone.probabilities is None
    assert np.array_equal(alone.labels, with_probabilities.labels)


def test_the_limit_decides(tiled_model, picture):
    assert not tiled_model.segment(picture(1, 40, 100)).tiled
    assert tiled_model.segment(picture(1, 40, 101)).tiled


def test_tiles_are_normalised_by_the_whole_image(tiled_model):
    """Half dark, half bright: by its own statistics a bright tile would be half background."""
    random = np.random.default_rng(0)
    image = random.integers(0, 10, (1, 200, 200)).astype(np.float32)
    image[:, :, 100:] += 200
    labels = tiled_model.segment(image).labels
    assert not labels[:, :99].any()
    assert labels[1:-1, 101:-1].all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_intensities_that_are_no_numbers(tiled_model, picture, value):
    image = picture(1, 100, 100)
    image[0, 5, 5] = value
    with pytest.raises(RequestInvalid, match="NaN or infinite"):
        tiled_model.segment(image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_intensities_of_the_file_s_own_type_give_the_same_bits(tiled_model, dtype):
    random = np.random.default_rng(3)
    for side in (30, 120):  # whole, and in tiles
        image_hwc = random.integers(0, np.iinfo(dtype).max, (side, side, 1), dtype, endpoint=True)
        raw_chw = image_hwc.transpose(2, 0, 1)
        raw, as_float = (
            tiled_model.segment(image, probabilities=True)
            for image in (raw_chw, raw_chw.astype(np.float32))
        )
        assert raw.tiled == as_float.tiled == (side == 120)
        np.testing.assert_array_equal(raw.labels, as_float.labels)
        np.testing.assert_array_equal(raw.probabilities, as_float.probabilities)

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from training.probe.band_row import BandRow
from training.probe.bands import bands_of, dice_of, error_rate, signed_distance
from training.probe.boundary import boundary_f1, compare_boundary, probe_boundary
from training.probe.boundary_figure import draw_boundary
from training.probe.error_map import draw_error_maps, error_map, errors_of, window_of
from training.probe.probed import Probed
from training.probe.rows import read_rows

EVERYWHERE = np.ones((12, 20), np.bool_)
Mask = NDArray[np.bool_]


def left_half(columns: int = 8) -> Mask:
    mask = np.zeros((12, 20), np.bool_)
    mask[:, :columns] = True
    return mask


def test_distances_to_a_straight_boundary_count_from_the_pixels_beside_it() -> None:
    distance = signed_distance(left_half(), EVERYWHERE, (1.0, 1.0))
    np.testing.assert_array_equal(distance[0], [*range(8, 0, -1), *range(-1, -13, -1)])


def test_distances_have_the_spacing_of_their_axis_and_ignored_pixels_are_no_side() -> None:
    counted = EVERYWHERE.copy()
    counted[:, 8:10] = False
    distance = signed_distance(left_half(), counted, (5.0, 0.5))
    np.testing.assert_array_equal(distance[3, :8], 0.5 * (10 - np.arange(8)))
    assert np.isnan(distance[:, 8:10]).all()
    assert distance[3, 10] == -0.5 * 3


def test_a_class_without_another_side_is_infinitely_far_from_it() -> None:
    empty = np.zeros((12, 20), np.bool_)
    assert (signed_distance(empty, EVERYWHERE, (1, 1)) == -np.inf).all()
    assert (signed_distance(EVERYWHERE, EVERYWHERE, (1, 1)) == np.inf).all()
    bands = bands_of(signed_distance(empty, EVERYWHERE, (1, 1)), left_half(2))
    assert [b.errors for b in bands if b.errors] == [24]
    assert bands[-1].errors == 24  # made up far from any boundary


def test_an_answer_one_pixel_too_wide_errs_in_one_band_only() -> None:
    bands = bands_of(signed_distance(left_half(8), EVERYWHERE, (1, 1)), left_half(9))
    wrong = [band for band in bands if band.errors]
    assert [(b.side, b.above, b.up_to, b.pixels, b.errors) for b in wrong] == [
        ("outside", 0.0, 1.0, 12, 12)
    ]
    assert error_rate(wrong) == 1.0
    assert dice_of(bands) == pytest.approx(2 * 8 / (8 + 9))
    near = [band for band in bands if band.up_to <= 1]
    assert dice_of(near) == pytest.approx(2 / 3)  # one column found, one made up


@given(
    arrays.arrays(np.bool_, (9, 13)),
    arrays.arrays(np.bool_, (9, 13)),
    arrays.arrays(np.bool_, (9, 13)),
    st.sampled_from([(1.0, 1.0), (0.4, 2.5)]),
)
def test_bands_part_all_counted_pixels_and_all_errors(
    truth: Mask, answer: Mask, counted: Mask, spacing: tuple[float, float]
) -> None:
    bands = bands_of(signed_distance(truth, counted, spacing), answer)
    assert sum(b.pixels for b in bands) == counted.sum()
    assert sum(b.errors for b in bands) == ((truth != answer) & counted).sum()
    inside = [b for b in bands if b.side == "inside"]
    assert sum(b.errors for b in inside) == (truth & ~answer & counted).sum()
    both = (truth & counted).sum() + (answer & counted).sum()
    if both:
        assert dice_of(bands) == pytest.approx(2 * (truth & answer & counted).sum() / both)


def test_boundary_f1_forgives_up_to_its_tolerance() -> None:
    assert boundary_f1(left_half(10), left_half(8), (1, 1), 2.0) == 1.0
    assert boundary_f1(left_half(11), left_half(8), (1, 1), 2.0) < 1.0
    empty = np.zeros((12, 20), np.bool_)
    assert boundary_f1(empty, left_half(), (1, 1), 2.0) == 0.0
    assert np.isnan(boundary_f1(empty, empty, (1, 1), 2.0))


def test_an_error_map_shows_missed_and_made_up_pixels_and_no_ignored_one() -> None:
    truth = np.zeros((4, 5), np.uint8)
    truth[1, :] = 1
    truth[1, 4] = 255
    labels = np.zeros((4, 5), np.uint8)
    labels[1, 1:5] = 1
    labels[3, 0] = 1
    made_up, missed = errors_of(labels, truth, [1])
    assert np.argwhere(made_up).tolist() == [[3, 0]]
    assert np.argwhere(missed).tolist() == [[1, 0]]
    drawn = error_map(np.zeros((4, 5, 3), np.uint8), made_up, missed)
    colours = {tuple(int(v) for v in drawn[y, x]) for y, x in ((3, 0), (1, 0), (0, 0))}
    assert len(colours) == 3
    assert len(set(drawn[0, 0])) == 1  # grey where all is right


def test_the_window_lies_where_most_errors_are() -> None:
    errors = np.zeros((30, 50), np.int64)
    errors[20:24, 41:45] = 1
    window = window_of(errors, 10)
    assert errors[window].sum() == 16
    assert errors[window].shape == (10, 10)
    assert errors[window_of(errors, 99)].shape == (30, 50)


def test_a_comparison_tells_of_each_class_and_holds_nets_case_by_case(
    look_at: Callable[..., Probed], tmp_path: Path
) -> None:
    one, two = (look_at(task="multilabel", name=name) for name in ("one", "two"))
    found = compare_boundary([one, two], tmp_path)
    assert found["one.small.error_rate_near"] == found["two.small.error_rate_near"]
    assert found["one-two.large.dice_near"] == 0.0  # the same net
    rows = list(csv.DictReader((tmp_path / "bands.csv").read_text().splitlines()))
    assert len(rows) == 2 * 4 * 2 * 14  # nets, images, classes, bands
    of_image = [r for r in rows if (r["net"], r["stem"], r["class_name"]) == ("one", "i0", "small")]
    assert sum(int(r["pixels"]) for r in of_image) == 44 * 60 - 44  # one column is ignored
    (tmp_path / "boundary.svg").rename(tmp_path / "first.svg")
    draw_boundary(read_rows(tmp_path / "bands.csv", BandRow), tmp_path)  # as a report does
    assert (tmp_path / "boundary.svg").read_bytes() == (tmp_path / "first.svg").read_bytes()
    written = {path.name for path in tmp_path.iterdir()}
    assert {"cases.csv", "differences.csv", "boundary.svg", "error-maps.png"} <= written


def test_nets_of_different_channel_counts_are_mapped_each_on_its_own(
    look_at: Callable[..., Probed], tmp_path: Path
) -> None:
    grey, colour = look_at(name="grey"), look_at(name="colour", channels=3)
    draw_error_maps([grey, colour], {"any": "i0"}, tmp_path)
    assert (tmp_path / "error-maps.png").is_file()


def test_one_net_on_one_image_is_enough(look_at: Callable[..., Probed], tmp_path: Path) -> None:
    found = probe_boundary(replace(look_at(), stems=("i3",)), tmp_path)
    assert 0 <= found["large.near_share_of_errors"] <= 1
    assert not (tmp_path / "differences.csv").exists()

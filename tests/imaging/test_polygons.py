from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imaging.polygons import geojson_features
from imaging.regions import boxes_xyxy

NAMES = ["background", "cytoplasm", "nucleus", "debris"]
PALETTE = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]

label_images = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.integers(0, 3),
)


def polygons_of(feature):
    geometry = feature["geometry"]
    if geometry["type"] == "Polygon":
        return [geometry["coordinates"]]
    return geometry["coordinates"]


def filled(collection, shape_hw):
    """Rasterise by the even-odd rule at pixel centres, ray to the left: knows nothing of ours."""
    labels_hw = np.zeros(shape_hw, np.uint8)
    height, width = shape_hw
    for feature in collection["features"]:
        index = NAMES.index(feature["properties"]["classification"]["name"])
        for rings in polygons_of(feature):
            crossings = np.zeros((height, width + 1), int)
            for ring in rings:
                for (x1, y1), (x2, y2) in pairwise(ring):
                    if x1 == x2:
                        crossings[min(y1, y2) : max(y1, y2), x1] += 1
            inside = np.cumsum(crossings, axis=1)[:, :width] % 2 == 1
            assert not labels_hw[inside].any()
            labels_hw[inside] = index
    return labels_hw


def area(ring):
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise(ring)) / 2


def features(labels_hw):
    return geojson_features(np.array(labels_hw, np.uint8), NAMES, PALETTE)["features"]


@given(label_images)
def test_filling_the_polygons_gives_the_labels_back(labels_hw):
    collection = geojson_features(labels_hw, NAMES, PALETTE)
    assert np.array_equal(filled(collection, labels_hw.shape), labels_hw)


@given(label_images)
def test_rings_are_closed_simple_and_turn_the_right_way(labels_hw):
    for feature in geojson_features(labels_hw, NAMES, PALETTE)["features"]:
        for outer, *holes in polygons_of(feature):
            assert area(outer) > 0
            assert all(area(hole) < 0 for hole in holes)
            for ring in (outer, *holes):
                assert ring[0] == ring[-1]
                corners = [tuple(point) for point in ring[:-1]]
                assert len(set(corners)) == len(corners) >= 4


@given(label_images)
def test_there_are_as_many_features_as_boxes(labels_hw):
    found = geojson_features(labels_hw, NAMES, PALETTE)["features"]
    assert len(found) == sum(len(boxes_xyxy(labels_hw == index)) for index in range(1, 4))


def test_a_pixel_is_a_square_with_name_and_colour():
    (feature,) = features([[0, 0], [0, 2]])
    assert feature == {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]],
        },
        "properties": {
            "objectType": "annotation",
            "classification": {"name": "nucleus", "color": [0, 255, 0]},
        },
    }


def test_a_hole_is_the_second_ring():
    (feature,) = features([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    outer, hole = feature["geometry"]["coordinates"]
    assert (area(outer), area(hole)) == (9, -1)


def test_parts_that_touch_at_a_corner_are_one_multipolygon():
    (feature,) = features([[1, 0], [0, 1]])
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert len(feature["geometry"]["coordinates"]) == 2


def test_a_ring_closed_by_a_corner_has_its_hole():
    (feature,) = features([[0, 1, 1], [1, 0, 1], [1, 1, 1]])
    (outer, hole) = feature["geometry"]["coordinates"]
    assert (area(outer), area(hole)) == (8, -1)


def test_holes_that_touch_at_a_corner_are_two():
    (feature,) = features([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]])
    assert [area(ring) for ring in feature["geometry"]["coordinates"]] == [16, -1, -1]


def test_background_alone_gives_no_feature():
    assert features(np.zeros((3, 3))) == []


def test_a_label_without_a_name_is_refused():
    with pytest.raises(ValueError, match="label 4 came with 4 class names"):
        features([[4]])

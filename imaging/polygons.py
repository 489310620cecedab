"""Label images as GeoJSON, as QuPath imports it: pixel coordinates, polygons with holes."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from imaging.outlines import Ring, trace_outlines

Colour = tuple[int, int, int]


def geojson_features(
    labels_hw: npt.NDArray[np.uint8], class_names: Sequence[str], palette: Sequence[Colour]
) -> dict[str, Any]:
    """Return a FeatureCollection with one feature per region of each class but the background.

    Regions are joined over edges and corners, as in `imaging.regions.boxes_xyxy`. Coordinates
    are pixels with the origin at the image's upper left corner; outlines follow pixel edges, so
    filling the polygons gives the labels back exactly. A region whose parts touch at corners
    only is a MultiPolygon, because a valid polygon may not pass a point twice.

    Args:
        labels_hw: Class indices ``[H, W]``; 0 is background.
        class_names: Name of each class, background first.
        palette: RGB 0..255 of each class, background first.

    Raises:
        ValueError: A label without name or colour.
    """
    largest = int(labels_hw.max(initial=0))
    if largest >= min(len(class_names), len(palette)):
        raise ValueError(
            f"label {largest} came with {len(class_names)} class names and {len(palette)} "
            f"colours; expected at least {largest + 1} of each"
        )
    features = []
    for index in range(1, largest + 1):
        mask_hw = labels_hw == index
        if mask_hw.any():
            classification = {"name": class_names[index], "color": list(palette[index])}
            features += [
                _feature(polygons, classification) for polygons in _region_polygons(mask_hw)
            ]
    return {"type": "FeatureCollection", "features": features}


def _region_polygons(mask_hw: npt.NDArray[np.bool_]) -> list[list[list[Ring]]]:
    """Return the polygons of each region; a polygon is its outer ring, then its holes."""
    as_bytes = np.ascontiguousarray(mask_hw).view(np.uint8)
    _, part_hw = cv2.connectedComponents(as_bytes, connectivity=4, ltype=cv2.CV_32S)
    _, region_hw = cv2.connectedComponents(as_bytes, connectivity=8, ltype=cv2.CV_32S)
    polygons: dict[int, list[Ring]] = {}
    region_of_part: dict[int, int] = {}
    for outline in trace_outlines(mask_hw):
        part = int(part_hw[outline.pixel_yx])
        rings = polygons.setdefault(part, [])
        region_of_part[part] = int(region_hw[outline.pixel_yx])
        # The outer ring, the only one with a positive area, stands first.
        rings.insert(0 if outline.area_px > 0 else len(rings), outline.ring)
    regions: dict[int, list[list[Ring]]] = {}
    for part, rings in polygons.items():
        regions.setdefault(region_of_part[part], []).append(rings)
    return list(regions.values())


def _feature(polygons: list[list[Ring]], classification: dict[str, Any]) -> dict[str, Any]:
    if len(polygons) == 1:
        geometry: dict[str, Any] = {"type": "Polygon", "coordinates": polygons[0]}
    else:
        geometry = {"type": "MultiPolygon", "coordinates": polygons}
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {"objectType": "annotation", "classification": classification},
    }

"""Contours as SVG."""

import base64
import re

import cv2
import numpy as np

from training.report.case_picture import ANSWER, MAX_SIDE_PX, TRUTH, case_svg, png_uri


def decoded(uri: str) -> np.ndarray:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    found = cv2.imdecode(np.frombuffer(base64.b64decode(body), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert found is not None
    return found


def test_the_embedded_image_is_the_image_and_large_ones_shrink() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    assert np.array_equal(decoded(png_uri(image)), image)
    large = decoded(png_uri(np.zeros((100, 2000, 3), dtype=np.uint8)))
    assert large.shape == (24, MAX_SIDE_PX, 3)


def test_one_class_has_truth_and_answer_in_two_colours() -> None:
    truth = np.zeros((20, 20), dtype=np.uint8)
    truth[5:10, 5:15] = 1
    svg = case_svg(
        "image-0",
        np.zeros((20, 20, 3), dtype=np.uint8),
        truth,
        np.zeros_like(truth),
        ((0, 0, 0), (255, 0, 0)),
        foreground=[1],
    )
    assert svg.count('id="image-0"') == 1
    assert 'href="#image-0"' in svg
    paths = re.findall(r'<path d="([^"]*)"[^>]*stroke="(#\w+)"', svg)
    assert [colour for _, colour in paths] == [TRUTH]
    assert ANSWER not in svg
    corners = set(re.findall(r"[\d.]+ [\d.]+", paths[0][0]))
    assert corners == {"5.5 5.5", "14.5 5.5", "14.5 9.5", "5.5 9.5"}


def test_several_classes_have_their_own_colours_and_dashed_answers() -> None:
    truth = np.zeros((20, 20), dtype=np.uint8)
    truth[:5], truth[10:] = 1, 2
    svg = case_svg(
        "image-1",
        np.zeros((20, 20, 3), dtype=np.uint8),
        truth,
        truth,
        ((0, 0, 0), (255, 0, 0), (0, 128, 255)),
        foreground=[1, 2],
    )
    strokes = re.findall(r'stroke="(#\w+)" stroke-width="1.6"( stroke-dasharray)?', svg)
    assert strokes == [
        ("#ff0000", ""),
        ("#ff0000", " stroke-dasharray"),
        ("#0080ff", ""),
        ("#0080ff", " stroke-dasharray"),
    ]

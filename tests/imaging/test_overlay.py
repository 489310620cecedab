from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from imaging.overlay import display_rgb, overlay_png

PALETTE = [(0, 0, 0), (255, 0, 0), (0, 0, 200)]


def drawn(pixels_hwc, labels_hw, **options):
    image = Image.open(BytesIO(overlay_png(pixels_hwc, labels_hw, PALETTE, **options)))
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(
    ("channels", "shown"),
    [(1, [10, 10, 10]), (2, [10, 10, 10]), (3, [10, 20, 30]), (5, [10, 20, 30])],
)
def test_8_bit_channels_are_shown_as_they_are(channels, shown):
    pixels_hwc = np.array([[[10, 20, 30, 40, 50][:channels]]], np.uint8)
    assert display_rgb(pixels_hwc).tolist() == [[shown]]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_images_are_windowed_from_the_1st_to_the_99th_percentile(dtype):
    values = np.arange(10_000, dtype=dtype).reshape(100, 100, 1)
    values[0, 0], values[-1, -1] = 0, 60_000  # an outlier must not darken the rest
    shown = display_rgb(values)[:, :, 0].reshape(-1)
    assert (shown[:100] == 0).all()
    assert (shown[-100:] == 255).all()
    assert abs(int(shown[5000]) - 127) <= 1


def test_windowing_keeps_the_balance_of_colours():
    pixels_hwc = np.zeros((10, 10, 3), np.uint16)
    pixels_hwc[:5, :, 0] = 1000
    pixels_hwc[:5, :, 1] = 500
    assert display_rgb(pixels_hwc)[0, 0].tolist() == [255, 128, 0]


@pytest.mark.parametrize("value", [0, 40_000])
def test_a_constant_deep_image_is_mid_grey(value):
    assert (display_rgb(np.full((1, 1, 1), value, np.uint16)) == 128).all()


def test_a_nearly_constant_image_is_windowed_by_its_extremes():
    pixels_hwc = np.zeros((100, 100, 1), np.float32)
    pixels_hwc[0, 0] = 1
    shown = display_rgb(pixels_hwc)
    assert shown[0, 0, 0] == 255
    assert shown[5, 5, 0] == 0


def test_inside_is_tinted_the_contour_full_and_the_background_untouched():
    pixels_hwc = np.full((7, 7, 1), 100, np.uint8)
    labels_hw = np.zeros((7, 7), np.uint8)
    labels_hw[1:6, 1:6] = 1
    picture = drawn(pixels_hwc, labels_hw, alpha=0.4)
    assert picture[0, 0].tolist() == [100, 100, 100]
    assert picture[1, 3].tolist() == [255, 0, 0]
    assert picture[3, 3].tolist() == [round(60 + 0.4 * 255), 60, 60]


def test_neighbouring_classes_are_set_apart():
    labels_hw = np.repeat(np.array([[1, 1, 2, 2]], np.uint8), 4, axis=0)
    picture = drawn(np.zeros((4, 4, 3), np.uint8), labels_hw, alpha=0.0)
    assert picture[0].tolist() == [[0, 0, 0], [255, 0, 0], [0, 0, 200], [0, 0, 0]]


def test_the_image_given_is_not_drawn_into():
    pixels_hwc = np.zeros((3, 3, 3), np.uint8)
    overlay_png(pixels_hwc, np.ones((3, 3), np.uint8), PALETTE)
    assert not pixels_hwc.any()


def test_one_pixel():
    assert drawn(np.zeros((1, 1, 1), np.float32), np.zeros((1, 1), np.uint8)).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("labels_hw", "alpha"),
    [
        (np.zeros((3, 2), np.uint8), 0.4),
        (np.full((2, 3), 3, np.uint8), 0.4),
        (np.zeros((2, 3), np.uint8), 1.5),
    ],
)
def test_what_does_not_fit_is_refused(labels_hw, alpha):
    with pytest.raises(ValueError, match="expected"):
        overlay_png(np.zeros((2, 3, 1), np.uint8), labels_hw, PALETTE, alpha=alpha)

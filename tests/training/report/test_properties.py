"""Properties of images in closed form."""

import numpy as np
import pytest

from training.report.properties import properties_of


def test_a_checkerboard() -> None:
    board = (np.indices((6, 8)).sum(axis=0) % 2 * 100).astype(np.float32)
    foreground = np.zeros((6, 8), dtype=np.bool_)
    foreground[:3] = True
    counted = np.ones((6, 8), dtype=np.bool_)
    counted[0] = False
    seen = properties_of(np.stack([board, board]), foreground, counted)
    assert seen.brightness == 50
    assert seen.contrast == 50
    assert seen.sharpness == pytest.approx(2.0)  # every step is 100
    assert seen.megapixels == pytest.approx(48e-6)
    assert seen.foreground == pytest.approx(16 / 40)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 4)])
def test_a_constant_image_has_neither_contrast_nor_sharpness(shape: tuple[int, int]) -> None:
    nowhere = np.zeros(shape, dtype=np.bool_)
    seen = properties_of(np.full((3, *shape), 7, dtype=np.float32), nowhere, nowhere)
    assert (seen.brightness, seen.contrast, seen.sharpness, seen.foreground) == (7, 0, 0, 0)

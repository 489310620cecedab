from pathlib import Path

import cv2
import numpy as np

from training.score.pictures import side_by_side, tint, write_picture


def test_tint_colours_the_class_and_leaves_the_rest() -> None:
    picture = np.full((9, 9, 3), 100, dtype=np.uint8)
    labels = np.zeros((9, 9), dtype=np.uint8)
    labels[2:7, 2:7] = 1
    out = tint(picture, labels, [(0, 0, 0), (0, 255, 0)])
    assert (out[0] == 100).all()
    assert tuple(out[2, 2]) == (0, 255, 0)  # outline
    assert out[4, 4, 1] > 100 > out[4, 4, 0]  # fill
    assert (picture == 100).all()


def test_ignored_pixels_are_not_drawn() -> None:
    picture = np.full((4, 4, 3), 50, dtype=np.uint8)
    labels = np.full((4, 4), 255, dtype=np.uint8)
    assert np.array_equal(tint(picture, labels, [(0, 0, 0), (255, 0, 0)]), picture)


def test_pictures_of_any_size_stand_in_their_cells() -> None:
    small = np.full((1, 1, 3), (255, 0, 0), dtype=np.uint8)
    wide = np.full((50, 400, 3), (0, 0, 255), dtype=np.uint8)
    sheet = side_by_side([("a", [small, wide])], titles=["one", "two"], cell_px=40)
    red = (sheet == (255, 0, 0)).all(axis=2)
    blue = (sheet == (0, 0, 255)).all(axis=2)
    assert red.sum() == 40 * 40
    assert blue.sum() == 40 * 5
    assert np.nonzero(red)[1].max() < np.nonzero(blue)[1].min()


def test_the_file_holds_the_colours_that_were_given(tmp_path: Path) -> None:
    picture = np.zeros((2, 3, 3), dtype=np.uint8)
    picture[0, 0] = (10, 20, 30)
    write_picture(tmp_path / "p.png", picture)
    read = cv2.imread(str(tmp_path / "p.png"))
    assert read is not None
    assert read[0, 0].tolist() == [30, 20, 10]

"""Error maps: what several nets miss and make up in the same image, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Patch
from numpy.typing import NDArray

from contract.surface import Mask
from imaging.overlay import display_rgb
from training.data.masks import IGNORE
from training.probe.probed import Probed, ProbedImage
from training.report.case_picture import plane_of
from training.report.figure import BLUE, ORANGE, WIDTH_IN, canvas, save_figure, style

MADE_UP, MISSED = ORANGE, BLUE
WINDOW_PX = 192  # errors are a few pixels wide, and must be seen
FADED = 0.45
LARGEST_CELL_IN = 2.6


def error_map(picture_rgb: NDArray[np.uint8], made_up: Mask, missed: Mask) -> NDArray[np.uint8]:
    """Return the picture in pale grey with errors in full colour, uint8 ``[H, W, 3]``.

    Args:
        picture_rgb: uint8 ``[H, W, 3]``.
        made_up: answered, but not true, ``[H, W]``.
        missed: true, but not answered.
    """
    grey = picture_rgb.mean(axis=2, keepdims=True)
    pale = 255 - FADED * (255 - grey)
    drawn: NDArray[np.uint8] = np.repeat(pale, 3, axis=2).astype(np.uint8)
    for where, colour in ((made_up, MADE_UP), (missed, MISSED)):
        drawn[where] = _rgb(colour)
    return drawn


def errors_of(
    labels: NDArray[np.uint8], truth: NDArray[np.uint8], foreground: Sequence[int]
) -> tuple[Mask, Mask]:
    """Return where any of the classes is made up and where any is missed; ignored pixels neither.

    Where one class is taken for another the true one is missed and the other made up; as the
    picture has one colour for a pixel, it then shows as missed.
    """
    made_up = np.zeros(labels.shape[-2:], np.bool_)
    missed = made_up.copy()
    for index in foreground:
        counted = (truth[index] if truth.ndim == 3 else truth) != IGNORE
        answer, true = plane_of(labels, index), plane_of(truth, index)
        made_up |= answer & ~true & counted
        missed |= true & ~answer & counted
    return made_up, missed


def draw_error_maps(nets: Sequence[Probed], stems: Mapping[str, str], folder: Path) -> None:
    """Draw ``error-maps``: a row per image, the image and what each net gets wrong in it.

    Args:
        nets: on the same images.
        stems: why an image is shown, and its stem; file names can be names of patients, so they
            are not in the picture.
        folder: for PNG and SVG.
    """
    with style():
        columns = 1 + len(nets)
        cell_in = min(WIDTH_IN / columns, LARGEST_CELL_IN)
        figure, axes = canvas(
            columns, rows=len(stems), height_in=0.4 + len(stems) * (cell_in + 0.2)
        )
        for row, (reason, stem) in enumerate(stems.items()):
            # Each net takes as many channels as it was trained on.
            images = [net.image(stem) for net in nets]
            image = images[0]
            # As float, so that dark images are windowed, too.
            picture = display_rgb(image.pixels_hwc.astype(np.float32))
            answers = [net.answer(own.image_chw) for net, own in zip(nets, images, strict=True)]
            errors = [errors_of(labels, image.truth, nets[0].foreground) for labels in answers]
            window = window_of(np.sum([a | b for a, b in errors], axis=0))
            pictures = [picture, *(error_map(picture, *found) for found in errors)]
            titles = [reason, *map(_title, nets, answers, images)]
            for column, (shown, title) in enumerate(zip(pictures, titles, strict=True)):
                panel = axes[row * columns + column]
                panel.imshow(shown[window], interpolation="nearest")
                panel.set_axis_off()
                panel.set_title(title, fontsize=8.5)
        figure.legend(
            handles=[
                Patch(color=MISSED, label="missed: true, not answered"),
                Patch(color=MADE_UP, label="made up: answered, not true"),
            ],
            loc="outside lower center",
            ncols=2,
        )
        save_figure(figure, folder, "error-maps")


def _title(net: Probed, labels: NDArray[np.uint8], image: ProbedImage) -> str:
    scores = net.score(labels, image.truth)
    dice = [scores[index].dice for index in net.foreground if not scores[index].empty]
    return f"{net.name}: Dice {np.mean(dice):.3f}" if dice else net.name


def window_of(errors_hw: NDArray[np.integer[Any]], side_px: int = WINDOW_PX) -> tuple[slice, slice]:
    """Return the square window (less where the image is smaller) that holds most errors."""
    height, width = errors_hw.shape
    rows, columns = min(side_px, height), min(side_px, width)
    # Sums over all windows, from one table of sums over all upper left corners.
    table = np.zeros((height + 1, width + 1), np.int64)
    table[1:, 1:] = errors_hw.cumsum(axis=0).cumsum(axis=1)
    inside = (
        table[rows:, columns:]
        - table[:-rows, columns:]
        - table[rows:, :-columns]
        + table[:-rows, :-columns]
    )
    top, left = divmod(int(inside.argmax()), inside.shape[1])
    return slice(top, top + rows), slice(left, left + columns)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)

"""Small pictures of cases, with their masks drawn over them, as data URIs."""

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from contract.errors import DataError, ImageError
from contract.spec import Colour
from imaging.decode import read_image
from imaging.overlay import display_rgb
from training.data.case import Case
from training.data.check import MAX_PIXELS
from training.data.masks import IGNORE
from training.data.spec import default_colour
from training.doctor.examination import Examination
from training.doctor.proposal import Proposal, labels_of
from training.score.pictures import tint

SIDE_PX = 256
JPEG_QUALITY = 88

Picture = NDArray[np.uint8]


def picture_uri(case: Case, examined: Examination, proposal: Proposal | None) -> str | None:
    """Return image and overlay side by side; None where the image cannot be read.

    A mask that cannot be read leaves the image alone; one of another size is stretched.
    """
    try:
        pixels = read_image(case.image, max_pixels=MAX_PIXELS).pixels_hwc
    except (ImageError, OSError):
        return None
    image = _shrunk(display_rgb(pixels), cv2.INTER_AREA)
    try:
        labels = _labels(case, examined, proposal)
    except (DataError, ImageError, OSError):
        return _uri(image)
    size = (image.shape[1], image.shape[0])
    labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    highest = int(labels[labels != IGNORE].max(initial=0))
    overlay = tint(image, labels, palette_of(examined, highest))
    gap = np.full((image.shape[0], 4, 3), 255, np.uint8)
    return _uri(np.hstack([image, gap, overlay]))


def palette_of(examined: Examination, highest: int) -> list[Colour]:
    """Return colours up to class index ``highest``, background first."""
    spec = examined.surveyed.spec
    own = [entry.colour for entry in spec.segment_classes]
    if spec.task == "multilabel":
        own = [(0, 0, 0), *own]
    return [
        own[i] if i < len(own) and own[i] != (0, 0, 0) else default_colour(i)
        for i in range(highest + 1)
    ]


def _labels(case: Case, examined: Examination, proposal: Proposal | None) -> Picture:
    """Return one index per pixel; of overlapping classes the last one."""
    planes = [labels_of(path, examined, proposal) for path in case.mask_files]
    if examined.surveyed.spec.task == "multiclass":
        return planes[0]
    drawn = np.zeros_like(planes[0])
    for index, plane in enumerate(planes, start=1):
        drawn[plane == 1] = index
    return drawn


def _shrunk(picture: Picture, interpolation: int) -> Picture:
    scale = SIDE_PX / max(picture.shape[:2])
    size = [max(1, round(side * min(scale, 2.0))) for side in picture.shape[:2]]
    if scale > 1:
        interpolation = cv2.INTER_NEAREST
    shrunk: Picture = cv2.resize(picture, (size[1], size[0]), interpolation=interpolation)
    return shrunk


def _uri(picture: Picture) -> str:
    settings: Sequence[int] = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(picture[:, :, ::-1]), settings)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")

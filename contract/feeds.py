"""The arrays that a run is fed with: whether they fit the model, and those that nobody gave."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import ChannelMismatch, RequestInvalid
from contract.run import Arrays
from contract.spec import ModelSpec
from contract.statistics import image_statistics


def check_image(
    spec: ModelSpec, image: NDArray[Any], *, axes: str, dtypes: Sequence[type] = (np.float32,)
) -> None:
    """Check an image or a batch of them.

    Args:
        spec: of the file.
        image: raw intensities.
        axes: a letter for each, such as ``NCHW``.
        dtypes: that it may have.

    Raises:
        RequestInvalid: wrong type or number of axes.
        ChannelMismatch: another number of channels than the model takes.
    """
    if not isinstance(image, np.ndarray) or image.dtype not in dtypes:
        raise RequestInvalid(
            f"the image is {getattr(image, 'dtype', type(image).__name__)}; "
            "give raw intensities as a float32 array, not scaled"
        )
    if image.ndim != len(axes) or image.size == 0:
        raise RequestInvalid(
            f"the image has shape {list(image.shape)}; give [{', '.join(axes)}], each >= 1"
        )
    channels = image.shape[axes.index("C")]
    if channels != spec.channels:
        raise ChannelMismatch(
            f"the image has {channels} channels; {spec.name} takes {spec.channels}"
        )


def checked_statistics(
    spec: ModelSpec, statistics: NDArray[np.float32], *, batch: int, taken: bool
) -> NDArray[np.float32]:
    """Return ``statistics``, contiguous, if they fit a batch: float32 ``[1 or N, C, 2]``.

    Raises:
        RequestInvalid: they do not, or the graph has no such input (``taken``).
    """
    if not taken:
        raise RequestInvalid(f"{spec.name} has no input 'statistics'; leave them out")
    shapes = [(rows, spec.channels, 2) for rows in (1, batch)]
    if statistics.dtype != np.float32 or statistics.shape not in shapes:
        raise RequestInvalid(
            f"statistics are {statistics.dtype} {list(statistics.shape)}; give float32 "
            f"[1 or {batch}, {spec.channels}, 2] (mean, std)"
        )
    return np.ascontiguousarray(statistics)


def check_outputs(outputs: Collection[str], known: Collection[str]) -> None:
    """Check which outputs are asked for.

    Raises:
        RequestInvalid: none, or one that there is not.
    """
    if set(outputs) - set(known) or not outputs:
        raise RequestInvalid(f"outputs {sorted(outputs)} asked for; the file has {list(known)}")


def whole_feeds(
    spec: ModelSpec, feeds: Arrays, *, takes_statistics: bool, own_statistics: bool
) -> Arrays:
    """Return feeds for all inputs, the optional ones too, with a row for each image.

    Args:
        spec: of the file.
        feeds: ``image``, and the optional ones that were given.
        takes_statistics: whether the graph has that input.
        own_statistics: reduce an image's statistics here, in float64, where none are given;
            otherwise NaN, by which the graph does it.
    """
    image_nchw = feeds["image"]
    batch = len(image_nchw)
    found = dict(feeds)
    if takes_statistics:
        unknown = np.full((spec.channels, 2), np.nan, np.float32)
        rows = _rows(feeds.get("statistics", unknown[None]), batch)
        if own_statistics and np.isnan(rows).any():
            own = np.stack([image_statistics(image_chw) for image_chw in image_nchw])
            rows = np.where(np.isnan(rows), own, rows)
        found["statistics"] = rows
    if spec.skip_gain_strides:
        untouched = np.ones((1, len(spec.skip_gain_strides)), np.float32)
        found["skip_gain"] = _rows(feeds.get("skip_gain", untouched), batch)
    return found


def _rows(array: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.broadcast_to(array, (batch, *array.shape[1:])))

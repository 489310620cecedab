"""What a graph answers on labelled images, as pixels to fit a temperature and thresholds on."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from contract.decision import Task
from imaging.channels import to_chw_float32
from training.calibrate.reliability import NOTHING, Reliability, reliability_of
from training.data.case import Case
from training.data.folder import IGNORE, FolderDataset, load_image, load_mask

# All pixels of an image up to 256 x 256; of a larger one as many, drawn evenly.
PIXELS_PER_CASE = 1 << 16

Logits = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b k h w"]]


@dataclass(frozen=True)
class Observed:
    """Pixels of one image.

    Attributes:
        logits: float32 ``[K, n]``, before any temperature.
        truth: multiclass ``[n]`` class indices; multilabel ``[K, n]`` of 0/1.
        counted: bool, shaped as ``truth``: False where the mask says to ignore.
    """

    logits: NDArray[np.float32]
    truth: NDArray[np.uint8]
    counted: NDArray[np.bool_]


def observe(
    logits_for: Callable[[str], Logits],
    dataset: FolderDataset,
    stems: Iterable[str],
    *,
    channels: int,
) -> Iterator[Observed]:
    """Yield one ``Observed`` per image.

    Args:
        logits_for: the stem of an image to what answers for it: nets that were trained on the
            image must have no part in it.
        dataset: images and masks.
        stems: of the images.
        channels: C of the input.
    """
    for index, case in enumerate(dataset.select(list(stems))):
        image, mask = _load(case, dataset, channels)
        with torch.inference_mode():
            logits = logits_for(case.stem)(torch.from_numpy(image)[None])[0].numpy()
        yield pick(logits, mask, seed=index)


def pick(
    logits: Float[NDArray[np.float32], "k h w"],
    mask: Integer[NDArray[np.uint8], "*k h w"],
    *,
    seed: int,
    pixels: int = PIXELS_PER_CASE,
) -> Observed:
    """Return at most ``pixels`` pixels of one image, each place drawn at most once."""
    flat = logits.reshape(len(logits), -1)
    truth = mask.reshape(*mask.shape[:-2], -1)
    if flat.shape[1] > pixels:
        drawn = np.random.default_rng(seed).choice(flat.shape[1], pixels, replace=False)
        flat, truth = flat[:, drawn], truth[..., drawn]
    return Observed(logits=flat, truth=truth, counted=truth != IGNORE)


def probabilities(logits: NDArray[np.floating], task: Task) -> NDArray[np.float64]:
    """Return softmax over the first axis, or for ``multilabel`` a sigmoid each, in float64."""
    wide = logits.astype(np.float64)
    if task == "multilabel":
        return np.asarray(np.exp(-np.logaddexp(0.0, -wide)))
    exponentials = np.exp(wide - wide.max(axis=0))
    return np.asarray(exponentials / exponentials.sum(axis=0))


def reliability_at(observed: Iterable[Observed], temperature: float, task: Task) -> Reliability:
    """Return the counts over all images with logits divided by ``temperature``."""
    total = NOTHING
    for one in observed:
        p = probabilities(one.logits / temperature, task)
        total = total + reliability_of(p, one.truth, one.counted, task)
    return total


def _load(
    case: Case, dataset: FolderDataset, channels: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    return to_chw_float32(load_image(case, channels)), load_mask(case, dataset.spec)

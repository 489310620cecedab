"""The gate that a precision variant has to pass: as its file answers, so it is judged."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from contract.answers import check_answers
from contract.decision import tie_margin
from contract.errors import LongskipError
from contract.golden import OUTPUTS
from contract.model import Model
from contract.spec import Precision
from training.data.split import Split
from training.graph.prove import PROOF_BATCHES, PROOF_SIZES, proof_batch
from training.score.cases import ScoredCase, scored_classes

Part = Literal["validation", "test"]

MAX_DICE_LOSS = 0.005
# A pixel whose two best classes lie closer than this in fp32 is a tie that either may win.
CLEAR_MARGIN = 0.2
# Of all clear pixels of the synthetic pictures. What is wrong at a size flips far more.
# The shipped nets' int8 files flipped at most 0.18 % at one size and 0.02 % over all sizes.
MAX_CLEAR_FLIPS: dict[Precision, float] = {"fp16": 0.001, "int8": 0.02}
# At 1 x 1 one flipped label is a large share; it tells nothing.
FEW_PIXELS = 16


class VariantRefused(LongskipError):
    """A precision variant answers too differently from the fp32 file."""


def check_sizes(
    variant: Model,
    full: Model,
    *,
    intensity_range: tuple[float, float],
    sizes: Sequence[tuple[int, int]] = PROOF_SIZES,
) -> float:
    """Compare the two files at sizes and batches that were neither traced nor calibrated.

    Returns:
        The share of clear pixels, over all sizes, whose label differs.

    Raises:
        VariantRefused: an optional input is lost, or at one size too many clear labels differ.
        ModelBroken: a size fails, probabilities do not sum to 1, or an image's answer depends on
            its batch.
    """
    spec, name = full.spec, variant.path.name
    if variant.takes_statistics != full.takes_statistics:
        raise VariantRefused(f"{name} has lost the optional input 'statistics'")
    check_answers(variant, intensity_range=intensity_range)
    allowed = MAX_CLEAR_FLIPS[variant.precision]
    flips = pixels = 0
    for size in tqdm(sizes, desc=f"proving {variant.precision}", unit="size", disable=None):
        flips_here = pixels_here = 0
        for batch in PROOF_BATCHES:
            image = proof_batch(range(batch), spec.channels, size, intensity_range)
            flipped, clear = _clear_flips(variant, full, image)
            flips_here, pixels_here = flips_here + flipped, pixels_here + clear
        if flips_here > allowed * pixels_here + FEW_PIXELS:
            raise VariantRefused(
                f"{name} gives other labels than fp32 to {flips_here} of {pixels_here} clear "
                f"pixels at {size[0]}x{size[1]}, allowed are {allowed:.1%}"
            )
        flips, pixels = flips + flips_here, pixels + pixels_here
    return flips / max(pixels, 1)


def check_dial(
    variant: Model,
    full: Model,
    *,
    intensity_range: tuple[float, float],
    sizes: Sequence[tuple[int, int]] = PROOF_SIZES,
) -> None:
    """Compare the two files with their long skips turned down; nothing where they have no dial.

    That the input is there has been checked when ``variant`` was opened.

    Raises:
        VariantRefused: over all sizes too many clear labels differ.
    """
    levels = len(full.spec.skip_gain_strides)
    if levels == 0:
        return
    gains = np.stack([np.zeros(levels), np.full(levels, 0.5), np.arange(levels) > 0])
    flips = pixels = 0
    for size in sizes:
        image = proof_batch(range(len(gains)), full.spec.channels, size, intensity_range)
        flipped, clear = _clear_flips(variant, full, image, gains.astype(np.float32))
        flips, pixels = flips + flipped, pixels + clear
    allowed = MAX_CLEAR_FLIPS[variant.precision]
    if flips > allowed * pixels + FEW_PIXELS:
        raise VariantRefused(
            f"{variant.path.name} gives other labels than fp32 to {flips} of {pixels} clear pixels "
            f"with its skips turned down, allowed are {allowed:.1%}"
        )


def _clear_flips(
    variant: Model,
    full: Model,
    image_nchw: NDArray[np.float32],
    skip_gain: NDArray[np.float32] | None = None,
) -> tuple[int, int]:
    """Return how many of fp32's clear pixels have another label, and how many are clear."""
    expected = full.run(image_nchw, skip_gain=skip_gain, outputs=OUTPUTS)
    found = variant.run(image_nchw, skip_gain=skip_gain)["labels"]
    spec = full.spec
    margin = tie_margin(expected["probabilities"], spec.task, spec.thresholds_prob)
    clear = margin > CLEAR_MARGIN
    return int((clear & (found != expected["labels"])).sum()), int(clear.sum())


def judging_part(split: Split) -> Part | None:
    """Return the part whose images judge a variant: none of them trained any member of the model.

    Validation; where folds leave no image that validates all members, the held-out test part, which
    also stays out of int8's calibration. None where there is neither.
    """
    if split.val:
        return "validation"
    return "test" if split.test else None


def dice_loss(model: Model, full: Sequence[ScoredCase], variant: Sequence[ScoredCase]) -> float:
    """Return how much Dice the class that loses most loses on the same cases.

    The mean over classes would let a rare class go for nothing. Negative where all gain; NaN where
    no case holds any class.
    """
    losses = [
        _mean([case.scores[index].dice for case in full])
        - _mean([case.scores[index].dice for case in variant])
        for index in scored_classes(model)
    ]
    known = [loss for loss in losses if not np.isnan(loss)]
    return max(known) if known else float("nan")


def check_dice(
    precision: Precision, loss: float, *, max_dice_loss: float, part: Part = "validation"
) -> None:
    """Raise VariantRefused where ``loss`` (of ``dice_loss``) is above ``max_dice_loss``."""
    if loss <= max_dice_loss:
        return
    if np.isnan(loss):
        raise VariantRefused(
            f"{precision} cannot be judged: no {part} mask holds any class. Train with a "
            f"{part} part that shows every class"
        )
    raise VariantRefused(
        f"{precision} loses {loss:.4f} {part} Dice against fp32, allowed are "
        f"{max_dice_loss:g}. Do without it, or allow more by --max-dice-loss"
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")

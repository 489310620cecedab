"""How often each image is drawn: evenly, or more often where it shows what few others show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.case import CaseFacts
from training.data.look import alike_shares

# No image is drawn more than this many times as often as the most common ones.
MOST_REPEATED = 10.0
# Tells the generator of an epoch's draws from that of any sample, whose numbers are three.
STREAM = (0, 1)


@dataclass(frozen=True)
class Draws:
    """Which image each sample of an epoch shows; (seed, epoch, sample) decides.

    The samples of an epoch are laid evenly over the images, each of which is as wide as its
    factor, from a start that the epoch draws. So an image comes up as often as its factor says,
    rounded up or down, in every epoch; with equal factors it comes up ``samples / images`` times.

    Attributes:
        factors: how often each image is drawn, relative to the others.
        samples: in one epoch.
        seed: of the data.
    """

    factors: NDArray[np.float64]
    samples: int
    seed: int

    def image_of(self, epoch: int, sample: int) -> int:
        """Return the image's index."""
        start = np.random.default_rng((self.seed, epoch, *STREAM)).random()
        ends = np.cumsum(self.factors)
        place = (sample + start) / self.samples * ends[-1]
        return min(int(np.searchsorted(ends, place, side="right")), len(ends) - 1)


def repeat_factors(
    facts: Sequence[CaseFacts],
    *,
    rare_share: float,
    area_power: float = 0.0,
    patch_hw: tuple[int, int] | None = None,
    background: bool = True,
) -> NDArray[np.float64]:
    """Return how often each image is to be drawn; 1 for a common one.

    An image that holds a class, or is of a kind, that only a share ``f < rare_share`` of the
    images holds or is of, counts ``sqrt(rare_share / f)`` times: the repeat factor of LVIS (Gupta
    2019, section 3.3), the largest of its classes' and its kind's. An image of more pixels than a
    patch counts ``(pixels / patch)^area_power`` times as well.

    Args:
        facts: of the training images.
        rare_share: below which a class or kind is rare; 0: none is.
        area_power: 0: size does not count; 1: every pixel is shown equally often.
        patch_hw: None: images are taken whole, so that size does not count.
        background: whether the first class is none.
    """
    factors = np.ones(len(facts))
    if rare_share > 0:
        held = np.array([fact.class_pixels for fact in facts], dtype=np.int64) > 0  # [n, K]
        held = held[:, 1:] if background else held
        shares = np.maximum(held.mean(axis=0), 1 / len(facts))
        rarest = np.where(held, shares, 1.0).min(axis=1, initial=1.0)
        rarest = np.minimum(rarest, alike_shares([fact.look for fact in facts]))
        factors *= np.sqrt(np.maximum(rare_share / rarest, 1.0))
    if area_power > 0 and patch_hw is not None:
        pixels = np.array([fact.height_px * fact.width_px for fact in facts], dtype=np.float64)
        factors *= np.maximum(pixels / (patch_hw[0] * patch_hw[1]), 1.0) ** area_power
    least: float = factors.min()
    return np.minimum(factors, MOST_REPEATED * least)

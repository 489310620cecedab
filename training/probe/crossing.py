"""Where two curves cross: the strength of a shift up to which one net is better than another."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from contract.bootstrap import tail_level
from contract.metrics import group_numbers

RESAMPLES = 2000


@dataclass(frozen=True)
class Crossing:
    """Where the mean difference of two nets first changes its sign.

    Attributes:
        at: strength, interpolated linearly between two measured ones; None: they do not cross.
        ci95: bootstrap 95 % interval of it, over those resamples in which they cross; None where
            fewer than half of them do, or there is one case only.
        share: of the resamples in which they cross.
        cases: that both nets have a score of.
    """

    at: float | None
    ci95: tuple[float, float] | None
    share: float
    cases: int


def crossing(
    strengths: Sequence[float],
    differences: NDArray[np.float64],
    *,
    groups: Sequence[str | None] | None = None,
    seed: int = 0,
) -> Crossing:
    """Find the crossing of two nets' mean scores, and how sure it is.

    Args:
        strengths: rising.
        differences: ``[cases, strengths]``, one net's score minus the other's; a case with a NaN
            is left out.
        groups: of each case, drawn together; None: each case by itself.
        seed: of the resampling.
    """
    scored = ~np.isnan(differences).any(axis=1)
    known = differences[scored]
    if not len(known):
        return Crossing(None, None, 0.0, 0)
    numbers = group_numbers(groups, len(differences))
    _, places = np.unique(
        np.arange(len(known)) if numbers is None else numbers[scored], return_inverse=True
    )
    independent = int(places.max()) + 1
    at = first_crossing(strengths, known.mean(axis=0))
    if independent < 2:
        return Crossing(at, None, float(at is not None), len(known))
    random = np.random.Generator(np.random.PCG64(seed))
    drawn = random.multinomial(
        independent, np.full(independent, 1 / independent), size=RESAMPLES
    )  # how often each group is in each resample
    weights = drawn[:, places].astype(np.float64)
    means = weights @ known / weights.sum(axis=1, keepdims=True)
    found = [first_crossing(strengths, mean) for mean in means]
    crossed = np.array([place for place in found if place is not None])
    ci95 = None
    if at is not None and crossed.size >= RESAMPLES / 2:
        tail = tail_level(independent)
        low, high = np.quantile(crossed, [tail, 1 - tail])
        ci95 = (float(low), float(high))
    return Crossing(at, ci95, crossed.size / RESAMPLES, len(known))


def first_crossing(strengths: Sequence[float], difference: NDArray[np.float64]) -> float | None:
    """Return where ``difference`` first passes from one sign to the other; 0 is no sign."""
    signed = [(s, d) for s, d in zip(strengths, difference, strict=True) if d != 0]
    for (before, d0), (after, d1) in pairwise(signed):
        if d0 * d1 < 0:
            return float(before + (after - before) * d0 / (d0 - d1))
    return None

"""Bootstrap interval (Efron 1979): how far a mean over cases may be off by chance.

The plain percentile interval is too narrow for few cases: of nominal 95 % it holds the truth in
83 % at 5 normal cases. Its levels are therefore widened until normal cases are covered as by a
t interval (Hesterberg 2015, "expanded percentile"); from some 50 cases on the two are the same.

Cases of one group (patient, slide) are alike, so drawing them one by one makes the interval too
narrow. With groups, whole groups are drawn (cluster bootstrap: Davison and Hinkley 1997, section
3.8; Field and Welsh 2007), and the levels are widened by the number of groups.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

# Indices drawn at once: 32 MB, whatever the number of cases.
DRAWN_AT_ONCE = 1 << 22


def mean_ci95(
    values: NDArray[np.float64],
    *,
    groups: NDArray[np.integer[Any]] | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> tuple[float, float]:
    """Return the 95 % interval of the mean over cases under resampling of cases or groups.

    Args:
        values: one finite number per case, ``[n]`` with n >= 1.
        groups: the group of each case, any whole numbers ``[n]``; None: each case by itself.
        seed: of the resampling; the same seed gives the same interval.
        resamples: bootstrap samples.
    """
    if groups is None:
        groups = np.arange(values.size)
    _, places = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(places, weights=values), np.bincount(places)
    random = np.random.Generator(np.random.PCG64(seed))
    per_round = max(1, DRAWN_AT_ONCE // sums.size)
    drawn = (
        random.integers(sums.size, size=(rows, sums.size)) for rows in _rounds(resamples, per_round)
    )
    # A drawn group brings all of its cases: the mean is over cases still.
    means = np.concatenate([sums[d].sum(axis=1) / counts[d].sum(axis=1) for d in drawn])
    tail = tail_level(sums.size)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def tail_level(cases: int) -> float:
    """Return the percentile level of either end: 0.025 for many cases (groups), less for few."""
    if cases < 2:
        return 0.0
    return float(ndtr(-np.sqrt(cases / (cases - 1)) * stdtrit(cases - 1, 0.975)))


def _rounds(total: int, per_round: int) -> list[int]:
    full, rest = divmod(total, per_round)
    return [per_round] * full + ([rest] if rest else [])

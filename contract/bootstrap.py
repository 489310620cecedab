"""Percentile bootstrap (Efron 1979): how far a mean over cases may be off by chance."""

import numpy as np
from numpy.typing import NDArray

# Indices drawn at once: 32 MB, whatever the number of cases.
DRAWN_AT_ONCE = 1 << 22


def mean_ci95(
    values: NDArray[np.float64], *, seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """Return the 95 % interval of the mean under resampling of cases.

    Args:
        values: one finite number per case, ``[n]`` with n >= 1.
        seed: of the resampling; the same seed gives the same interval.
        resamples: bootstrap samples.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    per_round = max(1, DRAWN_AT_ONCE // values.size)
    means = np.concatenate(
        [
            values[random.integers(values.size, size=(rows, values.size))].mean(axis=1)
            for rows in _rounds(resamples, per_round)
        ]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _rounds(total: int, per_round: int) -> list[int]:
    full, rest = divmod(total, per_round)
    return [per_round] * full + ([rest] if rest else [])

"""Bootstrap interval (Efron 1979): how far a mean over cases may be off by chance.

The plain percentile interval is too narrow for few cases: of nominal 95 % it holds the truth in
83 % at 5 normal cases. Its levels are therefore widened until normal cases are covered as by a
t interval (Hesterberg 2015, "expanded percentile"); from some 50 cases on the two are the same.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

# Indices drawn at once: 32 MB, whatever the number of cases.
DRAWN_AT_ONCE = 1 << 22


def mean_ci95(
    values: NDArray[np.float64], *, seed: int = 0, resamples: int = 10_000
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
    tail = tail_level(values.size)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def tail_level(cases: int) -> float:
    """Return the percentile level of either end: 0.025 for many cases, less for few."""
    if cases < 2:
        return 0.0
    return float(ndtr(-np.sqrt(cases / (cases - 1)) * stdtrit(cases - 1, 0.975)))


def _rounds(total: int, per_round: int) -> list[int]:
    full, rest = divmod(total, per_round)
    return [per_round] * full + ([rest] if rest else [])

"""Two models on the same cases: how much better, and whether chance alone would do that."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.bootstrap import DRAWN_AT_ONCE
from contract.metrics import Summary, group_numbers, summarise

# 2^16 sign patterns take milliseconds; above, patterns are drawn.
EXACT_UP_TO = 16
DRAWN_PATTERNS = 19_999
# Sums of the same numbers in another order differ by rounding and still tie.
ROUNDING = 1e-12


@dataclass(frozen=True)
class PermutationTest:
    """Chance of a mean difference as large as this one, in either direction, without a real one.

    Attributes:
        p_value: two-sided.
        exact: all sign patterns were counted; else they were drawn.
    """

    p_value: float
    exact: bool


@dataclass(frozen=True)
class PairedDifference:
    """Ours minus the other's, case by case.

    Attributes:
        summary: of the differences; its ``excluded_empty`` are cases that lack a score.
        one_scored: those of them in which just one of the two models has a score, because it
            alone predicted a class that is not there. The mean is silent on them.
        test: None where no case has a difference.
    """

    summary: Summary
    one_scored: int
    test: PermutationTest | None


def paired_difference(
    ours: Iterable[float],
    others: Iterable[float],
    *,
    groups: Sequence[str | None] | None = None,
    seed: int = 0,
) -> PairedDifference:
    """Compare two models' scores of the same cases in the same order; NaN is no score.

    Args:
        ours: one per case.
        others: of the same cases.
        groups: as for ``summarise``. The test then flips the signs of a group's cases together,
            because what is exchanged under the hypothesis is independent between groups only.
        seed: of resampling and of drawn patterns.

    Raises:
        ValueError: not as many cases on either side.
    """
    pairs = np.array(list(zip(ours, others, strict=True)), dtype=np.float64).reshape(-1, 2)
    differences = pairs[:, 0] - pairs[:, 1]
    has_score = ~np.isnan(differences)
    of_group = group_numbers(groups, differences.size)
    exchanged: NDArray[np.float64] = differences[has_score]
    if of_group is not None:
        exchanged = np.bincount(of_group[has_score], weights=exchanged).astype(np.float64)
    lacking = np.isnan(pairs)
    return PairedDifference(
        summary=summarise(differences, groups=groups, seed=seed),
        one_scored=int(np.count_nonzero(lacking[:, 0] != lacking[:, 1])),
        test=sign_flip_test(exchanged, seed=seed) if has_score.any() else None,
    )


def sign_flip_test(
    differences: NDArray[np.float64], *, seed: int = 0, drawn: int = DRAWN_PATTERNS
) -> PermutationTest:
    """Test whether the mean of paired differences is 0 (Fisher's permutation test).

    If the two models were the same, each difference could as well have had the other sign. Up to
    16 cases that differ, all sign patterns are counted; beyond, ``drawn`` of them, and the
    observed one counts as one more, so that p is never 0 (Phipson and Smyth 2010).

    Args:
        differences: ``[n]``, n >= 1, finite, of cases or summed over groups. Zeros are no evidence
            and change nothing.
        seed: of the drawing.
        drawn: sign patterns to draw.
    """
    magnitudes = np.abs(differences[differences != 0])
    observed = abs(math.fsum(differences)) - ROUNDING * math.fsum(magnitudes)
    n = magnitudes.size
    if n <= EXACT_UP_TO:
        # Half of the patterns; the others are their mirror images.
        patterns = np.arange(2 ** max(n - 1, 0))[:, None] >> np.arange(n)[None] & 1
        sums = np.abs((1 - 2 * patterns) @ magnitudes)
        return PermutationTest(p_value=float(np.mean(sums >= observed)), exact=True)
    random = np.random.Generator(np.random.PCG64(seed))
    as_large, left = 0, drawn
    while left:
        rows = min(left, max(1, DRAWN_AT_ONCE // n))
        signs = random.integers(0, 2, (rows, n), dtype=np.int8) * 2 - 1
        as_large += int(np.count_nonzero(np.abs(signs @ magnitudes) >= observed))
        left -= rows
    return PermutationTest(p_value=(as_large + 1) / (drawn + 1), exact=False)

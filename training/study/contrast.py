"""One comparison of a study: arms weighed against each other, case by case and seed by seed.

Every comparison is a sum of weighed arms: arm minus reference, the mean of all arms with one level
of a factor minus that with another (main effect), or how much one factor's effect differs between
two levels of another (interaction). Each case's value is taken within a seed, whose runs share
order and augmentation, and then averaged over seeds; so each case (or group of cases) counts once,
however many seeds there are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from contract.measures import METRICS
from contract.metrics import Summary, group_numbers
from contract.paired import DRAWN_PATTERNS, EXACT_UP_TO, PermutationTest, paired_difference
from training.study.record import OF_THE_IMAGE, ScoreTable, mean_of_scored

Role = Literal["arm", "main", "interaction"]
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Contrast:
    """What is weighed.

    Attributes:
        role: of the comparison.
        name: of the arm, the level, or the two levels that meet.
        against: the reference arm, the reference level, or both reference levels.
        weights: by arm; they add up to 0.
    """

    role: Role
    name: str
    against: str
    weights: Mapping[str, float]


@dataclass(frozen=True)
class Effect:
    """What came out of a contrast for one metric of one class.

    Attributes:
        dataset, metric, kind: of what; ``kind`` is a class or an overall score.
        contrast: what was weighed.
        summary: over cases, of each case's mean over seeds; ``excluded_empty`` had no score.
        by_seed: the mean over cases of each seed that all arms of the contrast were run with.
        one_scored: cases in which only some of the arms have a score, on which the mean is silent.
        test: that the mean is 0; None where nothing was scored.
        family: how many tests Holm's correction is over.
        p_holm: after it; None as ``test``.
        overall: the score is of all classes, or of the only one.
    """

    dataset: str
    metric: str
    kind: str
    contrast: Contrast
    summary: Summary
    by_seed: Mapping[int, float]
    one_scored: int
    test: PermutationTest | None
    family: int = 1
    p_holm: float | None = None
    overall: bool = True

    @property
    def mean(self) -> float | None:
        """The difference; None where nothing was scored by all."""
        return self.summary.mean

    @property
    def seeds(self) -> int:
        """How many seeds there are of all arms."""
        return len(self.by_seed)

    @property
    def agreeing(self) -> int:
        """In how many seeds the difference has the sign of the mean."""
        sign = np.sign(self.mean or 0.0)
        return sum(bool(sign) and np.sign(value) == sign for value in self.by_seed.values())

    @property
    def sigma(self) -> float | None:
        """Standard deviation (n - 1) of the difference over seeds; None below two."""
        return sigma_of(list(self.by_seed.values()))

    @property
    def seeds_ci95(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the mean over seeds; None below two."""
        if self.sigma is None:
            return None
        middle = float(np.mean(list(self.by_seed.values())))
        reach = float(stdtrit(self.seeds - 1, 0.975)) * self.sigma / math.sqrt(self.seeds)
        return middle - reach, middle + reach

    @property
    def independent(self) -> int:
        """How many cases, or groups of them, the test has."""
        return self.summary.cases if self.summary.groups is None else self.summary.groups

    @property
    def least_p(self) -> float:
        """The smallest p that so many cases (groups) can give, before Holm's correction."""
        return least_p(self.independent)

    @property
    def least_p_holm(self) -> float:
        """The same after it: the smallest of the family is multiplied by the family's size."""
        return min(1.0, self.family * self.least_p)

    @property
    def improves(self) -> bool | None:
        """Whether the difference is for the better; None where there is none."""
        if not self.mean:
            return None
        return (self.mean > 0) != smaller_is_better(self.metric)

    @property
    def told(self) -> bool:
        """Whether the data tell it from 0: significant after Holm, and of one sign in all seeds."""
        return (
            self.p_holm is not None
            and self.p_holm <= SIGNIFICANT
            and self.agreeing == self.seeds > 0
        )


def weigh(
    contrast: Contrast, scores: ScoreTable, *, dataset: str, metric: str, kind: str
) -> Effect | None:
    """Return what a contrast came to; None where no seed was run with all of its arms."""
    seeds = scores.seeds_of(contrast.weights)
    if not seeds:
        return None
    # [seeds, arms, cases]
    values = np.array([[scores.values[arm, seed] for arm in contrast.weights] for seed in seeds])
    weights = np.array(list(contrast.weights.values()))[:, None]
    by_seed = (weights * values).sum(axis=1)
    lacking = np.isnan(values)
    by_case = mean_of_scored(by_seed, axis=0)
    found = paired_difference(by_case, np.zeros_like(by_case), groups=scores.groups)
    return Effect(
        dataset=dataset,
        metric=metric,
        kind=kind,
        contrast=contrast,
        summary=found.summary,
        by_seed={
            seed: float(np.nanmean(row))
            for seed, row in zip(seeds, by_seed, strict=True)
            if not np.isnan(row).all()
        },
        one_scored=int(np.count_nonzero((lacking.any(axis=1) & ~lacking.all(axis=1)).any(axis=0))),
        test=found.test,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values that hold for all tests of a family together (Holm 1979).

    The smallest of m is multiplied by m, the next by m - 1, and so on; none may come out smaller
    than one that was smaller before.
    """
    adjusted, worst = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return adjusted


def least_p(independent: int) -> float:
    """Return the smallest two-sided p of a sign-flip test of so many cases or groups."""
    if independent < 1:
        return 1.0
    if independent > EXACT_UP_TO:
        return 1 / (DRAWN_PATTERNS + 1)
    return float(2.0 ** (1 - independent))


def sigma_of(values: Sequence[float]) -> float | None:
    """Return the standard deviation with n - 1; None below two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def smaller_is_better(metric: str) -> bool:
    """Whether a metric is an error or a distance."""
    return metric in OF_THE_IMAGE or METRICS[metric].is_length


def independent_cases(scores: ScoreTable) -> int:
    """Return how many cases, or groups of cases, a table has."""
    numbers = group_numbers(scores.groups, len(scores.stems))
    return len(scores.stems) if numbers is None else int(np.unique(numbers).size)

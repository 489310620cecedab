"""What a study's tables say: each arm's scores, each against the reference, each factor's effect.

The unit is the case (or group of cases, where the data set has patients or slides): a case's score
is its mean over seeds, and intervals and tests are over cases (``contract/bootstrap.py``,
``contract/paired.py``). σ is the standard deviation over seeds (n - 1) of the mean over cases, and
so says what another training alone would change.

A run that collapsed (one class everywhere) or diverged counts with the scores that it made: left
out, an arm would gain by failing altogether. A run that failed has no scores.
"""

import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from contract.metrics import Summary, summarise
from training.fit.atomic import replace_file
from training.study.config import StudyConfig
from training.study.contrast import Contrast, Effect, holm, sigma_of, weigh
from training.study.record import RunRow, ScoreTable, StudyRecord, mean_of_scored
from training.study.tune import at_edge

ARMS_TABLE, TESTS_TABLE = "arms.csv", "tests.csv"
BAD_STATES = ("collapsed", "diverged", "failed", "not done")


@dataclass(frozen=True)
class Estimate:
    """One metric of one class of one arm.

    Attributes:
        dataset, metric, kind, arm: of what.
        summary: over cases, of each case's mean over seeds.
        by_seed: mean over cases.
    """

    dataset: str
    metric: str
    kind: str
    arm: str
    summary: Summary
    by_seed: Mapping[int, float]

    @property
    def sigma(self) -> float | None:
        """Standard deviation (n - 1) over seeds; None below two."""
        return sigma_of(list(self.by_seed.values()))


@dataclass(frozen=True)
class Rate:
    """The learning rate of an arm.

    Attributes:
        dataset, arm: of what.
        chosen: that its runs have.
        tries: rate -> validation Dice of its try; None where the try has no score.
        edge: it is the lowest or highest of those tried, so a better one may lie beyond.
    """

    dataset: str
    arm: str
    chosen: float
    tries: Mapping[float, float | None]
    edge: bool


@dataclass(frozen=True)
class Analysis:
    """All that a report says in figures.

    Attributes:
        record: what it was made from.
        estimates: by (dataset, metric, kind, arm).
        effects: in the order of the study: arms against the reference, then factors.
        rates: by (dataset, arm).
    """

    record: StudyRecord
    estimates: Mapping[tuple[str, str, str, str], Estimate]
    effects: tuple[Effect, ...]
    rates: Mapping[tuple[str, str], Rate]

    def states(self, dataset: str, arm: str) -> Counter[str]:
        """Return how many runs of an arm ended in each state."""
        return Counter(run.state for run in self.record.runs_of(dataset, arm))

    def estimate(self, dataset: str, metric: str, kind: str, arm: str) -> Estimate | None:
        """Return an arm's score, or None where no run of it has been scored."""
        return self.estimates.get((dataset, metric, kind, arm))

    def effects_of(
        self, dataset: str, metric: str, kind: str, *, factors: bool = False
    ) -> list[Effect]:
        """Return the comparisons of arms, or of factors, for one score."""
        return [
            effect
            for effect in self.effects
            if (effect.dataset, effect.metric, effect.kind) == (dataset, metric, kind)
            and (effect.contrast.role != "arm") == factors
        ]

    def main_kind(self, dataset: str, metric: str = "dice") -> str | None:
        """Return the overall score's kind; None where nothing has been trained and scored."""
        if not self.record.config.steps:
            return None
        return next(iter(self.record.kinds_of(dataset, metric)), None)


def analyse(record: StudyRecord) -> Analysis:
    """Return what a study's tables say so far."""
    estimates: dict[tuple[str, str, str, str], Estimate] = {}
    effects: list[Effect] = []
    contrasts = [*arm_contrasts(record.config), *factor_contrasts(record.config)]
    # What nets answer before any training says nothing.
    for dataset in record.config.datasets if record.config.steps else ():
        for metric in record.metrics_of(dataset):
            found: list[Effect] = []
            for kind in record.kinds_of(dataset, metric):
                scores = record.scores(dataset, metric, kind)
                for arm in record.config.all_arms:
                    estimate = _estimate(dataset, metric, kind, arm, scores)
                    if estimate is not None:
                        estimates[dataset, metric, kind, arm] = estimate
                weighed = (
                    weigh(contrast, scores, dataset=dataset, metric=metric, kind=kind)
                    for contrast in contrasts
                )
                found += [effect for effect in weighed if effect is not None]
            effects += _corrected(found, overall=record.kinds_of(dataset, metric)[0])
    return Analysis(record, estimates, tuple(effects), _rates(record))


def arm_contrasts(config: StudyConfig) -> list[Contrast]:
    """Return each arm against the reference."""
    return [
        Contrast("arm", arm, config.reference, {arm: 1.0, config.reference: -1.0})
        for arm in config.all_arms
        if arm != config.reference
    ]


def factor_contrasts(config: StudyConfig) -> list[Contrast]:
    """Return main effects and interactions of two factors, against the reference's levels.

    A factor's first level stands in where the reference is an arm of its own. Other factors are
    averaged over.
    """
    if len(config.factors) < 2:
        return []
    levels_by_arm = {arm: config.levels_of(arm) for arm in config.all_arms}
    levels_by_arm = {arm: levels for arm, levels in levels_by_arm.items() if levels}
    base = levels_by_arm.get(config.reference) or {
        factor: next(iter(levels)) for factor, levels in config.factors.items()
    }

    def mean_of(wanted: Mapping[str, str], sign: float) -> dict[str, float]:
        chosen = [
            arm
            for arm, levels in levels_by_arm.items()
            if all(levels[factor] == level for factor, level in wanted.items())
        ]
        return {arm: sign / len(chosen) for arm in chosen}

    others = {f: [level for level in config.factors[f] if level != base[f]] for f in config.factors}
    found = [
        Contrast(
            "main",
            level,
            base[factor],
            {**mean_of({factor: level}, 1), **mean_of({factor: base[factor]}, -1)},
        )
        for factor, levels in others.items()
        for level in levels
    ]
    for one, two in itertools.combinations(config.factors, 2):
        for a, b in itertools.product(others[one], others[two]):
            weights = {
                **mean_of({one: a, two: b}, 1),
                **mean_of({one: a, two: base[two]}, -1),
                **mean_of({one: base[one], two: b}, -1),
                **mean_of({one: base[one], two: base[two]}, 1),
            }
            found.append(
                Contrast("interaction", f"{a} × {b}", f"{base[one]}, {base[two]}", weights)  # noqa: RUF001
            )
    return found


def _estimate(
    dataset: str, metric: str, kind: str, arm: str, scores: ScoreTable
) -> Estimate | None:
    seeds = scores.seeds_of([arm])
    if not seeds:
        return None
    values = np.array([scores.values[arm, seed] for seed in seeds])  # [seeds, cases]
    by_seed = {
        seed: float(np.nanmean(row))
        for seed, row in zip(seeds, values, strict=True)
        if not np.isnan(row).all()
    }
    by_case = mean_of_scored(values, axis=0)
    return Estimate(dataset, metric, kind, arm, summarise(by_case, groups=scores.groups), by_seed)


def _corrected(effects: Sequence[Effect], *, overall: str) -> list[Effect]:
    """Correct the tests of one data set and metric.

    Families: the overall score, and the single classes together; arms and factors by themselves.
    So a study that looks at five classes does not spend its one question on them.
    """
    families: dict[tuple[bool, bool], list[int]] = {}
    for place, effect in enumerate(effects):
        if effect.test is not None:
            key = effect.kind == overall, effect.contrast.role == "arm"
            families.setdefault(key, []).append(place)
    corrected = [replace(effect, overall=effect.kind == overall) for effect in effects]
    for places in families.values():
        tests = [effects[place].test for place in places]
        adjusted = holm([test.p_value for test in tests if test is not None])
        for place, p in zip(places, adjusted, strict=True):
            corrected[place] = replace(corrected[place], family=len(places), p_holm=p)
    return corrected


def _rates(record: StudyRecord) -> dict[tuple[str, str], Rate]:
    tries: dict[tuple[str, str], dict[float, float | None]] = {}
    for run in record.tries:
        if run.scored:
            dice = run.number("dice")
            own = tries.setdefault((run.dataset, run.arm), {})
            own[run.lr] = None if np.isnan(dice) else dice
    rates: dict[tuple[str, str], Rate] = {}
    for run in record.runs:
        key = run.dataset, run.arm
        own = tries.get(key, {})
        rates.setdefault(key, Rate(*key, run.lr, own, bool(own) and at_edge(run.lr, list(own))))
    return rates


def bad_runs(record: StudyRecord) -> list[RunRow]:
    """Return reported runs that did not end well, those not done yet left out."""
    return [run for run in record.runs if run.state in BAD_STATES[:3]]


def write_tables(analysis: Analysis, root: Path) -> None:
    """Write ``arms.csv`` and ``tests.csv``: everything that the report's tables show, unrounded."""
    _write(root / ARMS_TABLE, list(_arm_rows(analysis)))
    _write(root / TESTS_TABLE, [_test_row(effect) for effect in analysis.effects])


def _arm_rows(analysis: Analysis) -> Iterator[dict[str, object]]:
    for estimate in analysis.estimates.values():
        low, high = estimate.summary.ci95 or ("", "")
        states = analysis.states(estimate.dataset, estimate.arm)
        yield {
            "dataset": estimate.dataset,
            "metric": estimate.metric,
            "class": estimate.kind,
            "arm": estimate.arm,
            "mean": estimate.summary.mean,
            "ci95_low": low,
            "ci95_high": high,
            "sigma_over_seeds": estimate.sigma,
            "seeds": len(estimate.by_seed),
            "cases": estimate.summary.cases,
            "groups": estimate.summary.groups,
            "cases_without_score": estimate.summary.excluded_empty,
            **{f"runs_{state.replace(' ', '_')}": states[state] for state in BAD_STATES},
        }


def _test_row(effect: Effect) -> dict[str, object]:
    low, high = effect.summary.ci95 or ("", "")
    seeds_low, seeds_high = effect.seeds_ci95 or ("", "")
    return {
        "dataset": effect.dataset,
        "metric": effect.metric,
        "class": effect.kind,
        "comparison": effect.contrast.role,
        "name": effect.contrast.name,
        "against": effect.contrast.against,
        "difference": effect.mean,
        "ci95_low": low,
        "ci95_high": high,
        "cases": effect.summary.cases,
        "groups": effect.summary.groups,
        "cases_without_score": effect.summary.excluded_empty,
        "cases_scored_by_some": effect.one_scored,
        "p": None if effect.test is None else effect.test.p_value,
        "p_holm": effect.p_holm,
        "tests_in_family": effect.family,
        "least_p": effect.least_p,
        "least_p_holm": effect.least_p_holm,
        "seeds": effect.seeds,
        "seeds_of_this_sign": effect.agreeing,
        "sigma_over_seeds": effect.sigma,
        "seeds_ci95_low": seeds_low,
        "seeds_ci95_high": seeds_high,
        "told": effect.told,
    }


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], restval="")
    writer.writeheader()
    writer.writerows(
        {
            key: "" if value is None else f"{value:.7g}" if isinstance(value, float) else value
            for key, value in row.items()
        }
        for row in rows
    )
    replace_file(path, lambda file: file.write(text.getvalue().encode()))

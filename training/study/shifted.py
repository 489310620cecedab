"""How well arms hold out on shifted images, where the study's probe was ``shift`` (Kamath 2023).

A case's value is its Dice, mean over classes and over the strengths above 0, so that one figure
stands for a whole curve. It is compared as every score is: paired by case and seed, tested by
flipping signs, corrected over all arms and kinds of shift together.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.metrics import summarise
from training.study.analyse import Analysis, arm_contrasts
from training.study.contrast import Effect, holm, weigh
from training.study.phrases import amount, capital, listed, p_text, quoted
from training.study.record import ScoreTable, mean_of_scored
from training.study.results import Table, change_text
from training.study.sentence import interval_text, verdict

CASES = "probes/shift/cases.csv"


def shift_effects(analysis: Analysis, dataset: str) -> list[Effect]:
    """Return each arm against the reference under each kind of shift; ``Effect.kind`` is that.

    None where the study did not look.
    """
    effects = [
        effect
        for kind, scores in shifted_scores(analysis, dataset).items()
        for contrast in arm_contrasts(analysis.record.config)
        if (effect := weigh(contrast, scores, dataset=dataset, metric="dice", kind=kind))
    ]
    tested = [effect for effect in effects if effect.test is not None]
    p_values = holm([effect.test.p_value for effect in tested if effect.test is not None])
    corrected = dict(zip(map(id, tested), p_values, strict=True))
    return [
        replace(effect, family=len(tested), p_holm=corrected.get(id(effect))) for effect in effects
    ]


def shifted_scores(analysis: Analysis, dataset: str) -> dict[str, ScoreTable]:
    """Return kind of shift -> Dice of each run and case, over classes and strengths above 0."""
    main = analysis.main_kind(dataset)
    if main is None:
        return {}
    whole = analysis.record.scores(dataset, "dice", main)
    values: dict[str, dict[tuple[str, int], NDArray[np.float64]]] = {}
    for arm in analysis.record.config.all_arms:
        for run in analysis.record.runs_of(dataset, arm):
            path = analysis.record.folder(run) / CASES
            if run.scored and path.is_file():
                for kind, by_stem in _by_kind(path).items():
                    row = np.array([by_stem.get(stem, math.nan) for stem in whole.stems])
                    values.setdefault(kind, {})[arm, run.seed] = row
    return {kind: ScoreTable(whole.stems, whole.groups, found) for kind, found in values.items()}


def shift_table(analysis: Analysis, dataset: str) -> Table:
    """Return each arm's Dice on shifted images, and its difference from the reference."""
    scores = shifted_scores(analysis, dataset)
    effects = {(e.kind, e.contrast.name): e for e in shift_effects(analysis, dataset)}
    rows = [
        (arm, *(_cell(table, arm, effects.get((kind, arm))) for kind, table in scores.items()))
        for arm in analysis.record.config.all_arms
    ]
    return ("arm", *(f"Dice under {kind}" for kind in scores)), rows if scores else []


def shift_answer(analysis: Analysis) -> str:
    """Return what is told apart on shifted images; empty where the study did not look."""
    config = analysis.record.config
    effects = {d: shift_effects(analysis, d) for d in config.datasets}
    if not any(effects.values()):
        return ""
    several = len(config.datasets) > 1
    told = [
        f"under {effect.kind}{f' on {dataset}' if several else ''} {_clause(effect)}"
        for dataset, found in effects.items()
        for effect in found
        if effect.told
    ]
    kinds = list(dict.fromkeys(e.kind for found in effects.values() for e in found))
    about = f"On shifted images ({listed(kinds)}; mean over strengths)"
    if not told:
        return f"{about} no arm is told from {quoted(config.reference)}."
    silent = [
        kind
        for kind in kinds
        if not any(e.told for found in effects.values() for e in found if e.kind == kind)
    ]
    rest = f" Under {listed(silent)} no arm is told apart." if silent else ""
    return f"{about}: {'; '.join(told)}.{rest}"


def shift_note(analysis: Analysis, dataset: str) -> str:
    """Return what the table's figures are."""
    reference = quoted(analysis.record.config.reference)
    return capital(
        f"Dice on {dataset} with its images shifted, mean over classes and the strengths above 0. "
        f"In brackets the difference from {reference}, its 95 % CI, and p after Holm over all "
        "arms and shifts."
    )


def _by_kind(path: Path) -> dict[str, dict[str, float]]:
    """Return kind -> stem -> mean over strengths above 0 of the mean over classes."""
    seen: dict[str, dict[str, dict[str, list[float]]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if float(row["strength"]) > 0:
                strengths = seen.setdefault(row["kind"], {}).setdefault(row["stem"], {})
                values = strengths.setdefault(row["strength"], [])
                if row["dice"]:
                    values.append(float(row["dice"]))
    return {
        kind: {stem: _mean_of_means(strengths) for stem, strengths in stems.items()}
        for kind, stems in seen.items()
    }


def _mean_of_means(strengths: Mapping[str, list[float]]) -> float:
    means = [float(np.mean(values)) for values in strengths.values() if values]
    return float(np.mean(means)) if means else math.nan


def _cell(scores: ScoreTable, arm: str, effect: Effect | None) -> str:
    seeds = scores.seeds_of([arm])
    if not seeds:
        return ""
    by_case = mean_of_scored(np.array([scores.values[arm, seed] for seed in seeds]), axis=0)
    mean = summarise(by_case, resamples=1).mean
    text = "" if mean is None else amount(mean, "dice")
    if effect is None or effect.mean is None or effect.p_holm is None:
        return text
    change = change_text(effect).replace(" (", ", ").replace(")", "")
    return f"{text} ({change}, {p_text(effect.p_holm)})"


def _clause(effect: Effect) -> str:
    ci95, p = effect.summary.ci95, p_text(effect.p_holm or 0.0)
    interval = "" if ci95 is None else f"{interval_text(ci95, 'dice')}, "
    return f"{verdict(replace(effect, overall=True), '')} ({interval}{p})"

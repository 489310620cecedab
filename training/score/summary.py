"""What ``evaluate`` found, as JSON and as a table."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from contract.measures import METRICS
from contract.metrics import Summary
from contract.model import Model
from contract.paired import PairedDifference, paired_difference
from training.score.cases import (
    ScoredCase,
    case_dice,
    column_name,
    computed,
    groups_of,
    mean_dice,
    reliability_over,
    scored_classes,
    summarise_cases,
    uncertainty_of,
)
from training.score.uncertainty import MEASURES, correlation_with_error


def summary_of(
    model: Model,
    cases: Sequence[ScoredCase],
    *,
    in_training_set: int | None,
) -> dict[str, Any]:
    """Return the JSON summary: per metric and class mean, interval, counts."""
    ruler = cases[0].ruler
    spacings = sorted({case.ruler.spacing_mm or () for case in cases})
    names = model.spec.class_names
    return {
        "model": model.spec.name,
        "sha256": model.sha256,
        "provider": model.provider,
        "precision": model.precision,
        "images": len(cases),
        "images_in_training_set": in_training_set,
        "mean_dice": mean_dice(model, cases),
        "groups": len(set(groups_of(cases))) if any(groups_of(cases)) else None,
        "length_unit": ruler.unit,
        "spacing_mm": ruler.spacing_mm if len(spacings) == 1 else None,
        "spacings": len(spacings),
        "nsd_tolerance": ruler.nsd_tolerance,
        "one_empty": {
            names[index]: sum(case.one_empty(index) for case in cases)
            for index in scored_classes(model)
        },
        "calibration_error": _or_none(reliability_over(cases).ece),
        "uncertainty": summary_of_uncertainty(model, cases),
        "metrics": {
            metric: {name: _plain(summary) for name, summary in by_class.items()}
            for metric, by_class in summarise_cases(model, cases).items()
        },
    }


def differences(
    model: Model, cases: Sequence[ScoredCase], others: Sequence[ScoredCase]
) -> dict[str, dict[str, Any]]:
    """Return per metric and class the mean difference, ours minus the other's, and its test."""
    return {
        metric: {
            model.spec.class_names[index]: _plain_difference(
                paired_difference(
                    [case.value(metric, index) for case in cases],
                    [case.value(metric, index) for case in others],
                    groups=groups_of(cases),
                )
            )
            for index in classes
        }
        for metric, classes in computed(model, cases).items()
    }


def table(summary: dict[str, Any]) -> str:
    """Return the summary as aligned plain text, one row per class and metric."""
    unit = summary["length_unit"]
    lines = [
        f"{summary['model']}: {_of_images(summary)}; {_of_lengths(summary)}",
        *_aligned(_rows(summary, summary["metrics"], unit)),
        *_of_uncertainty(summary),
    ]
    if "against" in summary:
        other = summary["against"]
        lines += [
            "",
            f"{other['model']}, on the same images",
            *_aligned(_rows(other, other["metrics"], unit)),
            *_of_uncertainty(other),
            "",
            f"{summary['model']} minus {other['model']}, case by case; p by sign flips "
            "(* all patterns counted)",
            *_aligned(_difference_rows(summary["difference"], unit)),
        ]
    return "\n".join(lines)


def _of_images(summary: dict[str, Any]) -> str:
    if summary["groups"] is None:
        return f"{summary['images']} images"
    return (
        f"{summary['images']} images of {summary['groups']} groups, which intervals and tests are "
        "over"
    )


def _of_lengths(summary: dict[str, Any]) -> str:
    unit = summary["length_unit"]
    tolerance = f"NSD within {summary['nsd_tolerance']:g} {unit}"
    if unit == "px":
        return f"lengths in pixels, as no spacing is given; {tolerance}"
    if summary["spacing_mm"] is None:
        return (
            f"lengths in mm, {summary['spacings']} sizes of pixel, each image its own; {tolerance}"
        )
    steps = " x ".join(f"{step:g}" for step in summary["spacing_mm"])
    return f"lengths in mm, pixels of {steps} mm; {tolerance}"


def summary_of_uncertainty(model: Model, cases: Sequence[ScoredCase]) -> dict[str, Any]:
    """Return per measure its mean over images and how its rank goes with 1 - Dice."""
    dice = [case_dice(model, case) for case in cases]
    found = {}
    for measure in MEASURES:
        nats = np.array([uncertainty_of(case)[measure] for case in cases])
        if np.isnan(nats).all():
            continue
        correlation = correlation_with_error(list(nats), dice)
        found[measure] = {
            "mean_nats": float(np.nanmean(nats)),
            "spearman_with_error": correlation.rho,
            "cases": correlation.cases,
        }
    return found


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _of_uncertainty(summary: dict[str, Any]) -> list[str]:
    lines = []
    if summary["calibration_error"] is not None:
        lines.append(f"  calibration error {summary['calibration_error']:.4f} over all pixels")
    for measure, row in summary["uncertainty"].items():
        rho = row["spearman_with_error"]
        shown = "too few or equal images to tell" if rho is None else f"{rho:+.2f}"
        lines.append(
            f"  {measure} {row['mean_nats']:.4f} nats a pixel; rank correlation with 1 - Dice over "
            f"{row['cases']} images: {shown}"
        )
    return lines


def _rows(summary: dict[str, Any], metrics: dict[str, Any], unit: str) -> list[list[str]]:
    rows = [["class", "metric", "mean", "95 % interval", "n", "both empty", "one empty"]]
    for name, one_empty in summary["one_empty"].items():
        for metric, by_class in metrics.items():
            if name not in by_class:
                continue
            row = by_class[name]
            rows.append(
                [
                    name,
                    column_name(metric, unit),
                    *_mean_and_interval(row, ".4f" if not METRICS[metric].is_length else ".2f"),
                    str(row["cases"]),
                    str(row["excluded_empty"]),
                    str(one_empty),
                ]
            )
    return rows


def _difference_rows(by_metric: dict[str, Any], unit: str) -> list[list[str]]:
    rows = [["class", "metric", "difference", "95 % interval", "p", "n", "left out"]]
    names = dict.fromkeys(name for by_class in by_metric.values() for name in by_class)
    for name in names:
        for metric, by_class in by_metric.items():
            if name not in by_class:
                continue
            row = by_class[name]
            p = "-"
            if row["p_value"] is not None:
                p = f"{row['p_value']:.4f}{'*' if row['exact'] else ''}"
            left_out = str(row["excluded_empty"])
            if row["one_scored"]:
                left_out += f" ({row['one_scored']} scored by one model only)"
            rows.append(
                [
                    name,
                    column_name(metric, unit),
                    *_mean_and_interval(row, "+.4f" if not METRICS[metric].is_length else "+.2f"),
                    *(p, str(row["cases"]), left_out),
                ]
            )
    return rows


def _mean_and_interval(row: dict[str, Any], style: str) -> tuple[str, str]:
    if row["mean"] is None:
        return "-", "-"
    if row["ci95"] is None:
        return f"{row['mean']:{style}}", "-"
    return f"{row['mean']:{style}}", f"{row['ci95'][0]:{style}} to {row['ci95'][1]:{style}}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _plain(summary: Summary) -> dict[str, Any]:
    return {
        "mean": summary.mean,
        "ci95": summary.ci95,
        "cases": summary.cases,
        "excluded_empty": summary.excluded_empty,
    }


def _plain_difference(difference: PairedDifference) -> dict[str, Any]:
    test = difference.test
    return {
        **_plain(difference.summary),
        "one_scored": difference.one_scored,
        "p_value": None if test is None else test.p_value,
        "exact": None if test is None else test.exact,
    }

"""What ``evaluate`` found, as JSON and as a table."""

from collections.abc import Sequence
from typing import Any

from contract.measures import METRICS, Ruler
from contract.metrics import Summary
from contract.model import Model
from contract.paired import PairedDifference, paired_difference
from training.score.cases import (
    ScoredCase,
    column_name,
    computed,
    mean_dice,
    scored_classes,
    summarise_cases,
)


def summary_of(
    model: Model,
    cases: Sequence[ScoredCase],
    *,
    in_training_set: int | None,
    ruler: Ruler | None = None,
) -> dict[str, Any]:
    """Return the JSON summary: per metric and class mean, interval, counts."""
    ruler = ruler or Ruler()
    names = model.spec.class_names
    return {
        "model": model.spec.name,
        "sha256": model.sha256,
        "provider": model.provider,
        "precision": model.precision,
        "images": len(cases),
        "images_in_training_set": in_training_set,
        "mean_dice": mean_dice(model, cases),
        "length_unit": ruler.unit,
        "spacing_mm": ruler.spacing_mm,
        "nsd_tolerance": ruler.nsd_tolerance,
        "one_empty": {
            names[index]: sum(case.one_empty(index) for case in cases)
            for index in scored_classes(model)
        },
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
                )
            )
            for index in classes
        }
        for metric, classes in computed(model, cases).items()
    }


def table(summary: dict[str, Any]) -> str:
    """Return the summary as aligned plain text, one row per class and metric."""
    ruler = Ruler(spacing_mm=summary["spacing_mm"], tolerance=summary["nsd_tolerance"])
    lines = [
        f"{summary['model']}: {summary['images']} images; {_of_lengths(ruler)}",
        *_aligned(_rows(summary, summary["metrics"], ruler)),
    ]
    if "against" in summary:
        other = summary["against"]
        lines += [
            "",
            f"{other['model']}, on the same images",
            *_aligned(_rows(other, other["metrics"], ruler)),
            "",
            f"{summary['model']} minus {other['model']}, case by case; p by sign flips "
            "(* all patterns counted)",
            *_aligned(_difference_rows(summary["difference"], ruler)),
        ]
    return "\n".join(lines)


def _of_lengths(ruler: Ruler) -> str:
    tolerance = f"NSD within {ruler.nsd_tolerance:g} {ruler.unit}"
    if ruler.spacing_mm is None:
        return f"lengths in pixels, as no --spacing-mm is given; {tolerance}"
    steps = " x ".join(f"{step:g}" for step in ruler.spacing_mm)
    return f"lengths in mm, pixels of {steps} mm; {tolerance}"


def _rows(summary: dict[str, Any], metrics: dict[str, Any], ruler: Ruler) -> list[list[str]]:
    rows = [["class", "metric", "mean", "95 % interval", "n", "both empty", "one empty"]]
    for name, one_empty in summary["one_empty"].items():
        for metric, by_class in metrics.items():
            if name not in by_class:
                continue
            row = by_class[name]
            rows.append(
                [
                    name,
                    column_name(metric, ruler),
                    *_mean_and_interval(row, ".4f" if not METRICS[metric].is_length else ".2f"),
                    str(row["cases"]),
                    str(row["excluded_empty"]),
                    str(one_empty),
                ]
            )
    return rows


def _difference_rows(by_metric: dict[str, Any], ruler: Ruler) -> list[list[str]]:
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
                    column_name(metric, ruler),
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

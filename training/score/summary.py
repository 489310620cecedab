"""What ``evaluate`` found, as JSON and as a table."""

from collections.abc import Sequence
from typing import Any

from contract.metrics import Summary, summarise
from contract.model import Model
from training.score.cases import ScoredCase, mean_dice, scored_classes, summarise_cases


def summary_of(
    model: Model, cases: Sequence[ScoredCase], *, in_training_set: int | None
) -> dict[str, Any]:
    """Return the JSON summary: per metric and class mean, interval, counts."""
    return {
        "model": model.spec.name,
        "sha256": model.sha256,
        "provider": model.provider,
        "precision": model.precision,
        "images": len(cases),
        "images_in_training_set": in_training_set,
        "mean_dice": mean_dice(model, cases),
        "metrics": {
            metric: {name: _plain(summary) for name, summary in by_class.items()}
            for metric, by_class in summarise_cases(model, cases).items()
        },
    }


def paired_difference(
    model: Model, cases: Sequence[ScoredCase], others: Sequence[ScoredCase]
) -> dict[str, dict[str, Any]]:
    """Return per class the mean difference of Dice, ours minus the other's, case by case."""
    return {
        model.spec.class_names[index]: _plain(
            summarise(
                [
                    own.scores[index].dice - other.scores[index].dice
                    for own, other in zip(cases, others, strict=True)
                ]
            )
        )
        for index in scored_classes(model)
    }


def table(summary: dict[str, Any]) -> str:
    """Return the summary as aligned plain text."""
    lines = [f"{summary['model']}: {summary['images']} images"]
    width = max(len(name) for by_class in summary["metrics"].values() for name in by_class)
    for metric, by_class in summary["metrics"].items():
        for name, row in by_class.items():
            lines.append(f"  {metric:<5} {name:<{width}}  {_interval(row)}")
    for name, row in summary.get("dice_difference", {}).items():
        other = summary["against"]["model"]
        lines.append(f"  dice against {other}, {name:<{width}}  {_interval(row, sign=True)}")
    return "\n".join(lines)


def _interval(row: dict[str, Any], *, sign: bool = False) -> str:
    if row["mean"] is None:
        return f"not defined: all {row['excluded_empty']} cases empty"
    style = "+.4f" if sign else ".4f"
    text = f"{row['mean']:{style}}"
    if row["ci95"] is not None:
        text += f"  95 % {row['ci95'][0]:{style}} to {row['ci95'][1]:{style}}"
    return f"{text}  ({row['cases']} cases, {row['excluded_empty']} empty left out)"


def _plain(summary: Summary) -> dict[str, Any]:
    return {
        "mean": summary.mean,
        "ci95": summary.ci95,
        "cases": summary.cases,
        "excluded_empty": summary.excluded_empty,
    }

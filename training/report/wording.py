"""Names and figures as a reader of a page expects them."""

import json
import math
from typing import Any

from contract.measures import METRICS

RESEARCH_ONLY = "Research use only; not a medical device."
PART_NAMES = {"val": "validation", "test": "test"}
METRIC_NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "hd95": "HD95",
    "assd": "ASSD",
    "nsd": "NSD",
    "cldice": "clDice",
    "object_f1": "F1 over objects",
}
NONE = "\N{EN DASH}"


def metric_label(metric: str, unit: str = "px", tolerance: float | None = None) -> str:
    """Return a metric's name as it is written, with the unit of lengths and of NSD's tolerance."""
    name = METRIC_NAMES.get(metric, metric)
    if metric == "nsd" and tolerance is not None:
        return f"{name} at {tolerance:g} {unit}"
    return f"{name} in {unit} (smaller is better)" if METRICS[metric].is_length else name


def score(value: float, metric: str) -> str:
    """Return a length with two digits after the point, all else with four; a dash for NaN."""
    return f"{value:.2f}" if METRICS[metric].is_length and not math.isnan(value) else number(value)


def number(value: float) -> str:
    """Return four digits after the point below 10, as the tables of scores have; a dash for NaN."""
    if math.isnan(value):
        return NONE
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def shown(value: Any) -> str:
    """Return a setting's value as a reader expects it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return ", ".join(value)
    return json.dumps(value, default=str)

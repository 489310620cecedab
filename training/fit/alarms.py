"""What an alarm says: a row for each part of the net in ``alarms.csv``, and one line to read."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from training.fit.atomic import replace_file
from training.fit.judge_steps import Fault, Verdict
from training.nets.places import LayerPlace

LISTED_PARTS = 3


@dataclass(frozen=True)
class Alarm:
    """One fault in one part of a net.

    Attributes:
        step: optimiser steps taken before the one at which it was said.
        fault: what is wrong.
        part: of the net, such as ``encoder level 2``.
        layers: of the part, with the fault.
        of: layers of the part in all.
        worst: the layer that is furthest off.
        per_weight: norm of its update by that of its weights; NaN where they are no numbers.
        others: the same in layers that learn.
        remedies: settings to try.
    """

    step: int
    fault: Fault
    part: str
    layers: int
    of: int
    worst: str
    per_weight: float
    others: float
    remedies: str


def new_alarms(
    said: Sequence[Alarm],
    verdicts: Sequence[Verdict],
    places: Sequence[LayerPlace],
    *,
    step: int,
    remedies: str,
) -> list[Alarm]:
    """Return alarms of one fault for parts of the net for which it was not said before.

    Numbers that are not finite are everywhere within a step or two, so they are told once.
    """
    if not verdicts:
        return []
    fault = verdicts[0].fault
    told = {alarm.part for alarm in said if alarm.fault == fault}
    if fault == "non-finite" and told:
        return []
    parts: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        parts.setdefault(places[verdict.layer].group, []).append(verdict)
    pick = max if fault == "exploding" else min
    worst = {part: pick(found, key=lambda v: v.figure) for part, found in parts.items()}
    return [
        Alarm(
            step=step,
            fault=fault,
            part=part,
            layers=len(found),
            of=sum(place.group == part for place in places),
            worst=places[worst[part].layer].place,
            per_weight=worst[part].figure,
            others=worst[part].others,
            remedies=remedies,
        )
        for part, found in parts.items()
        if part not in told
    ]


def sentence(alarms: Sequence[Alarm], *, layers: int) -> str:
    """Return one line for alarms of one fault and step; ``layers`` counts those of the net."""
    pick = max if alarms[0].fault == "exploding" else min
    worst = pick(alarms, key=lambda alarm: alarm.per_weight)
    parts = [alarm.part for alarm in alarms]
    where = ", ".join(parts)
    if len(parts) > LISTED_PARTS:
        where = f"{parts[0]} to {parts[-1]}, {len(parts)} parts"
    count = f"{sum(alarm.layers for alarm in alarms)} of {layers} layers ({where})"
    begins = f"alarm at step {worst.step}:"
    ends = f"What often helps: {worst.remedies}"
    if worst.fault == "dead":
        return (
            f"{begins} {count} stand still. {worst.worst} moves by {worst.per_weight:.1g} of its "
            f"weights in a step, layers that learn by {worst.others:.1g}. {ends}"
        )
    if worst.fault == "exploding":
        return (
            f"{begins} steps are too long for {count}. One changes {worst.worst} by "
            f"{worst.per_weight:.2g} times its weights. {ends}"
        )
    return (
        f"{begins} loss, gradients or weights are not finite in {count}, and nothing is learned "
        f"from here on. {ends}"
    )


def write_alarms(path: Path, alarms: Sequence[Alarm]) -> None:
    """Write all of a run's alarms, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(Alarm)]
    writer.writerow(names)
    writer.writerows([_cell(getattr(alarm, name)) for name in names] for alarm in alarms)
    replace_file(path, lambda file: file.write(text.getvalue().encode()))


def read_alarms(path: Path) -> list[Alarm]:
    """Return the alarms that ``write_alarms`` wrote; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [_alarm(row) for row in csv.DictReader(file)]


def _alarm(row: dict[str, str]) -> Alarm:
    fields: dict[str, Any] = dict(row)
    fields |= {name: int(row[name]) for name in ("step", "layers", "of")}
    fields |= {name: float(row[name] or "nan") for name in ("per_weight", "others")}
    return Alarm(**fields)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return value

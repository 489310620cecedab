"""Several runs held against the first: what was set, what came out, what it cost."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.errors import LongskipError, RequestInvalid
from contract.measures import METRICS
from contract.metrics import Summary, summarise
from contract.paired import PairedDifference, paired_difference
from training.fit.checkpoint import read_checkpoint
from training.nets.cost import parameter_count
from training.report.clock import Clock, read_clock
from training.report.record import RunRecord
from training.score.cases import column_name

REPORTED = "report-val.csv"
# Where a run lies says nothing of what it is.
PLACES = ("out", "resume")
ScoreKey = tuple[str, str]  # class, metric


@dataclass(frozen=True)
class Row:
    """One metric of one class over the common cases.

    Attributes:
        kind: the class.
        metric: its key in ``METRICS``.
        means: of each run.
        differences: of each run but the first: that run minus the first one.
    """

    kind: str
    metric: str
    means: tuple[Summary, ...]
    differences: tuple[PairedDifference, ...]


@dataclass(frozen=True)
class Comparison:
    """All that a comparison says.

    Attributes:
        records: the runs.
        names: how they are called; different from each other.
        differing: settings that are not the same in all runs, None where one does not have it.
        source: which scores were compared, in words.
        unit: of lengths, px or mm; where the runs differ in it, no length was compared.
        common: stems that all runs scored.
        left_out: how many stems only some of them scored.
        renamed: how many training images have one name in two runs and another content.
        rows: the scores.
        dice: mean Dice over classes of each common case, one list per run, NaN without a score.
        parameters: trainable values of each net; None where there is no checkpoint to tell.
        clocks: times of each run; None where it has none.
    """

    records: tuple[RunRecord, ...]
    names: tuple[str, ...]
    differing: Mapping[str, tuple[Any, ...]]
    source: str
    unit: str
    common: tuple[str, ...]
    left_out: int
    renamed: int
    rows: tuple[Row, ...]
    dice: tuple[tuple[float, ...], ...]
    parameters: tuple[int | None, ...]
    clocks: tuple[Clock | None, ...]


def compare(records: Sequence[RunRecord]) -> Comparison:
    """Hold ``records`` against the first of them.

    Raises:
        RequestInvalid: fewer than two runs.
    """
    if len(records) < 2:
        raise RequestInvalid(f"{len(records)} run came; give at least two to compare")
    files, source = _score_files(records)
    units = {_unit(path) for path in files if path.is_file()}
    # Millimetres and pixels cannot be held against each other.
    metrics = [m for m in METRICS if len(units) < 2 or not (METRICS[m].is_length or m == "nsd")]
    unit = "mm" if units == {"mm"} else "px"
    tables = [
        _scores(path, record, {column_name(metric, unit): metric for metric in metrics})
        for path, record in zip(files, records, strict=True)
    ]
    stems = [set(table) for table in tables]
    common = tuple(sorted(set.intersection(*stems)))
    known = _groups(files[0])
    groups = [known.get(stem) for stem in common]
    keys = _keys(tables, common)
    rows = []
    for kind, metric in keys:
        values = [
            [table[stem].get((kind, metric), math.nan) for stem in common] for table in tables
        ]
        rows.append(
            Row(
                kind,
                metric,
                tuple(summarise(column, groups=groups) for column in values),
                tuple(paired_difference(column, values[0], groups=groups) for column in values[1:]),
            )
        )
    kinds = dict.fromkeys(kind for kind, _ in keys)
    return Comparison(
        records=tuple(records),
        names=_names(records),
        differing=_differing(records),
        source=source,
        unit=unit,
        common=common,
        left_out=len(set.union(*stems)) - len(common),
        renamed=_renamed(records),
        rows=tuple(rows),
        dice=tuple(
            tuple(
                _mean([table[stem].get((kind, "dice"), math.nan) for kind in kinds])
                for stem in common
            )
            for table in tables
        ),
        parameters=tuple(_parameters(record) for record in records),
        clocks=tuple(read_clock(record.run.logs) for record in records),
    )


def _renamed(records: Sequence[RunRecord]) -> int:
    """Return how many training images, at least, bear one name in two runs and differ.

    Two runs that trained on k stems alike have k hashes alike, if those name the same images and
    no image is there twice. Hashes of validation images are not kept.
    """
    seen: list[tuple[set[str], set[str]]] = []
    for record in records:
        try:
            trained = read_checkpoint(record.run.checkpoint("last"))[0].training_data
        except LongskipError:
            continue
        stems = set() if record.split is None else set(record.split.train)
        hashes = set() if trained is None else set(trained.image_hashes)
        if len(hashes) == len(stems):
            seen.append((stems, hashes))
    return max(
        (len(seen[0][0] & stems) - len(seen[0][1] & hashes) for stems, hashes in seen[1:]),
        default=0,
    )


def _score_files(records: Sequence[RunRecord]) -> tuple[list[Path], str]:
    """Return one file per run, of the same kind, so that like is held against like."""
    reported = [record.run.root / REPORTED for record in records]
    if all(map(_newer_than_best, reported, records)):
        return reported, "best checkpoint of each run, as its report scored it"
    return (
        [record.run.validation for record in records],
        "last validation pass of each run, which need not be its best one; "
        "make a report of each to compare best checkpoints",
    )


def _newer_than_best(path: Path, record: RunRecord) -> bool:
    best = record.run.checkpoints / "best.ckpt"
    if not path.is_file() or not best.is_file():
        return False
    return path.stat().st_mtime >= best.stat().st_mtime


def _unit(path: Path) -> str:
    """Return the unit of a table's lengths; px where it has none."""
    with path.open(newline="", encoding="utf-8") as file:
        return "mm" if column_name("hd95", "mm") in next(csv.reader(file), []) else "px"


def _groups(path: Path) -> dict[str, str | None]:
    """Return the group of each stem, where the table has them."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {cells["stem"]: cells.get("group") or None for cells in csv.DictReader(file)}


def _scores(
    path: Path, record: RunRecord, metrics: Mapping[str, str]
) -> dict[str, dict[ScoreKey, float]]:
    """Return stem -> (class, metric) -> score, without the background."""
    found: dict[str, dict[ScoreKey, float]] = {}
    if not path.is_file():
        return found
    logged = set(record.history.dice_by_class)
    with path.open(newline="", encoding="utf-8") as file:
        for cells in csv.DictReader(file):
            if logged and cells["class"] not in logged:
                continue
            scores = found.setdefault(cells["stem"], {})
            for column, metric in metrics.items():
                cell = cells.get(column)
                if cell is not None:
                    scores[cells["class"], metric] = float(cell or "nan")
    return found


def _keys(
    tables: Sequence[Mapping[str, Mapping[ScoreKey, float]]], common: Sequence[str]
) -> list[ScoreKey]:
    """Return what every run scored, classes together, metrics in their own order."""
    if not common:
        return []
    shared = [set().union(*(table[stem] for stem in common)) for table in tables]
    first = dict.fromkeys(key for stem in common for key in tables[0][stem])
    kinds = list(dict.fromkeys(kind for kind, _ in first))
    return [
        (kind, metric)
        for kind in kinds
        for metric in METRICS
        if all((kind, metric) in keys for keys in shared)
    ]


def _differing(records: Sequence[RunRecord]) -> dict[str, tuple[Any, ...]]:
    names = dict.fromkeys(name for record in records for name in record.settings)
    columns = {name: tuple(r.settings.get(name) for r in records) for name in names}
    return {
        name: values
        for name, values in columns.items()
        if name not in PLACES and any(value != values[0] for value in values)
    }


def _names(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return the folders' names, or their paths where two have the same."""
    names = [record.name for record in records]
    if len(set(names)) < len(names):
        names = [str(record.run.root) for record in records]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, start=1)]
    return tuple(names)


def _mean(values: Sequence[float]) -> float:
    held = [value for value in values if not math.isnan(value)]
    return sum(held) / len(held) if held else math.nan


def _parameters(record: RunRecord) -> int | None:
    try:
        description, _ = read_checkpoint(record.run.checkpoint("best"))
    except LongskipError:
        return None
    return parameter_count(description.build_graph().net)

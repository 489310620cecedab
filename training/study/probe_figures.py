"""The probes of single nets drawn across arms: boundary, lesion, shift, gradient flow.

Read from the CSV files that probes write for each cell (``probes/<name>/``) and that watched
trainings leave in their run. Means are over images of means over seeds, as for all scores.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from contract.metrics import summarise
from training.probe.crossing import crossing
from training.report.figure import GREY, canvas, style
from training.study.analyse import Analysis
from training.study.arm_look import Look, arm_looks
from training.study.figures import FOLDER, Drawn, keep, legend_below
from training.study.phrases import quoted

Row = Mapping[str, str]


def draw_probes(analysis: Analysis, root: Path) -> list[Drawn]:
    """Draw what the study's probes measured, into ``<root>/figures``; nothing where none ran."""
    looks = arm_looks(analysis.record.config)
    found = []
    for dataset in analysis.record.config.datasets if analysis.record.config.steps else ():
        for draw in (_boundary, _lesion, _shift, _gradients):
            drawn = draw(analysis, dataset, looks, root / FOLDER)
            if drawn is not None:
                found.append(drawn)
    return found


def by_case(
    rows: Iterable[Row], along: Sequence[str], value: str
) -> dict[tuple[str, ...], dict[str, float]]:
    """Return place along a curve -> image -> mean over the seeds that have a value.

    Args:
        rows: of one arm, all seeds.
        along: columns that make a place.
        value: column that is averaged.
    """
    seen: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for row in rows:
        cases = seen.setdefault(tuple(row[column] for column in along), {})
        values = cases.setdefault(row["stem"], [])
        if row[value]:
            values.append(float(row[value]))
    return {
        place: {stem: float(np.mean(v)) if v else math.nan for stem, v in cases.items()}
        for place, cases in seen.items()
    }


def _rows(analysis: Analysis, dataset: str, arm: str, place: str) -> list[Row]:
    """Return the lines of a file (``place`` within a cell) of all scored runs of an arm."""
    return [row for rows in _by_run(analysis, dataset, arm, place) for row in rows]


def _by_run(analysis: Analysis, dataset: str, arm: str, place: str) -> Iterator[list[Row]]:
    for run in analysis.record.runs_of(dataset, arm):
        path = analysis.record.folder(run) / place
        if run.scored and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                yield list(csv.DictReader(file))


def _boundary(
    analysis: Analysis, dataset: str, looks: Mapping[str, Look], folder: Path
) -> Drawn | None:
    """Draw the share of wrong pixels by distance, and each arm's difference from the reference."""
    config = analysis.record.config
    tables = {
        arm: rows
        for arm in config.all_arms
        if (rows := _rows(analysis, dataset, arm, "probes/boundary/bands.csv"))
    }
    if not tables:
        return None
    classes = list(dict.fromkeys(r["class_name"] for rows in tables.values() for r in rows))
    unit = next(iter(tables.values()))[0]["unit"]
    along = ("side", "distance_above", "distance_up_to")
    with style():
        figure, axes = canvas(2, rows=len(classes), height_in=0.6 + 2.5 * len(classes))
        for name, level, change in zip(classes, axes[::2], axes[1::2], strict=True):
            curves = {
                arm: by_case((r for r in rows if r["class_name"] == name), along, "error_rate")
                for arm, rows in tables.items()
            }
            bands = _bands(next(iter(curves.values())))
            for arm, curve in curves.items():
                _curve(level, [list(curve.get(b, {}).values()) for b in bands], looks[arm])
                reference = curves.get(config.reference)
                if reference is not None and arm != config.reference:
                    _curve(change, _apart(curve, reference, bands), looks[arm])
            change.axhline(0, color=GREY, linestyle="--", linewidth=1)
            level.set(title=f"{name}: wrong pixels by distance", ylabel="share that is wrong")
            change.set(title=f"minus “{config.reference}”", ylabel="difference of the shares")
            level.set_ylim(bottom=0)
            for panel in (level, change):
                panel.set_xticks(range(len(bands)), [_band(b) for b in bands], fontsize=7.5)
                panel.set_xlabel(f"inside   ←   {unit} from the true boundary   →   outside")
                panel.axvline(len(bands) / 2 - 0.5, color="#57606a", linewidth=0.9)
                panel.grid(axis="x", visible=False)
        legend_below(figure, looks, list(tables))
        caption = (
            f"Where nets err on {dataset}: share of wrong pixels by distance to the true boundary, "
            "mean over images of the mean over seeds. Right: how much more than "
            f"{quoted(config.reference)}. If skips recover where, arms differ next to the line "
            "(the boundary) and agree far from it."
        )
        return keep(figure, folder, f"boundary-{dataset}", caption)


def _bands(curve: Mapping[tuple[str, ...], object]) -> list[tuple[str, ...]]:
    """Return the bands from deep inside over the boundary to far outside."""
    inside = sorted((b for b in curve if b[0] == "inside"), key=lambda b: -float(b[1]))
    outside = sorted((b for b in curve if b[0] == "outside"), key=lambda b: float(b[1]))
    return [*inside, *outside]


def _band(band: tuple[str, ...]) -> str:
    above, up_to = float(band[1]), float(band[2])
    return f"{up_to:g}" if math.isfinite(up_to) else f">{above:g}"


def _apart(
    ours: Mapping[tuple[str, ...], Mapping[str, float]],
    others: Mapping[tuple[str, ...], Mapping[str, float]],
    places: Sequence[tuple[str, ...]],
) -> list[list[float]]:
    """Return differences by place, image by image."""
    return [
        [ours.get(p, {}).get(stem, math.nan) - v for stem, v in others.get(p, {}).items()]
        for p in places
    ]


def _curve(axes: Axes, values: Sequence[Sequence[float]], look: Look) -> None:
    known = [
        (i, m) for i, v in enumerate(values) if (m := summarise(v, resamples=1).mean) is not None
    ]
    axes.plot(
        [i for i, _ in known],
        [mean for _, mean in known],
        marker=look.mark,
        linestyle=look.line,
        color=look.colour,
        markersize=3.8,
        linewidth=1.3,
    )


def _lesion(
    analysis: Analysis, dataset: str, looks: Mapping[str, Look], folder: Path
) -> Drawn | None:
    """Draw the Dice lost when a part is taken away, part by part."""
    lost: dict[str, dict[str, dict[str, float]]] = {}  # kind -> arm -> part -> mean over classes
    for arm in analysis.record.config.all_arms:
        for row in _rows(analysis, dataset, arm, "probes/lesion/cases.csv"):
            if float(row["gain"]) == 0:
                lost.setdefault(row["kind"], {}).setdefault(arm, {}).setdefault(row["target"], 0.0)
    if not lost:
        return None
    for kind, arms in lost.items():
        for arm in arms:
            rows = [
                row
                for row in _rows(analysis, dataset, arm, "probes/lesion/cases.csv")
                if row["kind"] == kind and float(row["gain"]) == 0
            ]
            found = by_case(rows, ("target",), "dice_lost")
            arms[arm] = {
                target: mean
                for (target,), cases in found.items()
                if (mean := summarise(cases.values(), resamples=1).mean) is not None
            }
    kinds = list(lost)
    with style():
        parts = {k: list(dict.fromkeys(p for arm in lost[k].values() for p in arm)) for k in kinds}
        heights = [0.8 + 0.22 * len(parts[kind]) for kind in kinds]
        figure, axes = canvas(1, rows=len(kinds), height_in=sum(heights) + 0.6)
        place = axes[0].get_subplotspec()
        if place is not None:
            place.get_gridspec().set_height_ratios(heights)
        for kind, panel in zip(kinds, axes, strict=True):
            for arm, by_part in lost[kind].items():
                rows_of = [parts[kind].index(part) for part in by_part]
                look = looks[arm]
                panel.plot(list(by_part.values()), rows_of, look.mark, color=look.colour, ms=5.5)
            panel.axvline(0, color=GREY, linestyle="--", linewidth=1)
            panel.set_yticks(range(len(parts[kind])), parts[kind])
            panel.set_ylim(len(parts[kind]) - 0.5, -0.5)
            panel.set(title=f"without one {kind}", xlabel="Dice lost")
        legend_below(figure, looks, [a for a in looks if any(a in lost[k] for k in kinds)])
        caption = (
            f"What trained nets on {dataset} lose when a part is taken away as they answer: mean "
            "over images, classes and the seeds that were looked at. Skip 0 is the finest. A part "
            "that can go without loss is not shown to be useless: a net trained without it could "
            "do as well or worse."
        )
        return keep(figure, folder, f"lesion-{dataset}", caption)


def _shift(
    analysis: Analysis, dataset: str, looks: Mapping[str, Look], folder: Path
) -> Drawn | None:
    """Draw Dice against the strength of each shift, and tell where curves cross."""
    config = analysis.record.config
    tables = {
        arm: by_case(rows, ("kind", "strength"), "dice")
        for arm in config.all_arms
        if (rows := _rows(analysis, dataset, arm, "probes/shift/cases.csv"))
    }
    if not tables:
        return None
    kinds = list(dict.fromkeys(kind for table in tables.values() for kind, _ in table))
    columns = min(len(kinds), 2)
    rows_of_panels = -(-len(kinds) // columns)
    with style():
        figure, axes = canvas(columns, rows=rows_of_panels, height_in=2.3 * rows_of_panels + 0.5)
        for spare in axes[len(kinds) :]:
            spare.remove()
        for kind, panel in zip(kinds, axes, strict=False):
            for arm, table in tables.items():
                places = sorted((p for p in table if p[0] == kind), key=lambda p: float(p[1]))
                means = [summarise(table[p].values(), resamples=1).mean for p in places]
                panel.plot(
                    [float(p[1]) for p in places],
                    [math.nan if mean is None else mean for mean in means],
                    marker=looks[arm].mark,
                    linestyle=looks[arm].line,
                    color=looks[arm].colour,
                    markersize=4,
                    linewidth=1.4,
                )
            panel.set(title=kind, xlabel="strength", ylabel="Dice")
            panel.label_outer()
            panel.tick_params(axis="y", labelleft=True)  # each has a scale of its own
        legend_below(figure, looks, list(tables))
        caption = (
            f"Dice on {dataset} as its images are shifted away from those of the training (0: as "
            f"they are), mean over images of the mean over seeds. "
            + _crossings(analysis, tables, kinds)
        )
        return keep(figure, folder, f"shift-{dataset}", caption)


def _crossings(
    analysis: Analysis,
    tables: Mapping[str, Mapping[tuple[str, ...], Mapping[str, float]]],
    kinds: Sequence[str],
) -> str:
    """Say where each arm's curve crosses the reference's."""
    reference = analysis.record.config.reference
    if reference not in tables:
        return ""
    texts = []
    for kind in kinds:
        places = sorted((p for p in tables[reference] if p[0] == kind), key=lambda p: float(p[1]))
        for arm, table in tables.items():
            if arm == reference or any(place not in table for place in places):
                continue
            apart = np.array(_apart(table, tables[reference], places), dtype=np.float64).T
            found = crossing([float(p[1]) for p in places], apart)
            if found.at is not None and found.ci95 is not None:
                low, high = found.ci95
                texts.append(
                    f"{quoted(arm)} at {found.at:.2f} of {kind} (95 % CI {low:.2f} to {high:.2f}; "
                    f"in {100 * found.share:.0f} % of resamples)"
                )
    if not texts:
        return f"No curve is seen to cross that of {quoted(reference)} in most resamples of images."
    return f"The curve of {quoted(reference)} is crossed by that of {'; '.join(texts)}."


def _gradients(
    analysis: Analysis, dataset: str, looks: Mapping[str, Look], folder: Path
) -> Drawn | None:
    """Draw the gradient of each layer by depth, at the start and at the end of a training."""
    watched: dict[str, list[Row]] = {}
    for arm in analysis.record.config.all_arms:
        run = next(_by_run(analysis, dataset, arm, "run/gradient_flow.csv"), None)
        if run:
            watched[arm] = [row for row in run if row["main"] == "True"]
    if not watched:
        return None
    last = min(max(int(row["step"]) for row in rows) for rows in watched.values())
    steps = [0, last] if last else [0]
    with style():
        figure, axes = canvas(len(steps), height_in=3.1, sharey=True)
        for step, panel in zip(steps, axes, strict=True):
            for arm, rows in watched.items():
                own = [row for row in rows if int(row["step"]) == step]
                depth_by_gradient(panel, own, looks[arm])
            panel.set_yscale("log")
            title = "at initialisation" if step == 0 else f"at step {step}"
            panel.set(title=title, xlabel="depth in layers", ylabel="norm of the gradient")
            panel.label_outer()
        legend_below(figure, looks, list(watched))
        caption = (
            f"Gradient of each layer's weights on {dataset}, along the longest way from the image "
            "(left) to the answer (right), one seed. A line that falls to the left vanishes on its "
            "way back, one that rises explodes; a cross at the lower edge is exactly 0."
        )
        return keep(figure, folder, f"gradient-flow-{dataset}", caption)


def depth_by_gradient(panel: Axes, rows: Sequence[Row], look: Look) -> None:
    """Draw one net's gradients; those that are 0 have no place on a logarithmic axis."""
    depth = np.array([float(row["depth"]) for row in rows])
    norm = np.array([float(row["gradient_norm"] or "nan") for row in rows])
    seen = np.where(norm > 0, norm, np.nan)
    panel.plot(depth, seen, color=look.colour, linestyle=look.line, linewidth=1.3)
    panel.plot(depth, seen, look.mark, color=look.colour, ms=3, markevery=max(1, len(depth) // 8))
    zero = depth[norm == 0]
    if zero.size:
        edge = np.full(zero.size, 0.02)
        panel.plot(zero, edge, "x", color=look.colour, ms=4, transform=panel.get_xaxis_transform())

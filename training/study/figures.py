"""The figures of a study's scores: arms, differences, cost, training, rates, interactions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from training.report.figure import GREY, canvas, save_figure, style
from training.report.history import History, Series, read_history
from training.study.analyse import Analysis, Estimate
from training.study.arm_look import BLACK, Look, arm_looks
from training.study.contrast import Effect

FOLDER = "figures"
FEW_EPOCHS = 2
WIDE_RATIO = 30.0  # beyond it an axis is logarithmic
ROW_IN = 0.29  # of an arm in a panel of rows


@dataclass(frozen=True)
class Drawn:
    """A figure that lies in the study's folder as PNG and SVG.

    Attributes:
        name: of the files, without their ends.
        caption: what is seen.
        svg: the file that a page embeds.
    """

    name: str
    caption: str
    svg: Path


def draw_figures(analysis: Analysis, root: Path) -> list[Drawn]:
    """Draw all figures that the study has something for, into ``<root>/figures``."""
    looks = arm_looks(analysis.record.config)
    found: list[Drawn] = []
    for dataset in analysis.record.config.datasets:
        if analysis.main_kind(dataset) is None:
            continue
        for draw in (_scores, _interaction, _cost, _curves):
            drawn = draw(analysis, dataset, looks, root / FOLDER)
            if drawn is not None:
                found.append(drawn)
    rates = _rates(analysis, looks, root / FOLDER)
    return [*found, rates] if rates is not None else found


def keep(figure: Figure, folder: Path, name: str, caption: str) -> Drawn:
    """Save a figure as PNG and SVG; to be called within ``style()``."""
    _, svg = save_figure(figure, folder, name)
    return Drawn(name, caption, svg)


def legend_below(figure: Figure, looks: Mapping[str, Look], arms: Sequence[str]) -> None:
    """Name the arms under a figure, so that no panel is covered."""
    handles = [
        Line2D([], [], color=looks[arm].colour, marker=looks[arm].mark, ls=looks[arm].line, ms=5)
        for arm in arms
    ]
    longest = max((len(arm) for arm in arms), default=1)
    columns = max(1, min(len(arms), int(110 / (longest + 9))))
    figure.legend(handles, list(arms), loc="outside lower center", ncols=columns)


def _scores(
    analysis: Analysis, dataset: str, looks: Mapping[str, Look], folder: Path
) -> Drawn | None:
    """Draw each arm's Dice, and beside it its difference from the reference."""
    config = analysis.record.config
    arms = list(config.all_arms)
    kinds = analysis.record.kinds_of(dataset, "dice")
    with style():
        height_in = len(kinds) * (0.85 + ROW_IN * len(arms))
        figure, axes = canvas(2, rows=len(kinds), height_in=height_in)
        for kind, level, change in zip(kinds, axes[::2], axes[1::2], strict=True):
            for row, arm in enumerate(arms):
                estimate = analysis.estimate(dataset, "dice", kind, arm)
                if estimate is not None:
                    _level(level, row, estimate, looks[arm])
            effects = {e.contrast.name: e for e in analysis.effects_of(dataset, "dice", kind)}
            for row, arm in enumerate(arms):
                if arm in effects:
                    _change(change, row, effects[arm], looks[arm])
            reference = analysis.estimate(dataset, "dice", kind, config.reference)
            if reference is not None and reference.summary.mean is not None:
                level.axvline(reference.summary.mean, color=GREY, linestyle="--", linewidth=1)
            change.axvline(0, color=GREY, linestyle="--", linewidth=1)
            level.set(title=f"{kind}: Dice", xlabel="Dice")
            change.set(title=f"minus “{config.reference}”", xlabel="difference in Dice")
            for panel in (level, change):
                panel.set_ylim(len(arms) - 0.5, -0.5)
                panel.grid(axis="y", visible=False)
                panel.tick_params(axis="y", length=0)
            level.set_yticks(range(len(arms)), arms)
            change.set_yticks(range(len(arms)), [""] * len(arms))
        n = len(analysis.record.scores(dataset, "dice", kinds[0]).stems)
        caption = (
            f"Dice on the {n} {analysis.record.images[dataset]['scored_on']} images of {dataset}. "
            "Left: mean over images of the mean over seeds (large mark) with its bootstrap 95 % "
            "interval (bar); small open marks are single seeds. Right: difference from "
            f"“{config.reference}”, taken image by image. A bar that clears the dashed line is "
            "not yet a finding: the table gives p after correction."
        )
        return keep(figure, folder, f"dice-{dataset}", caption)


def _level(axes: Axes, row: int, estimate: Estimate, look: Look) -> None:
    seeds = list(estimate.by_seed.values())
    axes.plot(seeds, [row + 0.2] * len(seeds), look.mark, color=look.colour, ms=3.5, mfc="none")
    _bar(axes, row - 0.08, estimate.summary.mean, estimate.summary.ci95, look)


def _change(axes: Axes, row: int, effect: Effect, look: Look) -> None:
    seeds = list(effect.by_seed.values())
    axes.plot(seeds, [row + 0.2] * len(seeds), look.mark, color=look.colour, ms=3.5, mfc="none")
    _bar(axes, row - 0.08, effect.mean, effect.summary.ci95, look)


def _bar(
    axes: Axes,
    row: float,
    mean: float | None,
    ci95: tuple[float, float] | None,
    look: Look,
) -> None:
    if mean is None:
        return
    if ci95 is not None:
        axes.plot(ci95, [row, row], color=look.colour, linewidth=1.8)
    axes.plot([mean], [row], look.mark, color=look.colour, markersize=6.5)


def _interaction(
    analysis: Analysis, dataset: str, looks: Mapping[str, Look], folder: Path
) -> Drawn | None:
    """Draw Dice over the levels of one factor, a line for each level of the other."""
    del looks  # lines are levels here, not arms
    config = analysis.record.config
    if len(config.factors) != 2:
        return None
    kind = analysis.main_kind(dataset) or ""
    (one, levels), (two, lines) = config.factors.items()
    with style():
        figure, both = canvas(2, height_in=2.9, sharey=True)
        arm_of = {tuple(config.levels_of(arm).values()): arm for arm in config.all_arms}
        sides = ((one, list(levels), two, list(lines)), (two, list(lines), one, list(levels)))
        for side, (axes, (along, ticks, by, others)) in enumerate(zip(both, sides, strict=True)):
            for place, other in enumerate(others):
                names = [arm_of[(t, other) if side == 0 else (other, t)] for t in ticks]
                found = [analysis.estimate(dataset, "dice", kind, name) for name in names]
                look = list(arm_looks(config).values())[place]
                _with_intervals(axes, found, look, other, shift=0.06 * (place - len(others) / 2))
            axes.set_xticks(range(len(ticks)), ticks)
            axes.set_xlim(-0.4, len(ticks) - 0.6)
            axes.grid(axis="x", visible=False)
            axes.set(title=f"Dice by {along}", xlabel=along, ylabel="Dice")
            axes.label_outer()
            axes.legend(title=by)
        caption = (
            f"How the factors meet on {dataset} ({kind}): mean over images with its 95 % "
            "interval. Parallel lines: each factor does the same whatever the other is. The two "
            "panels show the same figures, each along another factor."
        )
        return keep(figure, folder, f"interaction-{dataset}", caption)


def _with_intervals(
    axes: Axes, found: Sequence[Estimate | None], look: Look, label: str, *, shift: float
) -> None:
    known = [
        (place + shift, e.summary.mean, e.summary.ci95)
        for place, e in enumerate(found)
        if e is not None and e.summary.mean is not None
    ]
    axes.plot(
        [x for x, _, _ in known],
        [mean for _, mean, _ in known],
        marker=look.mark,
        linestyle=look.line,
        color=look.colour,
        label=label,
        markersize=5.5,
    )
    for x, _, ci95 in known:
        if ci95 is not None:
            axes.plot([x, x], ci95, color=look.colour, linewidth=1.4)


def _cost(
    analysis: Analysis, dataset: str, looks: Mapping[str, Look], folder: Path
) -> Drawn | None:
    """Draw Dice against parameters, MACs and, where it was measured, time."""
    kind = analysis.main_kind(dataset) or ""
    panels: list[tuple[str, Callable[[str], float]]] = [
        ("parameters, thousand", lambda arm: cost_of(analysis, dataset, arm, "parameters") / 1e3),
        (
            "multiply-accumulates, million",
            lambda arm: cost_of(analysis, dataset, arm, "macs") / 1e6,
        ),
        ("ms of the exported file", lambda arm: cost_of(analysis, dataset, arm, "cost.file_ms")),
    ]
    arms = list(analysis.record.config.all_arms)
    shown = [
        (label, worth)
        for label, worth in panels
        if not np.isnan([worth(arm) for arm in arms]).all()
    ]
    if not shown:
        return None
    with style():
        figure, axes = canvas(len(shown), height_in=3.1 + 0.12 * len(arms) / 2, sharey=True)
        for panel, (label, worth) in zip(axes, shown, strict=True):
            for arm in arms:
                estimate = analysis.estimate(dataset, "dice", kind, arm)
                if estimate is None or estimate.summary.mean is None or np.isnan(worth(arm)):
                    continue
                look, x = looks[arm], worth(arm)
                if estimate.summary.ci95 is not None:
                    panel.plot([x, x], estimate.summary.ci95, color=look.colour, linewidth=1.2)
                panel.plot([x], [estimate.summary.mean], look.mark, color=look.colour, ms=6.5)
            panel.set(xlabel=label, ylabel="Dice")
            panel.margins(x=0.12)
            panel.label_outer()
        legend_below(figure, looks, arms)
        caption = (
            f"Dice on {dataset} ({kind}) against what a net costs; bars are 95 % intervals over "
            "images. Up and to the left is better."
        )
        return keep(figure, folder, f"cost-{dataset}", caption)


def cost_of(analysis: Analysis, dataset: str, arm: str, column: str) -> float:
    """Return a cost of an arm from its first run that has it; NaN where none has."""
    figures = [run.number(column) for run in analysis.record.runs_of(dataset, arm)]
    return next((value for value in figures if not np.isnan(value)), float("nan"))


def _curves(
    analysis: Analysis, dataset: str, looks: Mapping[str, Look], folder: Path
) -> Drawn | None:
    """Draw the training loss of each arm, the mean over seeds."""
    record = analysis.record
    histories: dict[str, list[History]] = {}
    for arm in record.config.all_arms:
        found = [
            read_history(record.folder(run) / "run" / "logs")
            for run in record.runs_of(dataset, arm)
            if run.scored
        ]
        histories[arm] = [h for h in found if _losses(h)]
    drawn = [arm for arm, found in histories.items() if found]
    if not drawn:
        return None
    with style():
        figure, (axes,) = canvas(1, height_in=3.0 + 0.06 * len(drawn))
        for arm in drawn:
            steps, losses = _mean_curve(histories[arm])
            axes.plot(
                steps, losses, color=looks[arm].colour, linestyle=looks[arm].line, linewidth=1.6
            )
            axes.plot(steps[-1:], losses[-1:], looks[arm].mark, color=looks[arm].colour, ms=5)
        axes.set(xlabel="optimiser steps", ylabel="training loss")
        values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
        if values.min() > 0 and values.max() > WIDE_RATIO * values.min():
            axes.set_yscale("log")
        legend_below(figure, looks, drawn)
        caption = (
            f"Training loss on {dataset}, the mean over seeds of what each logged at the end of an "
            "epoch (of single batches, where a run is shorter than that). How fast an arm learns, "
            "not how well it does on new images."
        )
        return keep(figure, folder, f"training-{dataset}", caption)


def _losses(history: History) -> Series:
    """Return the loss by epoch; step by step where there are too few epochs for a curve."""
    by_epoch = history.get("train/loss_epoch")
    return by_epoch if len(by_epoch.values) > FEW_EPOCHS else history.get("train/loss_step")


def _mean_curve(histories: Sequence[History]) -> tuple[list[int], list[float]]:
    """Return steps and the mean loss of those runs that logged at each step."""
    values: dict[int, list[float]] = {}
    for history in histories:
        series = _losses(history)
        for step, value in zip(series.steps, series.values, strict=True):
            values.setdefault(step, []).append(value)
    most = max(map(len, values.values()))
    kept = {step: np.mean(v) for step, v in sorted(values.items()) if len(v) == most}
    return list(kept), [float(v) for v in kept.values()]


def _rates(analysis: Analysis, looks: Mapping[str, Look], folder: Path) -> Drawn | None:
    """Draw the Dice of every try of a learning rate, the chosen ones ringed."""
    datasets = [
        d
        for d in analysis.record.config.datasets
        if any(rate.tries for rate in analysis.rates.values() if rate.dataset == d)
    ]
    if not datasets:
        return None
    columns = min(len(datasets), 3)
    rows = -(-len(datasets) // columns)
    arms = list(analysis.record.config.all_arms)
    with style():
        figure, axes = canvas(columns, rows=rows, height_in=2.5 * rows + 0.5)
        for spare in axes[len(datasets) :]:
            spare.remove()
        for panel, dataset in zip(axes, datasets, strict=False):
            for arm in arms:
                rate = analysis.rates.get((dataset, arm))
                tries = {} if rate is None else dict(sorted(rate.tries.items()))
                known = {lr: dice for lr, dice in tries.items() if dice is not None}
                look = looks[arm]
                panel.plot(
                    list(known),
                    list(known.values()),
                    marker=look.mark,
                    linestyle=look.line,
                    color=look.colour,
                    linewidth=1.1,
                    markersize=4.5,
                )
                if rate is not None and rate.chosen in known:
                    panel.plot(
                        [rate.chosen], [known[rate.chosen]], "o", ms=11, mfc="none", color=BLACK
                    )
            panel.set_xscale("log")
            ticks = sorted(analysis.record.config.learning_rates)
            panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            panel.minorticks_off()
            panel.set(title=dataset, xlabel="learning rate", ylabel="validation Dice")
        legend_below(figure, looks, arms)
        share = analysis.record.config.sweep_fraction
        caption = (
            f"Learning rates tried for each arm, with a seed of its own and {100 * share:.0f} % of "
            "the steps; ringed: the one that trained the arm. A ring at either end means that a "
            "better rate may lie beyond."
        )
        return keep(figure, folder, "learning-rates", caption)

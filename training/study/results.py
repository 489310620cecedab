"""The tables of a study's report: scores with intervals, tests, costs, learning rates."""

from collections.abc import Callable, Sequence

import numpy as np

from contract.metrics import Summary
from training.report import markup
from training.report.wording import NONE
from training.study.analyse import Analysis, Estimate
from training.study.contrast import Effect
from training.study.figures import cost_of
from training.study.phrases import MINUS, amount, metric_name, p_text, signed
from training.study.record import MEAN_OF_CLASSES, OF_THE_IMAGE

SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def scores_table(analysis: Analysis, dataset: str) -> Table:
    """Return each arm's Dice, overall and by class, with σ over seeds and how its runs ended."""
    config = analysis.record.config
    kinds = analysis.record.kinds_of(dataset, "dice")
    head = ("arm", *(_kind_head(kind, "Dice") for kind in kinds), f"{SIGMA} over seeds", "runs")
    rows = []
    for arm in config.all_arms:
        found = [analysis.estimate(dataset, "dice", kind, arm) for kind in kinds]
        sigma = found[0].sigma if found and found[0] is not None else None
        rows.append(
            (
                arm,
                *(_level(estimate, "dice") for estimate in found),
                NONE if sigma is None else amount(sigma, "dice"),
                runs_text(analysis, dataset, arm),
            )
        )
    return head, rows


def comparisons_table(analysis: Analysis, dataset: str, *, factors: bool) -> Table:
    """Return the comparisons of the overall Dice."""
    kind = analysis.main_kind(dataset) or ""
    effects = analysis.effects_of(dataset, "dice", kind, factors=factors)
    against = analysis.record.config.reference
    first = "effect" if factors else f"arm, minus “{against}”"
    head = (
        *(first, "difference in Dice (95\u00a0%\u00a0CI)", "p", "p\u00a0after Holm"),
        *("seeds of this sign", f"{SIGMA}\u00a0over seeds", "told apart"),
    )
    return head, [_test_row(effect) for effect in effects]


def other_metrics(analysis: Analysis, dataset: str) -> list[str]:
    """Return every other metric, and Dice by class, as folded HTML."""
    record = analysis.record
    parts = []
    for metric in record.metrics_of(dataset):
        kinds = record.kinds_of(dataset, metric)
        if metric == "dice" and len(kinds) == 1:
            continue
        name = metric_name(metric, record.length_unit(dataset))
        heads = [_kind_head(kind, name) for kind in kinds]
        arms = list(record.config.all_arms)
        levels = [
            (
                arm,
                *(_level(analysis.estimate(dataset, metric, kind, arm), metric) for kind in kinds),
            )
            for arm in arms
        ]
        changes = []
        for arm in arms:
            by_kind = [
                next(
                    (e for e in analysis.effects_of(dataset, metric, k) if e.contrast.name == arm),
                    None,
                )
                for k in kinds
            ]
            if any(effect is not None for effect in by_kind):
                changes.append((arm, *(_change(effect) for effect in by_kind)))
        inner = [markup.table(("arm", *heads), levels, numbers_from=1, wraps=True)]
        if changes:
            against = f"minus “{record.config.reference}”"
            inner += [
                markup.paragraph(f"Differences, {against}; p after Holm.", "note"),
                markup.table(("arm", *heads), changes, numbers_from=1, wraps=True),
            ]
        title = f"{name[:1].upper()}{name[1:]} on {dataset}"
        parts.append(markup.folded(title, "\n".join(inner)))
    return parts


def cost_table(analysis: Analysis, dataset: str) -> Table:
    """Return what each arm's net costs; columns that nothing was measured for are left out."""
    columns: list[tuple[str, str, Callable[[float], str]]] = [
        ("parameters", "parameters", lambda v: f"{v:,.0f}"),
        ("macs", "million MACs", lambda v: f"{v / 1e6:,.1f}"),
        ("cost.training_step_mib", "training step, MiB", lambda v: f"{v:,.1f}"),
        ("cost.file_mib", "file, MiB", lambda v: f"{v:,.2f}"),
        ("cost.file_ms", "file, ms", lambda v: f"{v:,.1f}"),
    ]
    arms = list(analysis.record.config.all_arms)
    kept = []
    for column, title, text in columns:
        values = [cost_of(analysis, dataset, arm, column) for arm in arms]
        if not np.isnan(values).all():
            kept.append((title, [NONE if np.isnan(v) else text(v) for v in values]))
    rows = [(arm, *(cells[place] for _, cells in kept)) for place, arm in enumerate(arms)]
    return ("arm", *(title for title, _ in kept)), rows


def rates_table(analysis: Analysis) -> Table:
    """Return every learning rate tried, the chosen one marked."""
    config = analysis.record.config
    several = len(config.datasets) > 1
    head = (*(("data set",) if several else ()), "arm", *(f"{r:g}" for r in config.learning_rates))
    rows = []
    for (dataset, arm), rate in analysis.rates.items():
        cells = []
        for lr in config.learning_rates:
            dice = rate.tries.get(lr)
            text = NONE if dice is None else amount(dice, "dice")
            cells.append(f"{text} chosen" if lr == rate.chosen else text)
        rows.append((*((dataset,) if several else ()), arm, *cells))
    return (*head, "chosen lies at"), [
        (*row, "the edge" if rate.edge else "the middle" if rate.tries else NONE)
        for row, rate in zip(rows, analysis.rates.values(), strict=True)
    ]


def runs_text(analysis: Analysis, dataset: str, arm: str) -> str:
    """Return e.g. ``3`` or ``2 of 3 done, 1 collapsed``."""
    states = analysis.states(dataset, arm)
    total = sum(states.values())
    if states["done"] == total:
        return str(total)
    return ", ".join(
        f"{n} {state}"
        for state in ("done", "collapsed", "diverged", "failed", "not done")
        if (n := states[state])
    )


def level_text(summary: Summary, metric: str) -> str:
    """Return mean and interval, breakable before the interval only."""
    if summary.mean is None:
        return NONE
    text = amount(summary.mean, metric)
    if summary.ci95 is None:
        return text
    low, high = (amount(end, metric) for end in summary.ci95)
    return f"{text} ({low}\u00a0to\u00a0{high})"


def change_text(effect: Effect) -> str:
    """Return a difference and its interval."""
    if effect.mean is None:
        return NONE
    text = signed(effect.mean, effect.metric)
    if effect.summary.ci95 is None:
        return text
    low, high = (signed(end, effect.metric) for end in effect.summary.ci95)
    return f"{text} ({low}\u00a0to\u00a0{high})"


def _level(estimate: Estimate | None, metric: str) -> str:
    return NONE if estimate is None else level_text(estimate.summary, metric)


def _change(effect: Effect | None) -> str:
    if effect is None:
        return NONE
    p = "" if effect.p_holm is None else f", {_kept(p_text(effect.p_holm))}"
    return change_text(effect) + p


def _test_row(effect: Effect) -> tuple[str, ...]:
    sigma = effect.sigma
    return (
        _kept(effect_name(effect)),
        change_text(effect).replace(" (", "\u00a0("),
        NONE if effect.test is None else _p(effect.test.p_value),
        NONE if effect.p_holm is None else _p(effect.p_holm),
        f"{effect.agreeing} of {effect.seeds}",
        NONE if sigma is None else amount(sigma, effect.metric),
        _told(effect),
    )


def effect_name(effect: Effect) -> str:
    """Return what a row of tests is about."""
    if effect.contrast.role == "main":
        return f"{effect.contrast.name} {MINUS} {effect.contrast.against}"
    if effect.contrast.role == "interaction":
        return f"{effect.contrast.name} (interaction)"
    return effect.contrast.name


def _told(effect: Effect) -> str:
    if effect.told:
        if effect.contrast.role == "interaction":
            return "yes"
        return "yes:\u00a0better" if effect.improves else "yes:\u00a0worse"
    if effect.least_p_holm > 0.05:
        return "too few images"
    return "no"


def _p(value: float) -> str:
    return _kept(p_text(value).removeprefix("p = ").removeprefix("p "))


def _kept(text: str) -> str:
    return text.replace(" ", "\u00a0").replace("-", "\N{NON-BREAKING HYPHEN}")


def _kind_head(kind: str, metric: str) -> str:
    if kind == MEAN_OF_CLASSES:
        return f"{metric}, mean of classes (95 % CI)"
    if any(kind == name for name in OF_THE_IMAGE):
        return metric
    return f"{metric}, {kind} (95 % CI)"


def as_markdown(table: Table, *, numbers_from: int = 1) -> str:
    """Return a table as Markdown."""
    head, rows = table
    rule = ["---" if i < numbers_from else "---:" for i in range(len(head))]
    lines: list[Sequence[str]] = [head, rule, *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )

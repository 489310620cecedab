"""A comparison as plain text and as one HTML file."""

import math
from html import escape

import numpy as np

from contract.measures import METRICS
from contract.metrics import Summary
from contract.paired import PairedDifference
from contract.version import __version__
from training.report import charts, markup
from training.report.compare import Comparison, Row
from training.report.names import without_passwords
from training.report.wording import NONE, RESEARCH_ONLY, duration, metric_label, number, shown

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def as_text(comparison: Comparison) -> str:
    """Return aligned plain text."""
    lines = [_aligned(_cost(comparison)), "", *_notes(comparison), ""]
    head, rows = _scores(comparison)
    if rows:
        lines += [_aligned((head, rows)), ""]
    head, rows = _settings(comparison)
    lines.append(_aligned((head, rows)) if rows else "all settings are the same")
    return "\n".join(lines)


def as_html(comparison: Comparison) -> str:
    """Return the page."""
    names = comparison.names
    title = "Comparison: " + ", ".join(names)
    parts = [
        f"<h1>{escape(title)}</h1>",
        markup.paragraph(f"Each run is held against the first, {names[0]}.", "lead"),
        markup.paragraph(RESEARCH_ONLY, "research"),
        *(markup.warning(line) for line in _notes(comparison)[1:]),
        markup.section(
            "Runs and what they cost", [markup.table(*_cost(comparison), numbers_from=1)]
        ),
        _settings_section(comparison),
        _curves(comparison),
        _scores_section(comparison),
        f"<footer>{escape(RESEARCH_ONLY)} Made by Longskip {escape(__version__)}.</footer>",
    ]
    return markup.page(title, parts)


def _cost(comparison: Comparison) -> Table:
    rows: list[tuple[str, ...]] = []
    for place, record in enumerate(comparison.records):
        count, clock = comparison.parameters[place], comparison.clocks[place]
        planned = "" if record.planned_epochs is None else f" of {record.planned_epochs}"
        best = [v for v in record.history.get("val/dice").values if math.isfinite(v)]
        rows.append(
            (
                comparison.names[place],
                f"{record.history.epochs}{planned}",
                NONE if count is None else f"{count:,}",
                NONE if clock is None else duration(clock.total_s),
                NONE if clock is None or clock.steps_per_s is None else f"{clock.steps_per_s:.2f}",
                number(max(best)) if best else NONE,
            )
        )
    return (
        ("run", "epochs", "parameters", "training time", "steps per s", "best validation Dice"),
        rows,
    )


def _notes(comparison: Comparison) -> list[str]:
    notes = [f"Scores: {comparison.source}; {len(comparison.common)} images in common."]
    unfinished = [
        name
        for name, record in zip(comparison.names, comparison.records, strict=True)
        if not record.finished
    ]
    if unfinished:
        notes.append(
            f"Not trained to the planned end: {', '.join(unfinished)}. Do not hold such a run "
            "against one that was; its schedule did not reach its end."
        )
    shortened = [
        f"{name} ({record.history.epochs} of {record.planned_epochs} epochs)"
        for name, record in zip(comparison.names, comparison.records, strict=True)
        if record.finished and record.shortened_to is not None
    ]
    if shortened:
        notes.append(
            f"Shortened to keep the time limit: {', '.join(shortened)}. The schedule reached its "
            "end, but in fewer steps than planned: part of a difference may be that."
        )
    if comparison.renamed > 0:
        notes.append(
            f"The runs are of different images: {comparison.renamed} training images have one name "
            "and another content. Scores are paired by name, so differences, intervals and p mean "
            "nothing where that is so of validation images."
        )
    if comparison.left_out:
        notes.append(
            f"{comparison.left_out} images were scored by some of the runs only and are left out: "
            "the runs do not validate on the same images."
        )
    if not comparison.common:
        notes.append(
            "No image was scored by all runs, so there is nothing to compare case by case."
        )
    return notes


def _scores(comparison: Comparison) -> Table:
    head = ("class", "metric", *comparison.names)
    head += tuple(f"{name} minus {comparison.names[0]}" for name in comparison.names[1:])
    return head, [_score_row(row, comparison.unit) for row in comparison.rows]


def _score_row(row: Row, unit: str) -> tuple[str, ...]:
    return (
        row.kind,
        metric_label(row.metric, unit),
        *(_interval(mean, row.metric) for mean in row.means),
        *(_difference(difference, row.metric) for difference in row.differences),
    )


def _interval(summary: Summary, metric: str, *, sign: bool = False) -> str:
    if summary.mean is None:
        return NONE
    # The digits that a report and `evaluate` give.
    digits = f"{'+' if sign else ''}.{2 if METRICS[metric].is_length else 4}f"
    text = f"{summary.mean:{digits}}"
    if summary.ci95 is not None:
        text += f" ({summary.ci95[0]:{digits}} to {summary.ci95[1]:{digits}})"
    return text


def _difference(difference: PairedDifference, metric: str) -> str:
    text = _interval(difference.summary, metric, sign=True)
    return text if difference.test is None else f"{text}, p = {difference.test.p_value:.2g}"


def _breakable(cell: str, *, intervals: bool) -> str:
    """Let lines break before an interval and before p, and inside ``intervals`` where asked."""
    kept = cell.replace("p = ", "p\u00a0=\u00a0").replace("to ", "to\u00a0")
    return kept if intervals else kept.replace(" to", "\u00a0to")


def _settings(comparison: Comparison) -> Table:
    return (
        ("setting", *comparison.names),
        [
            (
                name,
                *(NONE if value is None else without_passwords(shown(value)) for value in values),
            )
            for name, values in comparison.differing.items()
        ],
    )


def _settings_section(comparison: Comparison) -> str:
    head, rows = _settings(comparison)
    content = markup.table(head, rows) if rows else markup.paragraph("All settings are the same.")
    return markup.section("Settings that differ", [content])


def _curves(comparison: Comparison) -> str:
    histories = {
        name: record.history
        for name, record in zip(comparison.names, comparison.records, strict=True)
    }
    caption = "Loss (training solid, validation dashed), validation Dice and learning rate."
    return markup.section("Curves", [markup.picture(charts.curves(histories), caption)])


def _scores_section(comparison: Comparison) -> str:
    parts = [markup.paragraph(_notes(comparison)[0])]
    if comparison.rows:
        head, rows = _scores(comparison)
        many = len(comparison.names) > 2  # the page is wide enough for two
        lines = [
            (*row[:2], *(_breakable(cell, intervals=many) for cell in row[2:])) for row in rows
        ]
        parts.append(markup.table(head, lines, numbers_from=2, wraps=True))
    for name, dice in zip(comparison.names[1:], comparison.dice[1:], strict=True):
        pairs = np.array([comparison.dice[0], dice]).T.reshape(-1, 2)
        pairs = pairs[~np.isnan(pairs).any(axis=1)]
        if len(pairs):
            source = charts.differences(pairs, labels=(comparison.names[0], name), metric="Dice")
            caption = (
                f"Each dot or count is one of {len(pairs)} images; Dice is the mean over classes. "
                f"Above the dashed line {name} is better."
            )
            parts.append(markup.picture(source, caption))
    parts.append(
        markup.paragraph(
            "Mean over the common images; in brackets the bootstrap 95 % interval; differences are "
            "taken image by image. p: sign-flip permutation test, two-sided. One run of each is "
            "one seed: repeat with other seeds before believing a small difference.",
            "note",
        )
    )
    return markup.section("Scores on the common validation images", parts)


def _aligned(table: Table) -> str:
    head, rows = table
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )

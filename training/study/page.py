"""A study's report: one HTML file that reads from top to bottom like a paper."""

import base64
from collections.abc import Sequence
from html import escape

from contract.version import __version__
from training.report import markup
from training.report.wording import RESEARCH_ONLY
from training.study.analyse import Analysis, bad_runs
from training.study.answer import answer
from training.study.cautions import cautions, limits
from training.study.config import StudyConfig
from training.study.figures import Drawn
from training.study.fresh_nets import RATIOS, by_level, ratios
from training.study.method import method_parts, without_folders
from training.study.phrases import quoted
from training.study.references import STATISTICS, references_in
from training.study.results import (
    comparisons_table,
    cost_table,
    other_metrics,
    rates_table,
    scores_table,
)
from training.study.run_cell import FAILED
from training.study.sentence import sentence
from training.study.shifted import shift_note, shift_table


def as_html(analysis: Analysis, figures: Sequence[Drawn]) -> str:
    """Return the page; figures are embedded in it."""
    record, config = analysis.record, analysis.record.config
    parts = [
        f"<h1>{escape(title_of(config))}</h1>",
        markup.paragraph(config.question, "lead"),
        *(markup.warning(text) for text in cautions(analysis)),
        markup.section("Answer", [markup.paragraph(" ".join(answer(analysis)))]),
    ]
    if config.background:
        background = [markup.paragraph(without_folders(config.background))]
        parts.append(markup.section("Background", background))
    parts.append(markup.section("Method", method_parts(analysis)))
    if config.steps:
        parts.append(markup.section("Results", _results(analysis, figures)))
        parts.append(markup.section("What was found", _findings(analysis)))
    else:
        parts.append(markup.section("Results", _fresh(analysis, figures)))
    rest = [figure for figure in figures if not _is_of_a_data_set(figure, config)]
    if rest and config.steps:
        parts.append(markup.section("A closer look", [embedded(figure) for figure in rest]))
    parts += [
        markup.section("Cost", _costs(analysis)),
        markup.section("What failed or collapsed", _failed(analysis)),
        markup.section("What this study cannot say", [_listed(limits(analysis))]),
        markup.section("How to repeat it", _repeat(analysis)),
    ]
    named = references_in(
        f"{config.question} {config.background} {STATISTICS if config.steps else ''}"
    )
    if named:
        parts.append(markup.section("References", [_listed(named)]))
    parts.append(
        f"<footer>{escape(RESEARCH_ONLY)} Runs ended on {record.date} (UTC). Made by Longskip "
        f"{escape(__version__)}.</footer>"
    )
    return markup.page(title_of(config), parts)


def title_of(config: StudyConfig) -> str:
    """Return e.g. ``Study: long-skips on em and nuclei``."""
    names = list(config.datasets)
    on = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"Study: {config.name} on {on}"


def embedded(figure: Drawn) -> str:
    """Return a figure as part of the page."""
    content = base64.b64encode(figure.svg.read_bytes()).decode("ascii")
    return markup.picture(f"data:image/svg+xml;base64,{content}", figure.caption)


def _is_of_a_data_set(figure: Drawn, config: StudyConfig) -> bool:
    kinds = ("dice", "interaction", "cost", "training")
    return figure.name == "learning-rates" or any(
        figure.name == f"{kind}-{dataset}" for kind in kinds for dataset in config.datasets
    )


def _results(analysis: Analysis, figures: Sequence[Drawn]) -> list[str]:
    by_name = {figure.name: figure for figure in figures}
    config = analysis.record.config
    parts: list[str] = []
    for dataset in config.datasets:
        if len(config.datasets) > 1:
            parts.append(f"<h3>{escape(dataset)}</h3>")
        if analysis.main_kind(dataset) is None:
            parts.append(markup.paragraph("No run has been scored yet."))
            continue
        head, rows = scores_table(analysis, dataset)
        scored = analysis.record.scores(dataset, "dice", analysis.main_kind(dataset) or "")
        note = (
            f"Mean over {len(scored.stems)} images of the mean over seeds; in brackets the "
            "bootstrap 95 % interval over images."
        )
        missing = _without_score(analysis, dataset)
        parts += [
            markup.table(head, rows, numbers_from=1, wraps=True),
            markup.paragraph(f"{note} {missing}".strip(), "note"),
        ]
        for factors in (False, True):
            head, rows = comparisons_table(analysis, dataset, factors=factors)
            if rows:
                parts.append(markup.table(head, rows, numbers_from=1, wraps=True))
        head, rows = shift_table(analysis, dataset)
        if rows:
            parts += [
                markup.table(head, rows, numbers_from=1, wraps=True),
                markup.paragraph(shift_note(analysis, dataset), "note"),
            ]
        parts += [
            embedded(by_name[name])
            for kind in ("dice", "interaction", "cost", "training")
            if (name := f"{kind}-{dataset}") in by_name
        ]
        parts += other_metrics(analysis, dataset)
    if len(config.learning_rates) > 1 and analysis.rates:
        parts.append("<h3>Learning rates</h3>")
        if "learning-rates" in by_name:
            parts.append(embedded(by_name["learning-rates"]))
        head, rows = rates_table(analysis)
        parts.append(markup.folded("Every try", markup.table(head, rows)))
    return parts


def _fresh(analysis: Analysis, figures: Sequence[Drawn]) -> list[str]:
    """Return what fresh nets' gradients do, by level of each factor and net by net."""
    config = analysis.record.config
    parts = [embedded(figure) for figure in figures]
    for dataset in config.datasets:
        found = {column: ratios(analysis.record, dataset, column) for column in RATIOS}
        first = found[next(iter(RATIOS))]
        if not first:
            parts.append(markup.paragraph(f"No net has been looked at on {dataset} yet."))
            continue
        head = ("factor", "level", "vanish (below 1/1000)", "between", "explode (above 1000)")
        parts += [
            f"<h3>First layer by last on {escape(dataset)}, by level of each factor</h3>",
            markup.table(head, by_level(config, first), numbers_from=2),
        ]
        rows = [
            (arm, *(by_arm[arm].text for by_arm in found.values()), str(first[arm].seeds))
            for arm in first
        ]
        every = markup.table(("net", *RATIOS.values(), "seeds"), rows, numbers_from=1)
        parts.append(markup.folded(f"All {len(rows)} nets on {dataset}", every))
    return parts


def _without_score(analysis: Analysis, dataset: str) -> str:
    """Return which classes have images without a score in some arm."""
    texts = []
    for kind in analysis.record.classes_of(dataset):
        counts = [
            estimate.summary.excluded_empty
            for arm in analysis.record.config.all_arms
            if (estimate := analysis.estimate(dataset, "dice", kind, arm)) is not None
        ]
        if any(counts):
            low, high = min(counts), max(counts)
            texts.append(f"{kind} in {low}" + ("" if low == high else f" to {high}"))
    if not texts:
        return ""
    return (
        f"Images without a score, as the class is neither there nor answered: {', '.join(texts)}."
    )


def _findings(analysis: Analysis) -> list[str]:
    parts: list[str] = []
    config = analysis.record.config
    for dataset in config.datasets:
        kind = analysis.main_kind(dataset)
        if kind is None:
            continue
        if len(config.datasets) > 1:
            parts.append(f"<h3>{escape(dataset)}</h3>")
        factors = analysis.effects_of(dataset, "dice", kind, factors=True)
        unit = analysis.record.length_unit(dataset)
        effects = analysis.effects_of(dataset, "dice", kind)
        arms = _listed([sentence(effect, unit) for effect in effects])
        if factors:
            parts.append(_listed([sentence(effect, unit) for effect in factors]))
            arms = markup.folded("Each arm against the reference", arms)
        parts.append(arms)
    return parts


def _costs(analysis: Analysis) -> list[str]:
    config = analysis.record.config
    parts: list[str] = []
    for dataset in config.datasets:
        head, rows = cost_table(analysis, dataset)
        if len(head) == 1:
            continue
        if len(config.datasets) > 1:
            parts.append(f"<h3>{escape(dataset)}</h3>")
        parts.append(markup.table(head, rows, numbers_from=1))
    if not parts:
        return [markup.paragraph("No run has ended yet.")]
    sizes = {
        f"{run.cells['macs_height_px']} × {run.cells['macs_width_px']} px"  # noqa: RUF001
        for run in analysis.record.runs
        if run.cells.get("macs_height_px")
    }
    text = (
        f"Multiply-accumulates of one image of {' or '.join(sorted(sizes))}. An arm without "
        "concatenated skips has fewer parameters and multiply-accumulates at the same widths, "
        "unless it was matched to the reference's."
    )
    if config.steps:
        text += " Training time is wall time of one run and holds whatever else the machine did."
    return [*parts, markup.paragraph(text, "note")]


def _failed(analysis: Analysis) -> list[str]:
    record = analysis.record
    bad = (
        bad_runs(record)
        if record.config.steps
        else [r for r in bad_runs(record) if r.state == "failed"]
    )
    if not bad:
        done = sum(run.scored for run in record.runs)
        return [markup.paragraph(f"None of the {done} runs that ended.")]
    rows = []
    for run in bad:
        reason = record.folder(run) / FAILED
        text = ""
        if run.state == "failed" and reason.is_file():
            text = reason.read_text(encoding="utf-8").strip().splitlines()[-1]
        dice = run.number("dice")
        shown = "" if dice != dice else f"{dice:.3f}"
        lr = f"{run.lr:g}"
        rows.append(
            (run.dataset, run.arm, str(run.seed), lr, run.state, shown, without_folders(text))
        )
    head = ("data set", "arm", "seed", "learning rate", "what", "Dice", "reason")
    return [markup.table(head, rows)]


def _repeat(analysis: Analysis) -> list[str]:
    record, config = analysis.record, analysis.record.config
    parts = [
        markup.code(without_folders(record.command)),
        markup.paragraph(
            "The same command goes on with a study that was ended, and writes this report anew. "
            "Folders are shown by their last names."
        ),
    ]
    run = next((run for run in record.runs if run.scored), None)
    if run is not None and config.steps:
        place = f"cells/{run.dataset}/{run.arm}/seed-{run.seed}/run"
        parts += [
            markup.paragraph("One run by itself, from the study's folder:"),
            markup.code(f"python -m training fit --config {place}/config.yaml --out again"),
        ]
    arms = len(config.all_arms)
    parts.append(
        markup.paragraph(
            f"{len(config.datasets)} data set(s) × {arms} arms × {len(config.seeds)} seeds "  # noqa: RUF001
            f"({', '.join(map(str, config.seeds))}). All figures stand unrounded in arms.csv and "
            "tests.csv, every run in runs.csv, every image in cases.csv, every try of a learning "
            f"rate in sweep.csv; the reference is {quoted(config.reference)}."
        )
    )
    return parts


def _listed(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"

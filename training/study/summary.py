"""A study's report in short, as Markdown: what a repository keeps of it."""

from training.report.wording import PART_NAMES
from training.study.analyse import Analysis
from training.study.answer import answer
from training.study.cautions import cautions, limits
from training.study.figures import Drawn
from training.study.fresh_nets import RATIOS, by_level, ratios
from training.study.method import difference_of, without_folders
from training.study.page import title_of
from training.study.results import (
    Table,
    as_markdown,
    comparisons_table,
    cost_table,
    scores_table,
)
from training.study.sentence import sentence
from training.study.shifted import shift_note, shift_table

MOST_ARMS = 16  # more of them are read in the CSV files


def as_summary(analysis: Analysis, figures: list[Drawn]) -> str:
    """Return question, answer, tables and findings, with command, machine and date."""
    record, config = analysis.record, analysis.record.config
    parts = [f"# {title_of(config)}", f"**{config.question}**"]
    parts += [f"> {text}" for text in cautions(analysis)]
    parts.append(" ".join(answer(analysis)))
    for dataset in config.datasets:
        seen = record.images[dataset]
        parts.append(f"## {dataset}")
        seeds = f"seeds {', '.join(map(str, config.seeds))}"
        parts.append(
            f"{seen['train']} images trained, {seen['val']} validated, {seen['test']} were held "
            f"out; scored on the {seen['scored_on']} images. {config.steps} steps, {seeds}."
            if config.steps
            else f"Fresh nets of {seeds} were looked at on the {seen[seen['scored_on']]} "
            f"{PART_NAMES[seen['scored_on']]} images; nothing was trained or scored."
        )
        if analysis.main_kind(dataset) is not None:
            parts.append(as_markdown(scores_table(analysis, dataset)))
            for factors in (False, True):
                table = comparisons_table(analysis, dataset, factors=factors)
                if table[1]:
                    parts.append(as_markdown(table))
            kind = analysis.main_kind(dataset) or ""
            effects = [
                *analysis.effects_of(dataset, "dice", kind, factors=True),
                *analysis.effects_of(dataset, "dice", kind),
            ]
            parts.append(
                "\n".join(
                    f"- {sentence(effect, record.length_unit(dataset))}" for effect in effects
                )
            )
        shifted = shift_table(analysis, dataset)
        if shifted[1]:
            parts += [shift_note(analysis, dataset), as_markdown(shifted)]
        first = ratios(record, dataset, next(iter(RATIOS)))
        if not config.steps and first:
            head = ("factor", "level", "vanish (below 1/1000)", "between", "explode (above 1000)")
            parts.append(as_markdown((head, by_level(config, first)), numbers_from=2))
        costs = cost_table(analysis, dataset)
        if len(costs[0]) > 1 and len(config.all_arms) <= MOST_ARMS:
            parts.append(as_markdown(costs))
    if len(config.all_arms) <= MOST_ARMS:
        arms: Table = (
            ("arm", "options of fit"),
            [(arm, without_folders(difference_of(config, arm))) for arm in config.all_arms],
        )
        parts += ["## Arms", as_markdown(arms, numbers_from=2)]
    parts += ["## What it cannot say", "\n".join(f"- {text}" for text in limits(analysis))]
    if figures:
        pictures = [f"![{figure.caption}](figures/{figure.name}.svg)" for figure in figures]
        parts += ["## Figures", *pictures]
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    parts += [
        "## How it was run",
        f"```sh\n{without_folders(record.command)}\n```",
        f"On {record.date} (UTC); {record.machine}. {versions}.",
    ]
    return "\n\n".join(parts) + "\n"

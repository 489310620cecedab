"""The method of a study in words and tables: whoever reads it can judge and repeat the study."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from training.report import markup
from training.report.names import without_passwords
from training.report.wording import PART_NAMES, metric_label, shown
from training.study.analyse import Analysis
from training.study.config import TRIAL_SEED, StudyConfig
from training.study.record import StudyRecord

SPLITS = {
    "block": "contiguous blocks, as neighbours by name are alike",
    "random": "drawn at random",
    "group": "by group, none of which is in two parts",
}
PATH = re.compile(r"(?<![\w.])(?:~|\.{0,2}/)[^\s:,=\"']*/([^\s/:,=\"']+)/?")


def without_folders(text: str) -> str:
    """Return text in which paths are their last names: where a person keeps files is their own."""
    return PATH.sub(r"\1", without_passwords(text))


def method_parts(analysis: Analysis) -> list[str]:
    """Return the method as HTML."""
    record, config = analysis.record, analysis.record.config
    parts = ["<h3>Images</h3>", _images(record), "<h3>Arms</h3>", *_arms(config)]
    parts += ["<h3>Training</h3>", *(markup.paragraph(text) for text in _training(record))]
    if config.steps:
        parts.append("<h3>Scores</h3>")
        parts += [markup.paragraph(text) for text in _scoring(record)]
        parts.append("<h3>Statistics</h3>")
        parts += [markup.paragraph(text) for text in statistics(config)]
    parts += [
        markup.folded(f"Settings planned for {dataset}, with reasons", _planned(choices))
        for dataset, choices in record.planned.items()
        if choices
    ]
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    parts.append(markup.paragraph(f"Machine: {record.machine}. {versions}.", "note"))
    return parts


def statistics(config: StudyConfig) -> list[str]:
    """Return what is estimated and tested, and after whom."""
    seeds = len(config.seeds)
    texts = [
        "The unit is the image (or the group of images, where the data set has patients or "
        "slides): its score is the mean over seeds, and an arm's score the mean over images. "
        "Intervals are bootstrap 95 % intervals over images (Efron 1979), widened for few of them "
        "(Hesterberg 2015); groups are drawn whole (Davison and Hinkley 1997). They say how far "
        "other images of the kind could move a figure.",
        "\N{GREEK SMALL LETTER SIGMA} is the standard deviation over seeds (n \N{MINUS SIGN} 1), "
        "not the variance and not an error of the mean. It says what training again would change "
        "by itself.",
        f"Each arm is held against “{config.reference}” image by image and seed by seed: runs of "
        "one seed share order and augmentation. p is that of the two-sided sign-flip permutation "
        "test over images (Phipson and Smyth 2010), corrected after Holm (1979) over the "
        "comparisons of a data set and metric; the overall score and the single classes are "
        "corrected by themselves, as are arms and factors.",
        "An arm is called better or worse only where the corrected p is at most 0.05 and the "
        f"difference has one sign in all {seeds} seeds. The test takes the trained nets as they "
        "are: it does not say what other seeds would give, which is why seeds are shown besides.",
        "A run that answers one class everywhere (collapsed; mostly background) or diverges counts "
        "with the scores it made: left out, an arm would gain by failing. A run that could not be "
        "finished has no scores and is named. An image in which a class is neither in truth nor "
        "in answer has no score for it, is left out of that mean, and counted.",
    ]
    if len(config.factors) > 1:
        texts.append(
            "The effect of a factor is the mean over all arms of one level minus that of its "
            "reference level. An interaction is the difference of two such effects: how much one "
            "factor does more (or less) when the other is changed as well."
        )
    return texts


def difference_of(config: StudyConfig, arm: str) -> str:
    """Return the options that make an arm, in one line."""
    return "; ".join(f"{key} = {shown(value)}" for key, value in config.all_arms[arm].items())


def _images(record: StudyRecord) -> str:
    rows = []
    for dataset, entry in record.config.datasets.items():
        seen = record.images[dataset]
        root = PurePath(str(entry.root)).name if entry.root else ""
        rows.append(
            (
                dataset if root in ("", dataset) else f"{dataset} ({root})",
                ", ".join(seen["classes"]),
                SPLITS.get(seen["split"], seen["split"]),
                *(str(seen[part]) for part in ("train", "val", "test")),
                PART_NAMES[seen["scored_on"]],
            )
        )
    last = "scored on" if record.config.steps else "looked at"
    head = ("data set", "classes", "split", "train", "validation", "test", last)
    return markup.table(head, rows)


def _arms(config: StudyConfig) -> list[str]:
    if config.factors:
        rows = [
            (factor, level + (" (reference)" if level in reference else ""), _options(options))
            for reference in [config.levels_of(config.reference).values()]
            for factor, levels in config.factors.items()
            for level, options in levels.items()
        ]
        parts = [markup.table(("factor", "level", "options of fit"), rows)]
        crossed = len(config.all_arms) - len(config.arms)
        parts.append(
            markup.paragraph(
                f"Every combination is an arm: {crossed} in all"
                + (f", and {len(config.arms)} by themselves." if config.arms else ".")
            )
        )
    else:
        parts = []
    if config.arms:
        named = [
            (arm + (" (reference)" if arm == config.reference else ""), _options(options))
            for arm, options in config.arms.items()
        ]
        parts.append(markup.table(("arm", "options of fit that make it"), named))
    parts.append(
        markup.paragraph(
            f"In all arms: {_options(config.base) or 'nothing else is set'}. Everything besides is "
            "the same for all arms of a data set: split, order of images, augmentation, steps."
        )
    )
    if any(key == "net.long_skips" for o in config.all_arms.values() for key in o):
        parts.append(
            markup.paragraph(
                "Taking concatenated skips away narrows what the decoder's blocks are given, so "
                "an arm without them has fewer parameters at the same widths (width-matched). "
                "An arm with net.match = parameters is widened until it has as many as the net "
                "with skips (parameter-matched). The cost table gives the counts."
            )
        )
    return parts


def _training(record: StudyRecord) -> list[str]:
    config = record.config
    if not config.steps:
        return [
            f"Nothing is trained: nets are looked at as they are initialised, with seeds "
            f"{_seeds(config)}."
        ]
    rates = ", ".join(f"{rate:g}" for rate in config.learning_rates)
    tuned = (
        f"The learning rate is tuned for each arm and data set: {rates} were tried for "
        f"{max(1, round(config.steps * config.sweep_fraction))} steps each with seed "
        f"{next((run.seed for run in record.tries), TRIAL_SEED)}, which no reported run has; the "
        "best validation Dice (on a tie the lowest loss) was taken."
        if len(config.learning_rates) > 1
        else f"The learning rate is {rates} in all arms; it was not tuned."
    )
    return [
        f"Every run takes {config.steps} optimiser steps, in all arms alike, and the weights after "
        f"the last step are judged; no checkpoint is chosen. Seeds: {_seeds(config)}, of weights, "
        "order and augmentation.",
        tuned,
    ]


def _scoring(record: StudyRecord) -> list[str]:
    config = record.config
    unit = _of_all({name: record.length_unit(name) for name in config.datasets})
    tolerances = {
        name: f"{seen['nsd_tolerance']:g} {record.length_unit(name)}"
        for name in config.datasets
        if "nsd_tolerance" in (seen := record.images[name])
    }
    names = [metric_label(metric, unit) for metric in config.metrics]
    besides = f" Besides it: {', '.join(names)}." if names else ""
    lengths = (
        " Lengths are in mm where the data set gives the size of a pixel, else in pixels."
        if any(metric in ("hd95", "assd", "nsd") for metric in config.metrics)
        else ""
    )
    if "nsd" in config.metrics and tolerances:
        lengths += f" The tolerance of NSD is {_of_all(tolerances)}."
    return [
        "Every image is segmented whole by the stages that export writes into a model file, and "
        f"scored class by class, background left out. The main score is Dice.{besides}{lengths} "
        "Where a class is in only one of truth and answer, it scores the worst value. Of each "
        "image also the mean cross-entropy per pixel in nats and the share of wrong pixels."
    ]


def _of_all(by_dataset: Mapping[str, str]) -> str:
    """Return what all data sets have in common, or what each has."""
    if len(set(by_dataset.values())) == 1:
        return next(iter(by_dataset.values()))
    return ", ".join(f"{value} on {name}" for name, value in by_dataset.items())


def _planned(choices: Sequence[Mapping[str, Any]]) -> str:
    rows = [(c["option"], shown(c["value"]), c["reason"]) for c in choices]
    return markup.table(("option", "value", "reason"), rows)


def _options(options: Mapping[str, Any]) -> str:
    text = "; ".join(f"{key} = {shown(value)}" for key, value in options.items())
    return without_folders(text)


def _seeds(config: StudyConfig) -> str:
    return ", ".join(map(str, config.seeds))

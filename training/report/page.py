"""The report of one run, section by section, as one HTML file that stands alone."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np
import yaml
from scipy.stats import spearmanr

from contract.measures import METRICS
from contract.metrics import Summary
from contract.version import __version__
from training.data.profile import DataProfile
from training.report import charts, markup
from training.report.answers import Answers, collapsed
from training.report.case_picture import ANSWER, TRUTH
from training.report.clock import Clock
from training.report.names import CaseName, own_names, without_passwords, without_paths
from training.report.objects import SizeBin, by_size
from training.report.properties import LABELS
from training.report.record import RunRecord
from training.score.cases import (
    ScoredCase,
    case_dice,
    groups_of,
    scored_classes,
    summarise_cases,
)
from training.score.summary import summary_of_uncertainty

RESEARCH_ONLY = "Research use only; not a medical device."
PART_NAMES = {"val": "validation", "test": "test"}
# Settings that say where, not what.
PLACES = ("out", "resume", "data.root", "data.spec", "data.split_file", "init_from", "config")
# Options of classes that we do not know, which may name places and people.
FREE = ("trainer.logger", "trainer.callbacks", "trainer.plugins")
FEWEST_FOR_A_RELATION = 8
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
UNCERTAINTY_NAMES = {
    "entropy": "entropy of the probabilities",
    "disagreement": "disagreement of the members",
}
NONE = "\N{EN DASH}"


@dataclass(frozen=True)
class Report:
    """All that a page is made of.

    Attributes:
        record: the run.
        defaults: `fit`'s own settings by dotted name, to tell what was set.
        profile: of the training images; None where the data set is not there.
        answers: None where no model could answer.
        missing: why something is left out, one line each.
        clock: None where no events are there.
        name: what a case is called.
        anonymous: leave out paths and stems.
    """

    record: RunRecord
    defaults: dict[str, Any]
    profile: DataProfile | None = None
    answers: Answers | None = None
    missing: tuple[str, ...] = ()
    clock: Clock | None = None
    name: CaseName = own_names
    anonymous: bool = False

    @property
    def title(self) -> str:
        """The run's name; its folder is often called after the data set."""
        return "Training report" + ("" if self.anonymous else f": {self.record.name}")


def render(report: Report) -> str:
    """Return the page."""
    parts = [*_head(report), _data(report), _choices(report), _curves(report)]
    if report.answers is not None:
        answers = report.answers
        parts += [
            _scores(answers),
            _cases(report, answers),
            _failures(answers),
            _calibration(answers),
        ]
    parts += [_timing(report), _environment(report), _repeat(report), _footer()]
    return markup.page(report.title, parts)


def _head(report: Report) -> list[str]:
    record = report.record
    lines = [
        f"<h1>{escape(report.title)}</h1>",
        markup.paragraph(_state(record), "lead"),
        markup.paragraph(RESEARCH_ONLY, "research"),
    ]
    tiles: list[tuple[str, str]] = []
    if report.answers is not None:
        answers = report.answers
        dice = summarise_cases(answers.model, answers.cases)["dice"]
        for name, summary in list(dice.items())[:3]:
            tiles.append((_mean(summary), f"Dice, {name}, {PART_NAMES[answers.part]}"))
        spec = answers.model.spec
        of = "" if spec.members == 1 else f" of each of {spec.members} nets"
        tiles.append((f"{spec.net.parameters:,}", f"parameters{of}"))
    elif (best := record.history.get("val/dice")).values:
        tiles.append((f"{max(best.values):.4f}", "best Dice over classes, validation"))
    if record.split is not None:
        split = record.split
        tiles.append(
            (
                f"{len(split.train)}/{len(split.val)}/{len(split.test)}",
                "images: train / val / test",
            )
        )
    if report.clock is not None:
        tiles.append((duration(report.clock.total_s), "training time"))
    lines.append(markup.facts(tiles))
    lines += [markup.warning(text) for text in _warnings(report)]
    return lines


def _state(record: RunRecord) -> str:
    done, planned = record.history.epochs, record.planned_epochs
    if record.finished and record.shortened_to is not None:
        return (
            f"Finished: {done} epochs. {planned} were planned; the machine was slower than that, "
            "and --max-minutes cut them. The schedule reached its end."
        )
    if record.finished:
        return f"Finished: all {planned} epochs were trained."
    of = "" if planned is None else f" of {planned}"
    return (
        f"Not finished when this page was made: {done}{of} epochs. The run goes on, or it was "
        "stopped, by a person, a time limit or a callback."
    )


def _warnings(report: Report) -> list[str]:
    record = report.record
    lines = list(report.missing)
    broken = record.history.first_not_finite
    if broken is not None:
        lines.append(
            f"The training loss is not a number from step {broken} on: the training diverged. "
            "Lower --optimiser.lr."
        )
    if report.answers is not None and collapsed(report.answers.model, report.answers.cases):
        lines.append(
            "The model answers background on every pixel of every image: it collapsed, and every "
            "score below is that of an empty answer. Train longer, lower --optimiser.lr, or raise "
            "--data.foreground_fraction."
        )
    if report.answers is not None and report.answers.trained_on:
        lines.append(
            f"{report.answers.trained_on} of the {len(report.answers.cases)} images scored below "
            "are among those that the model file was trained on: its scores are too good. Take "
            "--part test."
        )
    return lines


def _data(report: Report) -> str:
    record, seen = report.record, report.profile
    parts = []
    if record.split is not None:
        split = record.split
        sizes = ", ".join(
            f"{len(getattr(split, part))} {PART_NAMES.get(part, 'training')}"
            for part in ("train", "val", "test")
        )
        how = f"Split: {split.kind}, seed {split.seed}"
        if split.folds is not None:
            how += f", fold {split.fold} of {split.folds}"
        parts.append(markup.paragraph(f"{how}; images: {sizes}."))
    if seen is None:
        parts.append(
            markup.paragraph("The training images were not there to be looked at.", "note")
        )
        return markup.section("Data", parts)
    parts.append(
        markup.table(
            ("", "least", "median", "greatest"),
            [
                ("height in px", *(f"{v:g}" for v in seen.height_px)),
                ("width in px", *(f"{v:g}" for v in seen.width_px)),
            ],
            numbers_from=1,
        )
    )
    parts.append(
        markup.table(
            ("raw intensity", "1st percentile", "median", "99th percentile"),
            [
                (f"channel {index}", *(f"{v:g}" for v in channel))
                for index, channel in enumerate(seen.intensity_p01_p50_p99, start=1)
            ],
            numbers_from=1,
        )
    )
    rows = []
    for kind in seen.classes:
        area = kind.object_area_px
        rows.append(
            (
                kind.name,
                f"{100 * kind.pixel_fraction:.2f} %",
                f"{kind.images} of {seen.images}",
                NONE if kind.objects_per_image is None else f"{kind.objects_per_image:g}",
                NONE if area is None else " / ".join(f"{v:.0f}" for v in area),
            )
        )
    parts.append(
        markup.table(
            (
                "class",
                "of all pixels",
                "images with it",
                "objects per image (median)",
                "object area in px (5th / 50th / 95th percentile)",
            ),
            rows,
            numbers_from=1,
        )
    )
    parts.append(
        markup.paragraph(
            f"Training images: {seen.images}, {seen.channels} channel(s) of {seen.bits} bit; "
            f"{seen.profiled} of them were looked at pixel by pixel. An object is a connected "
            "piece of one class.",
            "note",
        )
    )
    return markup.section("Data", parts)


def _choices(report: Report) -> str:
    record = report.record
    rows = []
    for name, value in record.settings.items():
        if name in PLACES or (report.anonymous and name.startswith(FREE)):
            continue
        reason = record.reasons.get(name, "")
        if reason or report.defaults.get(name) != value:
            rows.append((name, without_passwords(shown(value)), reason))
    has_reasons = any(row[2] for row in rows)
    text = (
        "Settings that were chosen for a reason or differ from the defaults of fit."
        if has_reasons
        else "Settings that differ from the defaults of fit."
    )
    parts = [markup.paragraph(text, "note")]
    if rows:
        head = ("setting", "value", "why") if has_reasons else ("setting", "value")
        parts.append(markup.table(head, [row[: len(head)] for row in rows]))
    else:
        parts.append(markup.paragraph("None: all defaults."))
    kept = {
        name: value
        for name, value in record.settings.items()
        if not (report.anonymous and (name in PLACES or name.startswith(FREE)))
    }
    all_text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
    parts.append(markup.folded("all settings", markup.code(without_passwords(all_text))))
    return markup.section("Choices", parts)


def _curves(report: Report) -> str:
    history = report.record.history
    if not history.series:
        return markup.section("Curves", [markup.paragraph("Nothing was logged yet.")])
    parts = [
        markup.picture(
            charts.curves({report.record.name: history}),
            "Loss (training: mean of each epoch; validation: whole images), Dice on the validation "
            "images, learning rate.",
        )
    ]
    best = history.get("val/dice")
    if best.values:
        top = max(range(len(best.values)), key=lambda i: best.values[i])
        epoch = history.in_epochs(best)[top]
        unit = "epoch" if history.steps_per_epoch else "step"
        parts.append(
            markup.paragraph(
                f"Best Dice over classes {best.values[top]:.4f} after {unit} {epoch:.0f}, last "
                f"{best.values[-1]:.4f}; {len(best.values)} validation(s)."
            )
        )
    return markup.section("Curves", parts)


def _scores(answers: Answers) -> str:
    model, cases = answers.model, answers.cases
    by_metric = summarise_cases(model, cases)
    ruler = cases[0].ruler
    rows = [
        (
            name,
            metric_label(metric, ruler.unit, ruler.nsd_tolerance),
            NONE if summary.mean is None else score(summary.mean, metric),
            NONE
            if summary.ci95 is None
            else f"{score(summary.ci95[0], metric)} to {score(summary.ci95[1], metric)}",
            str(summary.cases),
            str(summary.excluded_empty),
        )
        for name in dict.fromkeys(name for by_class in by_metric.values() for name in by_class)
        for metric, by_class in by_metric.items()
        if (summary := by_class.get(name)) is not None
    ]
    dice = {
        model.spec.class_names[index]: [case.scores[index].dice for case in cases]
        for index in scored_classes(model)
    }
    tiled = sum(case.tiled for case in cases)
    chosen = (
        " The validation images chose the checkpoint, so these figures are a little too good."
        if answers.part == "val"
        else ""
    )
    return markup.section(
        f"Scores on the {PART_NAMES[answers.part]} images",
        [
            markup.table(
                ("class", "metric", "mean", "95 % interval", "images", "both empty, left out"),
                rows,
                numbers_from=2,
            ),
            markup.picture(charts.score_spread(dice), "Dice of each image by class."),
            markup.paragraph(
                f"Scored: {answers.source}, on {len(cases)} whole images"
                + (f" ({tiled} of them in tiles)" if tiled else "")
                + f". Mean over images, bootstrap interval over {_drawn(cases)}. A class "
                "that is in neither mask nor answer has no score; in only one of the two it has "
                f"the worst one: 0, and the image's diagonal for distances.{chosen}",
                "note",
            ),
        ],
    )


def _cases(report: Report, answers: Answers) -> str:
    model = answers.model
    by_stem = {case.case.stem: case for case in answers.cases}
    foreground = list(scored_classes(model))
    parts = [_legend(answers)]
    for group in dict.fromkeys(group for group, _, _ in answers.pictures):
        figures = []
        for own, stem, svg in answers.pictures:
            if own != group:
                continue
            case = by_stem[stem]
            scores = ", ".join(
                f"{model.spec.class_names[index]} {number(case.scores[index].dice)}"
                for index in foreground
                if not case.scores[index].empty
            )
            mean = "" if len(foreground) == 1 else f"mean Dice {case_dice(model, case):.4f}; "
            text = scores if mean else f"Dice {number(case.scores[foreground[0]].dice)}"
            figures.append(
                f"<figure>{svg}<figcaption>{escape(report.name(stem))}: {escape(mean + text)}; "
                f"{case.height_px}&nbsp;x&nbsp;{case.width_px}&nbsp;px</figcaption></figure>"
            )
        parts.append(
            f'<div class="keep"><h3>{group.capitalize()}</h3><div class="cases">'
            f"{''.join(figures)}</div></div>"
        )
    if not answers.pictures:
        parts.append(markup.paragraph("No image holds a class, in truth or answer."))
    return markup.section("Worst, median and best images", parts)


def _legend(answers: Answers) -> str:
    spec = answers.model.spec
    foreground = list(scored_classes(answers.model))
    if len(foreground) == 1:
        keys = [(TRUTH, "", "truth"), (ANSWER, "", "answer")]
    else:
        keys = [
            ("#{:02x}{:02x}{:02x}".format(*spec.palette[i]), "", spec.class_names[i])
            for i in foreground
        ]
        keys += [("#1b1f24", "", "truth: solid"), ("#1b1f24", " dashed", "answer: dashed")]
    items = "".join(
        f'<span class="key{kind}" style="border-top-color: {colour}"></span>{escape(label)}'
        for colour, kind, label in keys
    )
    return f'<p class="note">Contours: {items}</p>'


def _failures(answers: Answers) -> str:
    model = answers.model
    parts = []
    for index in scored_classes(model):
        found, right = (
            by_size(objects[index]) for objects in (answers.truth_objects, answers.answer_objects)
        )
        if not found and not right:
            continue
        name = model.spec.class_names[index]
        parts.append(f"<h3>By size of the object: {escape(name)}</h3>")
        parts.append(
            markup.picture(
                charts.found_by_size(found, right),
                f"{name}: {_counted(found)} of the true objects were found, {_counted(right)} of "
                "the answered objects are true (covered by half or more). Bins of about equally "
                "many objects, with 95 % interval. Touching objects count as one.",
            )
        )
    parts += _by_property(answers)
    return markup.section("Where it fails", parts)


def _counted(bins: Sequence[SizeBin]) -> str:
    return f"{sum(b.covered for b in bins)} of {sum(b.objects for b in bins)}"


def _by_property(answers: Answers) -> list[str]:
    kept = [
        (score, asdict(answers.properties[case.case.stem]))
        for case in answers.cases
        if not math.isnan(score := case_dice(answers.model, case))
    ]
    title = "<h3>By property of the image</h3>"
    if len(kept) < FEWEST_FOR_A_RELATION:
        return [
            title,
            markup.paragraph(
                f"{len(kept)} images with a score are too few to relate Dice to their properties; "
                f"{FEWEST_FOR_A_RELATION} are needed.",
                "note",
            ),
        ]
    dice = np.array([d for d, _ in kept])
    values = {name: np.array([p[name] for _, p in kept]) for name in LABELS}
    varying = {name: v for name, v in values.items() if np.ptp(v) > 0}
    order_of_thirds = {
        n: np.array_split(np.argsort(v, kind="stable"), 3) for n, v in varying.items()
    }
    rows = []
    for name, thirds in order_of_thirds.items():
        relation = NONE if np.ptp(dice) == 0 else f"{spearmanr(varying[name], dice).statistic:+.2f}"
        rows.append((LABELS[name], *(f"{dice[third].mean():.4f}" for third in thirds), relation))
    return [
        title,
        markup.picture(
            charts.against_properties(dice, varying),
            "Dice (mean over classes) of each image against its properties.",
        )
        if varying
        else "",
        markup.table(
            ("property", "Dice, lowest third", "middle third", "highest third", "rank correlation"),
            rows,
            numbers_from=1,
        ),
        markup.paragraph(
            f"{len(kept)} images, in thirds by each property; intensities are raw. Rank "
            "correlation: Spearman's, of Dice with the property. With this many properties one of "
            "them relates to Dice by chance easily; take it as a place to look, not as a finding.",
            "note",
        ),
    ]


def _drawn(cases: Sequence[ScoredCase]) -> str:
    """Return what an interval is over."""
    groups = [group for group in groups_of(cases) if group is not None]
    return f"the {len(set(groups))} groups that they belong to" if groups else "images"


def _calibration(answers: Answers) -> str:
    seen = answers.reliability
    uncertainty = summary_of_uncertainty(answers.model, answers.cases)
    error = 1 - sum(seen.hits) / max(seen.total, 1)
    direction = "over" if sum(seen.confidence) > sum(seen.hits) else "under"
    return markup.section(
        "Calibration and uncertainty",
        [
            markup.picture(
                charts.reliability_diagram(seen),
                "Share of pixels whose label is right, by the confidence in it; below the dashed "
                "line the model is too sure. Bins of fewer than 50 pixels are left out.",
            ),
            markup.paragraph(
                f"Expected calibration error {seen.ece:.4f} (15 bins, {seen.total:,} "
                f"pixels of {len(answers.cases)} images); {100 * error:.2f} % of the pixels are "
                f"wrong; on the whole the model is {direction}confident. Most pixels are easy "
                "background and outweigh the hard ones: look at the diagram too."
            ),
            markup.table(
                ("measure of an image", "mean in nats a pixel", "rank correlation with 1 - Dice"),
                [
                    (
                        UNCERTAINTY_NAMES[measure],
                        number(row["mean_nats"]),
                        NONE
                        if row["spearman_with_error"] is None
                        else f"{row['spearman_with_error']:+.2f}",
                    )
                    for measure, row in uncertainty.items()
                ],
                numbers_from=1,
            ),
            markup.paragraph(
                "Near 1, the images of which the model is least sure are the worst ones; near 0, "
                "its doubt does not point to them.",
                "note",
            ),
        ],
    )


def _timing(report: Report) -> str:
    history, clock = report.record.history, report.clock
    rows = []
    if clock is not None:
        rows.append(("from the first logged step to the last", duration(clock.total_s)))
        if clock.steps_per_s is not None:
            rows.append(("optimiser steps per second, median", f"{clock.steps_per_s:.2f}"))
            batch = report.record.settings.get("data.batch_size")
            if isinstance(batch, int):
                pace = f"{clock.steps_per_s * batch:.1f}"
                rows.append(("samples per second, of one process", pace))
    wait = history.get("data_wait_share")
    if wait.values:
        later = wait.values[1:] or wait.values
        rows.append(
            ("share of step time spent waiting for data, mean", f"{100 * np.mean(later):.1f} %")
        )
    rows.append(("epochs", str(history.epochs)))
    if history.steps_per_epoch:
        rows.append(("steps per epoch", f"{history.steps_per_epoch:g}"))
    parts = [markup.table(("", ""), rows, numbers_from=1)]
    if clock is None:
        text = "No TensorBoard events with times are in logs/, so the run's duration is not known."
        parts.append(markup.paragraph(text, "note"))
    return markup.section("Timing", parts)


def _environment(report: Report) -> str:
    record, facts = report.record, report.record.environment
    rows = [
        (label, shown(facts[key]))
        for key, label in (
            ("commit", "commit of Longskip"),
            ("python", "Python"),
            ("platform", "platform"),
            ("cpu_threads", "CPU threads"),
            ("gpus", "GPUs"),
            ("seed", "seed of the weights"),
            ("data_seed", "seed of split, order and augmentation"),
            ("images", "images in the data set"),
        )
        if facts.get(key) not in (None, [])
    ]
    rows += [(name, str(version)) for name, version in dict(facts.get("packages", {})).items()]
    if report.answers is not None:
        spec = report.answers.model.spec
        net = spec.net
        kind = net.architecture + (f" on {net.encoder}" if net.encoder else "")
        skips = ", ".join(net.long_skips) or "no dial"
        rows.append(
            ("net", f"{kind}, {net.parameters:,} parameters, long skips (finest first): {skips}")
        )
    if not rows:
        rows = [("environment.json", "not there")]
    if record.history.series and not facts:
        rows.append(("logs", "there"))
    return markup.section("Environment", [markup.table(("", ""), rows)])


def _repeat(report: Report) -> str:
    record = report.record
    commands = []
    if record.environment.get("commit"):
        commands.append(f"git checkout {record.environment['commit']}")
    secrets = [record.name, str(record.settings.get("data.root") or ""), str(record.run.root)]
    given = [str(word) for word in record.environment.get("command", [])]
    if given:
        words = without_paths(given, secrets) if report.anonymous else given
        commands.append(without_passwords(" ".join(map(_quoted, words))))
    root = "RUN" if report.anonymous else str(record.run.root)
    again = [
        f"python -m training fit --config {_quoted(root + '/config.yaml')} \\\n"
        f"  --data.split_file {_quoted(root + '/split.json')} --out {_quoted(root + '-again')}",
        f"python -m training export {_quoted(root)} --name my-model",
        f"python -m training report {_quoted(root)}",
    ]
    return markup.section(
        "How to repeat",
        [
            markup.paragraph("As it was called:"),
            markup.code("\n".join(commands) or "not recorded"),
            markup.paragraph("From the run's folder, which holds all settings and the split:"),
            markup.code("\n".join(again)),
            markup.paragraph(
                "On the same machine and versions the same seeds give the same weights on a CPU.",
                "note",
            ),
        ],
    )


def _footer() -> str:
    return (
        f"<footer>{escape(RESEARCH_ONLY)} Not for diagnosis, treatment or any other clinical "
        f"decision. Made by Longskip {escape(__version__)}.</footer>"
    )


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


def _mean(summary: Summary) -> str:
    return NONE if summary.mean is None else number(summary.mean)


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


def _quoted(word: str) -> str:
    safe = word and all(letter.isalnum() or letter in "-_./=:,@+" for letter in word)
    return word if safe else "'" + word.replace("'", "'\\''") + "'"

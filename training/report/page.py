"""The report of one run, section by section, as one HTML file that stands alone."""

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import yaml

from contract.metrics import Summary
from contract.version import __version__
from training.data.profile import DataProfile
from training.fit.alarms import Alarm, read_alarms, sentence
from training.report import charts, markup
from training.report.answer_sections import (
    calibration_section,
    cases_section,
    failures_section,
    scores_section,
)
from training.report.answers import Answers, collapsed
from training.report.clock import Clock
from training.report.names import CaseName, own_names, without_passwords, without_paths
from training.report.record import RunRecord
from training.report.wording import NONE, PART_NAMES, RESEARCH_ONLY, duration, number, shown
from training.score.cases import summarise_cases

# Settings that say where, not what.
PLACES = ("out", "resume", "data.root", "data.spec", "data.split_file", "init_from", "config")
# Options of classes that we do not know, which may name places and people.
FREE = ("trainer.logger", "trainer.callbacks", "trainer.plugins")


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
            scores_section(answers),
            cases_section(answers, report.name),
            failures_section(answers),
            calibration_section(answers),
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


def _alarms(record: RunRecord) -> list[str]:
    """Return what the training warned of, a line for each fault and step."""
    said: dict[tuple[int, str], list[Alarm]] = {}
    for alarm in read_alarms(record.run.alarms):
        said.setdefault((alarm.step, alarm.fault), []).append(alarm)
    return [sentence(alarms, layers=sum(alarm.of for alarm in alarms)) for alarms in said.values()]


def _warnings(report: Report) -> list[str]:
    record = report.record
    lines = list(report.missing)
    broken = record.history.first_not_finite
    if broken is not None:
        lines.append(
            f"The training loss is not a number from step {broken} on: the training diverged. "
            "Lower --optimiser.lr."
        )
    lines += _alarms(record)
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


def _mean(summary: Summary) -> str:
    return NONE if summary.mean is None else number(summary.mean)


def _quoted(word: str) -> str:
    safe = word and all(letter.isalnum() or letter in "-_./=:,@+" for letter in word)
    return word if safe else "'" + word.replace("'", "'\\''") + "'"

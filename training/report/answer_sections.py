"""The part of a report that needs a model's answers: scores, cases, failures, calibration."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape

import numpy as np
from scipy.stats import spearmanr

from training.report import charts, markup
from training.report.answers import Answers
from training.report.case_picture import ANSWER, TRUTH
from training.report.names import CaseName
from training.report.objects import SizeBin, by_size
from training.report.properties import LABELS
from training.report.wording import NONE, PART_NAMES, metric_label, number, score
from training.score.cases import (
    ScoredCase,
    case_dice,
    groups_of,
    scored_classes,
    summarise_cases,
)
from training.score.summary import summary_of_uncertainty

FEWEST_FOR_A_RELATION = 8
UNCERTAINTY_NAMES = {
    "entropy": "entropy of the probabilities",
    "disagreement": "disagreement of the members",
}


def scores_section(answers: Answers) -> str:
    """Return the table of scores by class, and their spread."""
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


def cases_section(answers: Answers, name: CaseName) -> str:
    """Return the worst, median and best images with contours, each called by ``name``."""
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
                f"<figure>{svg}<figcaption>{escape(name(stem))}: {escape(mean + text)}; "
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


def failures_section(answers: Answers) -> str:
    """Return what is missed and made up by size, and Dice by property of the image."""
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


def calibration_section(answers: Answers) -> str:
    """Return how honest the probabilities are, and whether doubt points to bad images."""
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

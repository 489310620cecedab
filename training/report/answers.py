"""What a run's model answers on a part of its split, looked at from every side of the report."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from contract.model import Model
from imaging.channels import to_chw_float32
from imaging.overlay import display_rgb
from training.calibrate.reliability import Reliability
from training.data.fingerprint import image_hash
from training.data.folder import IGNORE, FolderDataset, load_image, load_mask
from training.fit.run_directory import RunDirectory
from training.graph.export import export
from training.report.card import answer_lines
from training.report.case_picture import case_svg, plane_of
from training.report.names import CaseName
from training.report.objects import Objects, joined, objects_of
from training.report.properties import ImageProperties, properties_of
from training.score.cases import (
    ScoredCase,
    case_dice,
    check_classes,
    reliability_over,
    score_cases,
    scored_classes,
)
from training.score.choose import choose_metrics
from training.score.rulers import Rulers

PER_GROUP = 3
GROUPS = ("worst", "median", "best")


@dataclass(frozen=True)
class Answers:
    """What the report says of one part.

    Attributes:
        model: the file that answered.
        source: which one it is, in words.
        part: ``val`` or ``test``.
        cases: scored, in the split's order.
        trained_on: how many of their images the file was trained on, by their hashes.
        properties: of each case's image, by stem.
        truth_objects: by class index, held against the answer.
        answer_objects: by class index, held against the truth.
        reliability: over all of them.
        pictures: the worst, median and best cases: group, stem, SVG.
    """

    model: Model
    source: str
    part: str
    cases: tuple[ScoredCase, ...]
    trained_on: int
    properties: Mapping[str, ImageProperties]
    truth_objects: Mapping[int, Objects]
    answer_objects: Mapping[int, Objects]
    reliability: Reliability
    pictures: tuple[tuple[str, str, str], ...]


@contextmanager
def model_of(run: RunDirectory, path: Path | None) -> Iterator[tuple[Model, str]]:
    """Open the model file at ``path``, or one that is exported from the run for this once.

    Raises:
        LongskipError: there is no checkpoint yet, it does not load, or it cannot be exported.
    """
    if path is not None:
        model = Model.open(path, device="cpu")
        made = [line.removeprefix("- ") for line in answer_lines(model.spec)]
        answers = "".join(f"; {line}" for line in made)
        yield model, f"the model file {path.name} (sha256 {model.sha256[:12]}…{answers})"
        return
    checkpoint = run.checkpoint("best")
    with tempfile.TemporaryDirectory(prefix="longskip-report-") as folder:
        exported = export(
            checkpoint,
            name="report",
            to=Path(folder),
            dataset=None,
            split=None,
            say=lambda line: None,
        )
        model = Model.open(exported.path, device="cpu", prove=False)
        yield model, f"{checkpoint.name}, exported for this report"


def look_at_answers(
    model: Model,
    source: str,
    dataset: FolderDataset,
    stems: Sequence[str],
    *,
    part: str,
    name: CaseName,
    rulers: Rulers | None = None,
) -> Answers:
    """Segment, score and look at the images of ``stems``.

    Args:
        model: to look at.
        source: what to call it.
        dataset: that has the images.
        stems: at least one.
        part: what to call them.
        name: of a case, for its progress and pictures.
        rulers: what lengths are measured in; pixels without.

    Raises:
        DataError: the data set's classes are not the model's.
    """
    check_classes(model, dataset)
    metrics = choose_metrics("auto", dataset, dataset.select(stems), scored_classes(model))
    scored = score_cases(model, dataset, stems, metrics=metrics, rulers=rulers, uncertainty=True)
    cases = tuple(tqdm(scored, total=len(stems), desc="scoring", unit="image", disable=None))
    shown = chosen_cases(model, cases)
    foreground = list(scored_classes(model))
    properties: dict[str, ImageProperties] = {}
    truths: dict[int, list[Objects]] = {index: [] for index in foreground}
    answers: dict[int, list[Objects]] = {index: [] for index in foreground}
    pictures: dict[str, str] = {}
    known = set() if model.spec.training_data is None else {*model.spec.training_data.image_hashes}
    trained_on = 0
    progress = tqdm(cases, desc="looking at answers", unit="image", disable=None)
    for place, case in enumerate(progress):
        pixels = load_image(case.case, model.spec.channels)
        trained_on += image_hash(pixels) in known
        truth = load_mask(case.case, dataset.spec)
        counted = _counted(truth)
        image = to_chw_float32(pixels)
        stem = case.case.stem
        holds = np.logical_or.reduce([plane_of(truth, index) for index in foreground])
        properties[stem] = properties_of(image, holds, counted)
        for index in foreground:
            truths[index].append(objects_of(truth, case.labels, index, counted=counted))
            answers[index].append(objects_of(case.labels, truth, index, counted=counted))
        if any(stem == s for _, s in shown):
            pictures[stem] = case_svg(
                f"image-{place}",
                display_rgb(pixels),
                truth,
                case.labels,
                model.spec.palette,
                foreground=foreground,
            )
    return Answers(
        model=model,
        source=source,
        part=part,
        cases=cases,
        trained_on=trained_on,
        properties=properties,
        truth_objects={index: joined(parts) for index, parts in truths.items()},
        answer_objects={index: joined(parts) for index, parts in answers.items()},
        reliability=reliability_over(cases),
        pictures=tuple((group, stem, pictures[stem]) for group, stem in shown),
    )


def chosen_cases(model: Model, cases: Sequence[ScoredCase]) -> list[tuple[str, str]]:
    """Return group and stem of the worst, median and best cases; no case stands twice.

    Cases without any class in truth and answer have no score and are not chosen.
    """
    scored = [(case_dice(model, case), case.case.stem) for case in cases]
    ranked = [stem for dice, stem in sorted(scored) if not np.isnan(dice)]
    most = min(PER_GROUP, -(-len(ranked) // len(GROUPS)))
    worst, rest = ranked[:most], ranked[most:]
    most = min(PER_GROUP, -(-len(rest) // 2))
    rest, best = rest[: len(rest) - most], rest[len(rest) - most :]
    start = max(0, (len(rest) - PER_GROUP) // 2)
    groups = (worst, rest[start : start + PER_GROUP], best)
    return [(g, stem) for g, stems in zip(GROUPS, groups, strict=True) for stem in stems]


def collapsed(model: Model, cases: Sequence[ScoredCase]) -> bool:
    """Whether the model answers background everywhere, though the truth does not."""
    scores = [case.scores[index] for case in cases for index in scored_classes(model)]
    return not any(s.prediction_px for s in scores) and any(s.truth_px for s in scores)


def _counted(truth: NDArray[np.uint8]) -> NDArray[np.bool_]:
    counted: NDArray[np.bool_] = truth != IGNORE
    if counted.ndim == 3:
        counted = np.logical_and.reduce(counted)
    return counted

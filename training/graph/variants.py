"""Precision variants: ``model.fp16.onnx`` and ``model.int8.onnx`` beside ``model.onnx``.

Each is a whole model file of its own, with its own spec, scores and golden sample. One that fails
its gate is left out and says why; the others are not touched by that.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx
from tqdm import tqdm

from contract.errors import LongskipError, RequestInvalid
from contract.golden import OUTPUTS, make_golden
from contract.model import Model
from contract.spec import ModelSpec, Precision
from contract.statistics import image_statistics
from imaging.channels import to_chw_float32
from training.data.folder import FolderDataset, load_image
from training.data.split import Split
from training.graph.assemble import ModelGraph
from training.graph.fp16 import trace_fp16
from training.graph.gate import Part, VariantRefused, check_dial, check_dice, check_sizes, dice_loss
from training.graph.int8 import Feeds, quantise
from training.graph.onnx_file import with_spec
from training.score.cases import (
    ScoredCase,
    mean_dice,
    score_cases,
    scored_classes,
    spec_metrics,
)
from training.score.choose import choose_for_spec
from training.score.rulers import rulers_for

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
CALIBRATION_IMAGES = 32
# Larger images are cut to their middle, with the whole's statistics: the range that a tensor takes
# hardly grows with the number of pixels, the time and memory of calibrating do.
CALIBRATION_SIDE = 256
# Smaller nets take longer in int8 than in fp32: to and fro costs more than the layers save. At 256²
# one of 9 thousand parameters ran at 0.78 of fp32's speed, one of 113 thousand at 1.17, those of
# 450 thousand and more at 1.5 to 2.1.
INT8_LEAST_PARAMETERS = 100_000
# What a device prefers where it has passed its gate; see ADR 0015.
PREFERENCE: dict[Literal["cpu", "cuda"], Precision] = {"cpu": "int8", "cuda": "fp16"}


@dataclass(frozen=True)
class Variant:
    """A file that passed its gate.

    Attributes:
        model: the file, proved.
        part: whose images judged it.
        dice: on that part, through the file.
        dice_loss: against fp32, of the class that loses most.
        clear_flips: share of synthetic pictures' clear pixels with another label than fp32's.
    """

    model: Model
    part: Part
    dice: float
    dice_loss: float
    clear_flips: float


@dataclass(frozen=True)
class Refusal:
    """A precision that was asked for and left out."""

    precision: Precision
    reason: str


@dataclass(frozen=True)
class Full:
    """The fp32 model that variants are made from and judged against.

    Attributes:
        graph: with the checkpoint's weights.
        traced: the same as ONNX.
        model: the file, opened.
        spec: final but for ``preferred_precision``.
        part: whose images judge the variants.
        judged: how the file scored on them.
    """

    graph: ModelGraph
    traced: onnx.ModelProto
    model: Model
    spec: ModelSpec
    part: Part
    judged: Sequence[ScoredCase]


def read_precisions(words: str) -> tuple[Precision, ...]:
    """Return the precisions in ``words``, e.g. ``fp32,int8``, in our order; fp32 always is one.

    Raises:
        RequestInvalid: an unknown word.
    """
    asked = {word.strip() for word in words.split(",") if word.strip()}
    unknown = sorted(asked - set(PRECISIONS))
    if unknown:
        raise RequestInvalid(
            f"--precision knows {', '.join(PRECISIONS)}, in any number, separated by commas; got "
            f"{', '.join(unknown)}"
        )
    return tuple(p for p in PRECISIONS if p in asked or p == "fp32")


def make_variants(
    precisions: Sequence[Precision],
    full: Full,
    *,
    folder: Path,
    dataset: FolderDataset,
    split: Split,
    max_dice_loss: float,
    say: Callable[[str], None],
) -> tuple[list[Variant], list[Refusal]]:
    """Write each variant into ``folder`` and let it pass its gate, or delete it again.

    Args:
        precisions: fp32 among them is passed over.
        full: the model in fp32.
        folder: where ``model.<precision>.onnx`` is written.
        dataset: whose training images calibrate int8 and whose images of ``full.part`` judge.
        split: which images those are.
        max_dice_loss: largest loss of Dice that passes.
        say: takes one line of progress.
    """
    made: list[Variant] = []
    refused: list[Refusal] = []
    for precision in precisions:
        if precision == "fp32":
            continue
        path = folder / f"model.{precision}.onnx"
        say(f"making the {precision} variant")
        try:
            traced = _trace(precision, full, dataset, split)
            variant = _judge(path, precision, traced, full, dataset, split, max_dice_loss)
        except LongskipError as error:
            path.unlink(missing_ok=True)
            refused.append(Refusal(precision, str(error).replace(f"{folder}/", "")))
        else:
            made.append(variant)
    return made, refused


def preferred(
    precisions: Collection[Precision], spec: ModelSpec
) -> dict[Literal["cpu", "cuda"], Precision]:
    """Return the precision that each kind of device is to use, where it is not fp32.

    A rule, no measurement: the file's hash must not depend on how busy the machine is.

    Args:
        precisions: those that passed their gate.
        spec: of the model.
    """
    too_small = spec.net.parameters < INT8_LEAST_PARAMETERS
    return {
        device: precision
        for device, precision in PREFERENCE.items()
        if precision in precisions and not (precision == "int8" and too_small)
    }


def _trace(
    precision: Precision, full: Full, dataset: FolderDataset, split: Split
) -> onnx.ModelProto:
    if precision == "fp16":
        return trace_fp16(full.graph, channels=full.spec.channels)
    try:
        return quantise(full.traced, calibration_feeds(full.spec, dataset, split))
    except ValueError as error:
        raise VariantRefused(f"{precision} cannot be made: {error}") from error


def _judge(
    path: Path,
    precision: Precision,
    traced: onnx.ModelProto,
    full: Full,
    dataset: FolderDataset,
    split: Split,
    max_dice_loss: float,
) -> Variant:
    golden = full.spec.golden
    if golden is None:
        raise ValueError("the fp32 spec has no golden sample yet")
    spec = full.spec.model_copy(
        update={"precision": precision, "golden": None, "metrics": (), "preferred_precision": {}}
    )
    draft = _write(path, traced, spec)
    clear_flips = check_sizes(draft, full.model, intensity_range=golden.intensity_range)
    check_dial(draft, full.model, intensity_range=golden.intensity_range)
    scored = {
        part: score_file(draft, dataset, stems, said=f"{part}, {draft.precision}")
        for part, stems in (("validation", split.val), ("test", split.test))
        if stems
    }
    judged = scored[full.part]
    loss = dice_loss(full.model, full.judged, judged)
    check_dice(precision, loss, max_dice_loss=max_dice_loss, part=full.part)
    run = partial(draft.run, outputs=OUTPUTS)
    own = make_golden(run, golden.seed, golden.shape_chw, golden.intensity_range)
    metrics = [m for part, cases in scored.items() for m in spec_metrics(draft, cases, part)]
    spec = spec.model_copy(update={"golden": own, "metrics": tuple(metrics)})
    _write(path, traced, spec)
    return Variant(
        model=Model.open(path, device="cpu", prove=True),
        part=full.part,
        dice=mean_dice(draft, judged),
        dice_loss=loss,
        clear_flips=clear_flips,
    )


def calibration_feeds(spec: ModelSpec, dataset: FolderDataset, split: Split) -> Iterator[Feeds]:
    """Yield inputs made of training images, evenly spread over the part, at most 32 of them.

    The images that judge stay out, so that the gate sees what quantising has not.
    """
    stems = sorted(split.train)
    chosen = np.linspace(0, len(stems) - 1, min(CALIBRATION_IMAGES, len(stems))).round()
    cases = dataset.select([stems[int(index)] for index in chosen])
    for case in tqdm(cases, desc="calibrating int8", unit="image", disable=None):
        image = to_chw_float32(load_image(case, spec.channels))
        feeds = {"image": image[None]}
        if spec.working_size is None:
            feeds["image"] = np.ascontiguousarray(_middle(image)[None])
            if spec.normalising.kind == "image":
                feeds["statistics"] = image_statistics(image)[None]
        yield feeds


def _middle(image_chw: np.ndarray) -> np.ndarray:
    top, left = (max(0, (side - CALIBRATION_SIDE) // 2) for side in image_chw.shape[1:])
    return image_chw[:, top : top + CALIBRATION_SIDE, left : left + CALIBRATION_SIDE]


def _write(path: Path, traced: onnx.ModelProto, spec: ModelSpec) -> Model:
    path.write_bytes(with_spec(traced, spec))
    return Model.open(path, device="cpu", prove=False)


def score_file(
    model: Model, dataset: FolderDataset, stems: Sequence[str], *, said: str
) -> list[ScoredCase]:
    """Score an exported file by the metrics that its spec gives, showing how far it is.

    Args:
        model: the file, opened.
        dataset: where the images lie.
        stems: of the images.
        said: what is scored, for the progress bar.
    """
    cases = score_cases(
        model,
        dataset,
        stems,
        metrics=choose_for_spec(dataset, scored_classes(model)),
        rulers=rulers_for(dataset, stems),
    )
    return list(tqdm(cases, total=len(stems), desc=f"scoring {said}", unit="image", disable=None))

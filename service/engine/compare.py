"""How far the answers of several models for one image agree: figures, and a picture."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contract.errors import RequestInvalid
from contract.metrics import ClassScore
from contract.spec import ModelSpec
from imaging.overlay import Colour, overlay_png
from imaging.regions import area_px
from service.engine.encode import class_masks
from service.trace import ModelIdentity

ComparisonFormat = Literal["json", "overlay"]
# Of Okabe and Ito, told apart by the colour-blind as well: orange, sky blue, reddish purple.
ONLY_FIRST: Colour = (230, 159, 0)
ONLY_SECOND: Colour = (86, 180, 233)
OTHERWISE: Colour = (204, 121, 167)
MOST_COLOURS = 256


@dataclass(frozen=True)
class Opinion:
    """What one model says of the image.

    Attributes:
        identity: of the model.
        labels: as in ``contract.model.Segmentation``.
        stages_s: seconds that it took, by stage.
    """

    identity: ModelIdentity
    labels: NDArray[np.uint8]
    stages_s: Mapping[str, float]

    @property
    def name(self) -> str:
        """Name and version, as a request spells them."""
        return f"{self.identity.name}@{self.identity.version}"


@dataclass(frozen=True)
class Comparison:
    """What the answer is made of.

    Attributes:
        spec: of the first model; all have its classes and its task.
        opinions: at least two, in the order asked for.
        pixels_hwc: the image as decoded, for the picture.
        opacity: of the colours in the picture, 0 to 1.
    """

    spec: ModelSpec
    opinions: Sequence[Opinion]
    pixels_hwc: NDArray[Any] | None
    opacity: float


def check_comparable(specs: Sequence[ModelSpec], answer_format: ComparisonFormat) -> None:
    """Tell, before anything is computed, whether these models' answers can be held side by side.

    Raises:
        RequestInvalid: they do not have the same task and the same classes in the same order.
    """
    first = specs[0]
    for other in specs[1:]:
        if (first.task, first.class_names) != (other.task, other.class_names):
            raise RequestInvalid(
                f"{first.name} ({first.task}: {', '.join(first.class_names)}) and {other.name} "
                f"({other.task}: {', '.join(other.class_names)}) do not have the same classes in "
                "the same order; compare models that do"
            )
    if answer_format == "overlay" and len(first.classes) + 4 > MOST_COLOURS:
        raise RequestInvalid("there are more classes than colours; ask for format=json")


def as_json(comparison: Comparison) -> bytes:
    """Return areas and times by model, and agreement by pair."""
    spec, opinions = comparison.spec, comparison.opinions
    masks = [class_masks(spec, one.labels) for one in opinions]
    pairs = itertools.combinations(range(len(opinions)), 2)
    content = {
        "size": list(opinions[0].labels.shape[-2:]),
        "models": [
            {
                **asdict(one.identity),
                "classes": [
                    {"index": index, "name": spec.classes[index].name, "area_px": area_px(mask)}
                    for index, mask in own.items()
                ],
                "ms": {name: round(s * 1e3, 1) for name, s in one.stages_s.items()},
            }
            for one, own in zip(opinions, masks, strict=True)
        ],
        "pairs": [
            _agreement(spec, (opinions[a], opinions[b]), (masks[a], masks[b])) for a, b in pairs
        ],
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def as_overlay(comparison: Comparison) -> bytes:
    """Draw what all models say in the classes' colours, and where they differ in others."""
    if comparison.pixels_hwc is None:
        raise ValueError("an overlay needs the image's pixels")
    palette = comparison.spec.palette
    if comparison.spec.task == "multilabel":
        palette = ((0, 0, 0), *palette)
    drawn = drawn_labels(comparison.spec, [one.labels for one in comparison.opinions])
    colours = (*palette, ONLY_FIRST, ONLY_SECOND, OTHERWISE)
    return overlay_png(comparison.pixels_hwc, drawn, colours, alpha=comparison.opacity)


def drawn_labels(spec: ModelSpec, labels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return what is drawn at each pixel ``[H, W]``.

    Where all agree it is their class (multilabel: one more than the last class there, 0 where
    there is none). Past the classes come, of two models, what only the first and what only the
    second takes for any class, and then every other difference.
    """
    flat = [_flat(spec, one) for one in labels]
    past = len(spec.classes) + (spec.task == "multilabel")
    differs = differing(labels)
    drawn = np.where(differs, np.uint8(past + 2), flat[0])
    if len(flat) == 2:
        drawn[differs & (flat[0] != 0) & (flat[1] == 0)] = past
        drawn[differs & (flat[0] == 0) & (flat[1] != 0)] = past + 1
    return drawn


def differing(labels: Sequence[NDArray[np.uint8]]) -> NDArray[np.bool_]:
    """Return ``[H, W]`` where any two differ, in any class."""
    differs = np.zeros(labels[0].shape, np.bool_)
    for other in labels[1:]:
        differs |= labels[0] != other
    return np.logical_or.reduce(differs, axis=0) if differs.ndim == 3 else differs


def _flat(spec: ModelSpec, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if spec.task != "multilabel":
        return labels
    flat = np.zeros(labels.shape[1:], np.uint8)
    for index, mask in class_masks(spec, labels).items():
        flat[mask] = index + 1
    return flat


def _agreement(
    spec: ModelSpec,
    pair: tuple[Opinion, Opinion],
    masks: tuple[Mapping[int, NDArray[np.bool_]], Mapping[int, NDArray[np.bool_]]],
) -> dict[str, Any]:
    differs = differing([one.labels for one in pair])
    differing_px = int(np.count_nonzero(differs))
    return {
        "models": [one.name for one in pair],
        "differing_px": differing_px,
        "equal_share": 1 - differing_px / differs.size,
        "classes": [
            {"index": index, "name": spec.classes[index].name, "dice": _dice(index, masks)}
            for index in masks[0]
        ],
    }


def _dice(
    index: int, masks: tuple[Mapping[int, NDArray[np.bool_]], Mapping[int, NDArray[np.bool_]]]
) -> float | None:
    """Return the Dice coefficient of one class; None where neither model sees it."""
    one, other = masks[0][index], masks[1][index]
    score = ClassScore(
        class_index=index,
        prediction_px=area_px(one),
        truth_px=area_px(other),
        overlap_px=area_px(one & other),
    )
    return None if math.isnan(score.dice) else score.dice


@dataclass(frozen=True)
class ComparisonEncoding:
    """One format: how it is called on the wire and what it needs."""

    media_type: str
    encode: Callable[[Comparison], bytes]
    needs_pixels: bool


COMPARISONS: dict[ComparisonFormat, ComparisonEncoding] = {
    "json": ComparisonEncoding("application/json", as_json, needs_pixels=False),
    "overlay": ComparisonEncoding("image/png", as_overlay, needs_pixels=True),
}

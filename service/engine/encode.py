"""Step 6 of data's way: labels become the bytes of the answer. Runs in a thread."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contract.errors import RequestInvalid
from contract.model import Segmentation
from contract.spec import ModelSpec
from imaging.bits import encode_bits
from imaging.label_png import encode_label_png
from imaging.overlay import overlay_png
from imaging.polygons import geojson_features
from imaging.regions import area_px, boxes_xyxy, outline_px
from imaging.rle import encode_rle
from imaging.runs import encode_runs

AnswerFormat = Literal["png", "overlay", "json", "geojson", "npz", "bits", "rle"]
BACKGROUND = 0
# Outlines cost time and memory by their length: 410 MB and seconds for a million pixels of noise as
# polygons. Ten thousand cells of 100 px around fit in both.
OUTLINE_PX_MAX = {"json": 5_000_000, "geojson": 1_000_000}


@dataclass(frozen=True)
class Answer:
    """What the answer is made of.

    Attributes:
        spec: of the model that answered.
        segmentation: its answer.
        pixels_hwc: the image as decoded, for formats that show it.
        opacity: of the labels' colours in an overlay, 0 to 1.
        skip_gain: by which the long skips were multiplied; None for a model without a dial.
    """

    spec: ModelSpec
    segmentation: Segmentation
    pixels_hwc: NDArray[Any] | None
    opacity: float
    skip_gain: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Encoding:
    """One format: how it is called on the wire and in a folder, and what it needs."""

    media_type: str
    suffix: str
    encode: Callable[[Answer], bytes]
    needs_probabilities: bool = False
    needs_pixels: bool = False
    takes_multilabel: bool = True


def encode(answer: Answer, answer_format: AnswerFormat) -> bytes:
    """Return the answer's body."""
    return ENCODINGS[answer_format].encode(answer)


def check_fits(spec: ModelSpec, answer_format: AnswerFormat) -> None:
    """Tell, before anything is computed, whether a model's answer has this format.

    Raises:
        RequestInvalid: labels that overlap do not fit in one index per pixel.
    """
    if spec.task == "multilabel" and not ENCODINGS[answer_format].takes_multilabel:
        fitting = ", ".join(name for name, e in ENCODINGS.items() if e.takes_multilabel)
        raise RequestInvalid(
            f"{spec.name} gives labels that may overlap, which {answer_format} cannot hold; "
            f"ask for one of: {fitting}"
        )


def class_masks(spec: ModelSpec, labels: NDArray[np.uint8]) -> dict[int, NDArray[np.bool_]]:
    """Return the mask ``[H, W]`` of each class by index, without the background."""
    if spec.task == "multilabel":
        return {index: labels[index] != 0 for index in range(len(spec.classes))}
    return {index: labels == index for index in range(1, len(spec.classes))}


def _png(answer: Answer) -> bytes:
    return encode_label_png(answer.segmentation.labels, answer.spec.palette)


def _overlay(answer: Answer) -> bytes:
    if answer.pixels_hwc is None:
        raise ValueError("an overlay needs the image's pixels")
    labels, palette = answer.segmentation.labels, answer.spec.palette
    if answer.spec.task == "multilabel":
        # Where classes overlap the last one is on top; index 0 becomes the background.
        masks = class_masks(answer.spec, labels)
        labels = np.zeros(labels.shape[1:], np.uint8)
        for index, mask in masks.items():
            labels[mask] = index + 1
        palette = ((0, 0, 0), *palette)
    return overlay_png(answer.pixels_hwc, labels, palette, alpha=answer.opacity)


def _check_outlines(answer: Answer, answer_format: Literal["json", "geojson"]) -> None:
    """Refuse an answer that would be larger than any use of it.

    Raises:
        RequestInvalid: the labels are so broken up that their outlines are past the limit.
    """
    length_px = outline_px(answer.segmentation.labels)
    limit_px = OUTLINE_PX_MAX[answer_format]
    if length_px > limit_px:
        raise RequestInvalid(
            f"the labels have {length_px:,} px of outline, {answer_format} is written for up to "
            f"{limit_px:,}: they are noise-like or very many. Ask for format=png"
        )


def _json(answer: Answer) -> bytes:
    _check_outlines(answer, "json")
    labels = answer.segmentation.labels
    classes = [
        {
            "index": index,
            "name": answer.spec.classes[index].name,
            "area_px": area_px(mask),
            "boxes_xyxy": boxes_xyxy(mask),
            "rle": encode_rle(mask),
        }
        for index, mask in class_masks(answer.spec, labels).items()
    ]
    dial = {} if answer.skip_gain is None else {"skip_gain": answer.skip_gain}
    return _compact_json({"size": list(labels.shape[-2:]), **dial, "classes": classes})


def _geojson(answer: Answer) -> bytes:
    _check_outlines(answer, "geojson")
    spec, labels = answer.spec, answer.segmentation.labels
    return _compact_json(geojson_features(labels, spec.class_names, spec.palette))


def _npz(answer: Answer) -> bytes:
    archive = io.BytesIO()
    found = answer.segmentation
    if found.probabilities is None:
        raise ValueError("an npz archive needs the probabilities")
    arrays: dict[str, Any] = {"labels": found.labels, "probabilities": found.probabilities}
    if found.disagreement is not None:
        arrays["disagreement"] = found.disagreement
    np.savez(archive, **arrays)
    return archive.getvalue()


def _bits(answer: Answer) -> bytes:
    masks = class_masks(answer.spec, answer.segmentation.labels)
    names = [answer.spec.classes[index].name for index in masks]
    return encode_bits(list(masks.values()), names)


def _rle(answer: Answer) -> bytes:
    return encode_runs(answer.segmentation.labels, answer.spec.class_names)


def _compact_json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


ENCODINGS: dict[AnswerFormat, Encoding] = {
    "png": Encoding("image/png", ".png", _png, takes_multilabel=False),
    "overlay": Encoding("image/png", ".png", _overlay, needs_pixels=True),
    "json": Encoding("application/json", ".json", _json),
    "geojson": Encoding("application/geo+json", ".geojson", _geojson, takes_multilabel=False),
    "npz": Encoding("application/x-npz", ".npz", _npz, needs_probabilities=True),
    "bits": Encoding("application/x-npz", ".npz", _bits),
    "rle": Encoding("application/x-npz", ".npz", _rle),
}

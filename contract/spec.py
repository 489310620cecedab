"""ModelSpec: what a model file promises, carried as JSON inside the file itself.

It holds no time, no latency and no version number, so that the same training gives the same file
hash; the version is the name of the folder that the file lies in.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contract.errors import SpecInvalid, SpecMissing, SpecTooNew

METADATA_KEY = "longskip.spec"
# 2: members, mirrors, calibration, thresholds_prob. 3: skip_gain_strides. All are optional, so a
# file of the schema before reads as it was meant.
SCHEMA_VERSION = 3
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

Colour = tuple[
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
]
LongSkip = Literal["concat", "add", "attention", "none"]
Precision = Literal["fp32", "fp16", "int8"]
Mirror = Literal["horizontal", "vertical", "both"]
PositiveInt = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """Base of the spec's parts: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CodedConcept(Part):
    """A DICOM code triple, e.g. value 84640000, scheme SCT, meaning Nucleus."""

    value: str
    scheme: str
    meaning: str


class SegmentClass(Part):
    """One class; its index is its place in ``ModelSpec.classes``."""

    name: str = Field(min_length=1)
    colour: Colour
    concept: CodedConcept | None = None


class Normalising(Part):
    """How the graph turns raw intensities into what the net sees.

    ``image``: per channel (x - mean) / std with the image's own mean and std, or with those of
    the optional input ``statistics``. ``fixed``: the same with the numbers given here.
    """

    kind: Literal["image", "fixed"]
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None

    @model_validator(mode="after")
    def _numbers_for_fixed(self) -> Self:
        if (self.kind == "fixed") != (self.mean is not None and self.std is not None):
            raise ValueError("'fixed' needs mean and std per channel, 'image' takes neither")
        return self


class Tiles(Part):
    """How an image past ``ModelSpec.whole_image_max_pixels`` is cut; sizes in pixels, (H, W)."""

    patch: tuple[PositiveInt, PositiveInt]
    overlap: float = Field(default=0.5, ge=0.0, lt=1.0, description="fraction of the patch")


class NetDescription(Part):
    """The net behind the file, one member's. ``long_skips`` stands finest level first."""

    architecture: str
    encoder: str | None = None
    long_skips: tuple[LongSkip, ...] = ()
    widths: tuple[PositiveInt, ...] = ()
    block: str | None = None
    norm: str | None = None
    activation: str | None = None
    parameters: Annotated[int, Field(ge=0)]


class TrainingData(Part):
    """Fingerprint of the training set: sizes, intensities, counts, hashes; never names.

    ``image_hashes`` are the first 16 hex digits of sha256 over each training image's decoded
    pixels, so that ``evaluate`` can tell when it is given images that the net was trained on.
    """

    images: Annotated[int, Field(ge=0)]
    height_min_median_max: tuple[float, float, float]
    width_min_median_max: tuple[float, float, float]
    intensity_p01_p50_p99: tuple[tuple[float, float, float], ...] = Field(
        description="raw intensities, per channel"
    )
    class_pixel_fraction: tuple[float, ...]
    image_hashes: tuple[str, ...] = ()


class MetricSummary(Part):
    """Mean over cases of one metric of one class with its bootstrap 95 % interval."""

    metric: str
    part: Literal["validation", "test"]
    class_name: str
    mean: float | None
    ci95: tuple[float, float] | None
    cases: Annotated[int, Field(ge=0)]
    excluded_empty: Annotated[int, Field(ge=0)] = 0


class Calibration(Part):
    """Probabilities are softmax (sigmoid) of logits / ``temperature`` (Guo 2017), and what it did.

    ECE and negative log-likelihood in nats, over pixels of ``images`` that no net that answered
    for them was trained on; the temperature was fitted on the same ones.
    """

    temperature: float = Field(gt=0)
    images: PositiveInt
    ece_before: float = Field(ge=0, le=1)
    ece_after: float = Field(ge=0, le=1)
    nll_before: float = Field(ge=0)
    nll_after: float = Field(ge=0)


class Tolerance(Part):
    """How far a provider's answer may lie from the stored one.

    A label may differ only where the two best stored probabilities lie within ``tie_margin``.
    """

    probability_max_abs: float = Field(gt=0)
    tie_margin: float = Field(ge=0)


class GoldenSample(Part):
    """A seeded synthetic input (``contract/golden.py``) and the answer stored for it.

    ``labels_b64``: base64 of zlib of uint8 ``[H, W]`` (multilabel ``[K, H, W]``).
    ``probabilities_b64``: base64 of zlib of little-endian float16 ``[K, H, W]``.
    """

    seed: int
    shape_chw: tuple[PositiveInt, PositiveInt, PositiveInt]
    intensity_range: tuple[float, float]
    labels_b64: str
    probabilities_b64: str
    tolerances: dict[Precision, Tolerance]


class ModelSpec(Part):
    """Everything a caller needs to know of a model file beyond its bytes.

    Classes: index 0 is the background for ``multiclass`` (softmax over K classes; a binary task
    has K = 2) and there is no background for ``multilabel`` (a sigmoid per class).
    Sizes are (H, W) in pixels; a spec has a working size or tiles, never both.

    ``probabilities`` are the mean over ``members`` nets, each asked for the image as it is and for
    its ``mirrors`` (``both``: turned by 180 degrees). ``thresholds_prob``, one per class, decide
    the labels as ``contract/decision.py`` says; for multiclass they sum to 1.

    ``skip_gain_strides``: stride in pixels of each level of ``net.long_skips``, finest first, where
    the file has the optional input ``skip_gain`` (``contract/skip_gain.py``), else empty. A level
    whose skip is ``none`` is counted, and its gain has no effect.
    """

    schema_version: int = SCHEMA_VERSION
    name: str = Field(pattern=NAME_PATTERN)
    description: str = ""
    task: Literal["multiclass", "multilabel"] = "multiclass"
    dims: Literal[2, 3] = 2
    classes: tuple[SegmentClass, ...] = Field(min_length=1, max_length=255)
    channels: PositiveInt
    colour_order: Literal["RGB", "as stored"] = "as stored"
    normalising: Normalising
    divisor: PositiveInt = 1
    working_size: tuple[PositiveInt, PositiveInt] | None = None
    spacing_mm: tuple[float, ...] | None = None
    whole_image_max_pixels: PositiveInt
    tileable: bool = True
    tiles: Tiles | None = None
    net: NetDescription
    members: PositiveInt = 1
    mirrors: tuple[Mirror, ...] = ()
    calibration: Calibration | None = None
    thresholds_prob: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = None
    skip_gain_strides: tuple[PositiveInt, ...] = ()
    precision: Precision = "fp32"
    preferred_precision: dict[Literal["cpu", "cuda"], Precision] = Field(default_factory=dict)
    training_data: TrainingData | None = None
    metrics: tuple[MetricSummary, ...] = ()
    licence: str = "unknown"
    intended_use: str = "Research use only; not a medical device."
    out_of_scope_use: str = "Diagnosis, treatment or any other clinical decision."
    code_version: str
    golden: GoldenSample | None = None

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.task == "multiclass" and len(self.classes) < 2:
            raise ValueError("multiclass needs the background and at least one class, got 1 class")
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise ValueError(f"class names must differ, got {names}")
        if self.working_size is not None and self.tiles is not None:
            raise ValueError("a spec has a working_size or tiles, never both")
        if self.tiles is not None and not self.tileable:
            raise ValueError("tileable is false, so tiles must be null")
        if self.normalising.mean is not None and self.normalising.std is not None:
            counts = {len(self.normalising.mean), len(self.normalising.std)}
            if counts != {self.channels}:
                raise ValueError(
                    f"normalising gives {sorted(counts)} numbers per row for {self.channels} "
                    "channels; give one mean and one std per channel"
                )
        if self.colour_order == "RGB" and self.channels != 3:
            raise ValueError(f"colour_order RGB needs 3 channels, got {self.channels}")
        if len(set(self.mirrors)) != len(self.mirrors):
            raise ValueError(f"mirrors must differ, got {list(self.mirrors)}")
        if self.thresholds_prob is not None:
            self._check_thresholds(self.thresholds_prob)
        if self.skip_gain_strides:
            self._check_strides(self.skip_gain_strides)
        return self

    def _check_strides(self, strides: tuple[int, ...]) -> None:
        if len(strides) != len(self.net.long_skips):
            raise ValueError(
                f"skip_gain_strides has {len(strides)} levels, net.long_skips "
                f"{len(self.net.long_skips)}; give one stride per level, finest first"
            )
        if sorted(set(strides)) != list(strides):
            raise ValueError(
                f"skip_gain_strides stand finest first, each above the one before, got "
                f"{list(strides)}"
            )

    def _check_thresholds(self, thresholds_prob: tuple[float, ...]) -> None:
        if len(thresholds_prob) != len(self.classes):
            raise ValueError(
                f"thresholds_prob has {len(thresholds_prob)} numbers for {len(self.classes)} "
                "classes; give one per class"
            )
        if self.task == "multiclass" and abs(sum(thresholds_prob) - 1) > 1e-3:
            raise ValueError(
                f"thresholds_prob sum to {sum(thresholds_prob):g}; for multiclass they sum to 1, "
                "e.g. 0.7 and 0.3 for class 1 from probability 0.3 on"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return tuple(c.name for c in self.classes)

    @property
    def palette(self) -> tuple[Colour, ...]:
        """Colours by class index."""
        return tuple(c.colour for c in self.classes)

    def to_metadata(self) -> str:
        """Return the JSON text that goes into the file: sorted keys, no white space."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], *, source: str) -> Self:
        """Read the spec out of an ONNX file's ``metadata_props``.

        Args:
            metadata: key to text, as ``get_modelmeta().custom_metadata_map`` gives it.
            source: the file's name for error messages.

        Raises:
            SpecMissing: there is no spec.
            SpecTooNew: ``schema_version`` is above this reader's.
            SpecInvalid: the JSON does not parse or does not validate.
        """
        text = metadata.get(METADATA_KEY)
        if text is None:
            raise SpecMissing(
                f"{source} carries no {METADATA_KEY!r} metadata. A foreign segmentation model gets "
                "one by: python -m contract adopt FILE --spec SPEC.yaml"
            )
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpecInvalid(f"{source}: the spec is not JSON: {error}") from error
        version = fields.get("schema_version") if isinstance(fields, dict) else None
        if not isinstance(version, int):
            raise SpecInvalid(f"{source}: the spec has no integer schema_version, got {version!r}")
        if version > SCHEMA_VERSION:
            raise SpecTooNew(
                f"{source} has spec schema {version}; this Longskip reads up to {SCHEMA_VERSION}. "
                "Update Longskip, or export the model again with this version."
            )
        if version < SCHEMA_VERSION - 1 or version < 1:
            raise SpecInvalid(
                f"{source} has spec schema {version}; this Longskip reads {SCHEMA_VERSION} and the "
                "one before. Export the model again."
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SpecInvalid(f"{source}: the spec does not validate: {error}") from error

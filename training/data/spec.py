"""dataset.yaml: what the files of a folder data set mean.

Every key is optional. A folder of ``images/`` and ``masks/`` whose masks hold class indices needs
no dataset.yaml at all; ``open_folder`` then names the classes itself.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contract.errors import DataError
from contract.spec import CodedConcept, Colour, SegmentClass

SPEC_FILE = "dataset.yaml"

# Index 0 is the background; the others are Okabe and Ito's colours, told apart by the colour-blind.
DEFAULT_COLOURS: tuple[Colour, ...] = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)

Task = Literal["multiclass", "multilabel"]
RawValue = Annotated[int, Field(ge=0, le=65535, description="a pixel value as stored in a mask")]
PositiveMm = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ClassEntry(BaseModel):
    """One class in dataset.yaml; without a colour it gets the palette's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    colour: Colour | None = None
    concept: CodedConcept | None = None


class DatasetSpec(BaseModel):
    """The content of dataset.yaml.

    Attributes:
        classes: by class index; for ``multiclass`` index 0 is the background, for ``multilabel``
            there is none. Empty: named by what the masks hold.
        mask_map: stored mask value to class index; a value that is not listed means itself.
        ignore: stored mask value of pixels that count in neither loss nor metrics.
        images: folder of the images, from the data set's root.
        masks: folder of the masks, from the data set's root.
        table: CSV file with one row per image, from the data set's root.
        stem_column: its column that holds the file stems.
        group_column: its column that names what must never be torn apart (patient, slide, stack).
        spacing_mm: millimetres per pixel of all images, (row, column); lengths are then in mm.
        spacing_columns: columns of the table with each image's own, one or (row, column).
        task: ``multilabel`` masks lie in ``<masks>/<stem>/<class name>.png``.
        channels: how many channels the net takes; null: what the images have.
        licence: of the images, carried into the model card.
        description: free text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[ClassEntry, ...] = Field(default=(), max_length=255)
    mask_map: dict[RawValue, Annotated[int, Field(ge=0, le=254)]] = Field(default_factory=dict)
    ignore: RawValue | None = None
    images: str = "images"
    masks: str = "masks"
    table: str | None = None
    stem_column: str = "stem"
    group_column: str | None = None
    spacing_mm: tuple[PositiveMm, PositiveMm] | None = None
    spacing_columns: tuple[str] | tuple[str, str] | None = None
    task: Task = "multiclass"
    channels: Annotated[int, Field(ge=1)] | None = None
    licence: str = "unknown"
    description: str = ""

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        names = [entry.name for entry in self.classes]
        if len(set(names)) != len(names):
            raise ValueError(f"class names must differ, got {names}")
        if self.task == "multiclass" and len(self.classes) == 1:
            raise ValueError(
                "multiclass needs the background and at least one class, got only "
                f"{names[0]!r}; put {{name: background}} first"
            )
        if self.ignore is not None and self.ignore in self.mask_map:
            raise ValueError(f"value {self.ignore} is both ignored and in mask_map; take one out")
        if self.group_column is not None and self.table is None:
            raise ValueError(
                f"group_column is {self.group_column!r} but no table is named; "
                "add table: items.csv (or what the file is called)"
            )
        if self.spacing_columns is not None and self.table is None:
            raise ValueError("spacing_columns are given, but no table: add table: items.csv")
        highest = 2 if self.task == "multilabel" else len(self.classes)
        beyond = sorted(set(self.mask_map.values()) - set(range(highest))) if highest else []
        if beyond:
            raise ValueError(f"mask_map leads to {beyond}, but class indices are 0..{highest - 1}")
        return self

    @property
    def segment_classes(self) -> tuple[SegmentClass, ...]:
        """The classes as the model's spec holds them, colours filled in."""
        first = 1 if self.task == "multilabel" else 0
        return tuple(
            SegmentClass(
                name=entry.name,
                colour=entry.colour or default_colour(index + first),
                concept=entry.concept,
            )
            for index, entry in enumerate(self.classes)
        )

    def with_class_names(self, names: Iterable[str]) -> "DatasetSpec":
        """Return a copy whose classes are these names with default colours."""
        return self.model_copy(update={"classes": tuple(ClassEntry(name=n) for n in names)})


def default_colour(index: int) -> Colour:
    """Return the palette's colour of a class index; past the palette it repeats, without black."""
    if index < len(DEFAULT_COLOURS):
        return DEFAULT_COLOURS[index]
    return DEFAULT_COLOURS[1 + (index - 1) % (len(DEFAULT_COLOURS) - 1)]


def read_dataset_spec(root: Path, spec_path: Path | None = None) -> DatasetSpec:
    """Read ``spec_path``, or ``<root>/dataset.yaml``, or take the defaults where neither is.

    Raises:
        DataError: the file is missing though named, is not YAML, or does not validate. An unknown
            key is answered with the nearest known one.
    """
    path = spec_path if spec_path is not None else root / SPEC_FILE
    if not path.is_file():
        if spec_path is None:
            return DatasetSpec()
        raise DataError(f"{path}: no such file; name the dataset.yaml with --data.spec FILE")
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not YAML: {error}") from error
    if fields is None:
        return DatasetSpec()
    if not isinstance(fields, dict):
        raise DataError(
            f"{path}: expected keys and values such as 'classes: [...]', "
            f"got a {type(fields).__name__}"
        )
    try:
        return DatasetSpec.model_validate(fields)
    except ValidationError as error:
        raise DataError(_explained(path, error)) from error


def _explained(path: Path, error: ValidationError) -> str:
    lines = [f"{path}: {error.error_count()} fault(s)"]
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            lines.append(f"  {place}: unknown key; {_nearest(fault['loc'])}")
        else:
            got = "" if not fault["loc"] else f" (got {fault['input']!r})"
            lines.append(f"  {place or 'the file'}: {fault['msg']}{got}")
    return "\n".join(lines)


def _nearest(place: tuple[Any, ...]) -> str:
    known = list((DatasetSpec if len(place) == 1 else ClassEntry).model_fields)
    near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"

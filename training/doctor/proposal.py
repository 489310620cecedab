"""What refused masks probably mean, written as a dataset.yaml that ``fit`` takes.

Where numbers alone give the meaning, ``mask_map`` says it and no file is touched. Colours, blended
edges, JPEG and object numbers need other masks: they are written beside the dataset.yaml, and the
data set's own files stay as they are.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from contract.errors import DataError, ImageError
from imaging.label_png import encode_label_png
from training.data.case import Case
from training.data.masks import IGNORE, UNMAPPED, class_of
from training.data.masks import to_class_indices as mapped_indices
from training.data.spec import ClassEntry, DatasetSpec, default_colour
from training.doctor.coding import Coding, Level, read_any_mask, to_class_indices
from training.doctor.examination import Examination

CONVERTED = "masks_indexed"
PALETTE = [*(default_colour(index) for index in range(IGNORE)), (128, 128, 128)]


@dataclass(frozen=True)
class Proposal:
    """A dataset.yaml, and what its masks are made from.

    Attributes:
        spec: as it is written; ``masks`` is still the data set's own folder.
        index_of: class index of each level.
        converts: whether masks must be written.
    """

    spec: DatasetSpec
    index_of: dict[Level, int]
    converts: bool


def propose(examined: Examination) -> Proposal | None:
    """Propose a meaning for the refused masks; None where there is none to propose."""
    coding, given = examined.coding, examined.given
    if coding is None or coding.kind == "picture":
        return None
    kinds = {finding.kind for finding in examined.surveyed.findings}
    converts = (
        coding.kind != "values"
        or coding.coloured
        or bool(kinds & {"colour-mask", "jpeg-mask", "mask-type"})
    )
    index_of = _indices(coding, given)
    highest = max(index for index in index_of.values() if index != IGNORE)
    update: dict[str, object] = {}
    if given.task == "multiclass":
        update["classes"] = _classes(given, highest, index_of if coding.coloured else {})
    else:
        update["classes"] = examined.surveyed.spec.classes
    if converts:
        update |= {"mask_map": {}, "ignore": None if given.ignore is None else IGNORE}
    else:
        new = {level[0]: index for level, index in index_of.items() if level[0] != index}
        new.pop(given.ignore if given.ignore is not None else -1, None)
        update["mask_map"] = {**new, **given.mask_map}
    return Proposal(given.model_copy(update=update), index_of, converts)


def write_proposal(
    examined: Examination,
    proposal: Proposal,
    path: Path,
    *,
    shown: Callable[[Iterable[Case], int], Iterable[Case]],
) -> None:
    """Write ``path`` and, where masks are converted, ``masks_indexed/`` beside it.

    Raises:
        DataError: either is there already.
    """
    masks = path.parent / CONVERTED
    for taken in (path, *([masks] if proposal.converts else [])):
        if taken.exists():
            raise DataError(f"{taken} is there already; name another file by --write-spec")
    path.parent.mkdir(parents=True, exist_ok=True)
    spec = proposal.spec
    if proposal.converts:
        cases = examined.surveyed.cases
        for case in shown(cases, len(cases)):
            _convert(case, examined, proposal, masks)
        # From the data set's root, as every path in dataset.yaml.
        folder = Path(os.path.relpath(masks.resolve(), examined.surveyed.root.resolve()))
        spec = spec.model_copy(update={"masks": folder.as_posix()})
    fields = spec.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    if spec.mask_map:
        fields["mask_map"] = dict(spec.mask_map)  # JSON would make its keys strings
    path.write_text(
        "# Proposed by doctor from what the masks hold. Look at the pictures, and name the "
        "classes.\n" + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True),
        encoding="utf-8",
    )


def labels_of(path: Path, examined: Examination, proposal: Proposal | None) -> NDArray[np.uint8]:
    """Return a mask file's class indices ``[H, W]``, under the proposal where it is refused.

    Raises:
        DataError: a refused mask without a proposal.
        ImageError: the file does not decode.
    """
    stored = read_any_mask(path)
    coding = examined.coding
    if proposal is None or coding is None or not proposal.converts:
        spec = examined.surveyed.spec if proposal is None else proposal.spec
        return mapped_indices(stored[..., 0], spec, str(path))
    if path not in examined.refused_masks:
        return mapped_indices(stored[..., 0], examined.surveyed.spec, str(path))
    table = np.array(list(proposal.index_of.values()), dtype=np.uint8)
    indices: NDArray[np.uint8] = table[to_class_indices(stored, coding)]
    return indices


def _indices(coding: Coding, given: DatasetSpec) -> dict[Level, int]:
    """Keep what dataset.yaml says of a value; the others take the free indices in order."""
    most = 2 if given.task == "multilabel" else 255
    if coding.kind == "instances":
        return {coding.levels[0]: 0, (): 1}
    known: dict[Level, int] = {}
    for level in coding.levels:
        index = class_of(level[0], given) if len(level) == 1 else UNMAPPED
        if index != UNMAPPED:
            known[level] = index
    free = iter(index for index in range(255) if index not in known.values())
    return {
        level: known[level] if level in known else min(next(free), most - 1)
        for level in coding.levels
    }


def _classes(given: DatasetSpec, highest: int, colours: dict[Level, int]) -> tuple[ClassEntry, ...]:
    names = ["background", *(f"class {index}" for index in range(1, highest + 1))]
    if highest == 1:
        names[1] = "foreground"
    own = {index: level for level, index in colours.items() if len(level) == 3}
    entries = [
        ClassEntry(name=name, colour=(own[i][0], own[i][1], own[i][2]) if i in own else None)
        for i, name in enumerate(names)
    ]
    return (*given.classes, *entries[len(given.classes) :])


def _convert(case: Case, examined: Examination, proposal: Proposal, folder: Path) -> None:
    single = isinstance(case.mask, Path)
    for path in case.mask_files:
        to = folder / f"{case.stem}.png" if single else folder / case.stem / f"{path.stem}.png"
        try:
            labels = labels_of(path, examined, proposal)
        except (ImageError, OSError):
            continue  # told as a fault of its own; the new set lacks this mask
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(encode_label_png(labels, PALETTE))

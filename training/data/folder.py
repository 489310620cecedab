"""A folder of images and masks, checked as a whole before anything is trained on it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.errors import ChannelMismatch, DataError
from contract.spec import SegmentClass
from imaging.channels import match_channels
from imaging.decode import read_image
from training.data.case import Case, CaseFacts
from training.data.check import MAX_PIXELS, Seen, look_at_all
from training.data.findings import Finding, refuse
from training.data.masks import IGNORE, class_of, load_mask, remedy, unmapped_values
from training.data.pairs import find_pairs
from training.data.spec import DatasetSpec, read_dataset_spec

__all__ = ["IGNORE", "Case", "CaseFacts", "FolderDataset", "load_image", "load_mask", "open_folder"]

# Without named classes, masks with more than this many values are taken for something else.
MOST_INFERRED_CLASSES = 32


@dataclass(frozen=True)
class FolderDataset:
    """A data set that was checked: every case has a readable image and a mask that fits it.

    Attributes:
        root: the folder.
        spec: dataset.yaml with the classes filled in.
        cases: in natural order of their stems.
        classes: as the model's spec will hold them.
        channels: what every image is brought to.
        facts: what was seen of each case, by stem.
    """

    root: Path
    spec: DatasetSpec
    cases: tuple[Case, ...]
    classes: tuple[SegmentClass, ...]
    channels: int
    facts: Mapping[str, CaseFacts]

    def select(self, stems: Sequence[str]) -> tuple[Case, ...]:
        """Return the cases of ``stems``, in their order.

        Raises:
            DataError: a stem that the data set does not have.
        """
        by_stem = {case.stem: case for case in self.cases}
        missing = [stem for stem in stems if stem not in by_stem]
        if missing:
            raise DataError(f"{self.root} has no image with the stem(s) {', '.join(missing[:10])}")
        return tuple(by_stem[stem] for stem in stems)


def open_folder(
    root: Path,
    spec_path: Path | None = None,
    *,
    class_names: Sequence[str] = (),
    progress: bool = True,
) -> FolderDataset:
    """Open a data set and check all of it.

    Every image and mask is decoded once: a truncated file has a perfect header.

    Args:
        root: folder with ``images/`` and ``masks/``.
        spec_path: dataset.yaml, where it is not in ``root``.
        class_names: what to call the classes where dataset.yaml names none, such as a model's
            when it is evaluated; without them the masks' values decide how many there are.
        progress: show how far the check is.

    Raises:
        DataError: anything that would break or silently spoil training; all findings in one text.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; --data.root names the one that holds images/")
    spec = read_dataset_spec(root, None if spec_path is None else Path(spec_path))
    cases, findings = find_pairs(root, spec)
    seen = look_at_all(cases, progress=progress)
    findings += [finding for item in seen for finding in item.findings]
    channels = _channels(root, spec, cases, seen, findings)
    spec = _with_classes(spec, cases, seen, class_names)
    findings += _value_findings(root, spec, cases, seen)
    refuse(root, findings)
    facts = {case.stem: _facts(item, spec) for case, item in zip(cases, seen, strict=True)}
    return FolderDataset(root, spec, tuple(cases), spec.segment_classes, channels, facts)


def load_image(case: Case, channels: int) -> NDArray[np.generic]:
    """Read an image as a viewer shows it (EXIF orientation applied), at its own bit depth.

    Returns:
        ``[H, W, channels]``: uint8, uint16 or float32; RGB order; grey repeated, alpha dropped.
    """
    decoded = read_image(case.image, max_pixels=MAX_PIXELS)
    matched: NDArray[np.generic] = match_channels(decoded.pixels_hwc, channels)
    return matched


def _channels(
    root: Path,
    spec: DatasetSpec,
    cases: Sequence[Case],
    seen: Sequence[Seen],
    findings: list[Finding],
) -> int:
    """Return the number of channels that all images can be brought to (0: there is none)."""
    counts = Counter(item.channels for item in seen if item.channels)
    if spec.channels is not None:
        for count in counts:
            try:
                match_channels(np.zeros((1, 1, count), dtype=np.uint8), spec.channels)
            except ChannelMismatch as error:
                first = next(
                    c.image for c, i in zip(cases, seen, strict=True) if i.channels == count
                )
                found = f"{error} ({counts[count]} image(s) like this)"
                findings.append(Finding(first, found, "change channels in dataset.yaml"))
        return spec.channels
    if set(counts) <= {1, 3}:
        return max(counts, default=0)
    if len(counts) == 1:
        return next(iter(counts))
    listed = ", ".join(f"{n} with {count}" for count, n in sorted(counts.items()))
    found = f"images of different channel counts: {listed}"
    fix = "set channels in dataset.yaml (3 drops alpha), or save all images with the same channels"
    findings.append(Finding(root / spec.images, found, fix))
    return 0


def _with_classes(
    spec: DatasetSpec, cases: Sequence[Case], seen: Sequence[Seen], class_names: Sequence[str]
) -> DatasetSpec:
    """Name the classes by what the masks hold where neither dataset.yaml nor the caller does."""
    if spec.classes:
        return spec
    if class_names:
        return spec.with_class_names(class_names)
    if spec.task == "multilabel":
        first = next((case.mask for case in cases if not isinstance(case.mask, Path)), {})
        return spec.with_class_names(first)
    stored = {value for item in seen for counts in item.values for value in counts or ()}
    mapped = {spec.mask_map.get(value, value) for value in stored - {spec.ignore}}
    highest = max(mapped, default=0)
    # A gap means that values are not indices (0 and 255, say); those stay without a class.
    if highest == 0 or highest >= MOST_INFERRED_CLASSES or mapped | {0} != set(range(highest + 1)):
        return spec.with_class_names(["background"])
    if highest == 1:
        return spec.with_class_names(["background", "foreground"])
    return spec.with_class_names(["background", *(f"class {i}" for i in range(1, highest + 1))])


def _value_findings(
    root: Path, spec: DatasetSpec, cases: Sequence[Case], seen: Sequence[Seen]
) -> list[Finding]:
    findings: list[Finding] = []
    everywhere = sorted({v for item in seen for counts in item.values for v in counts or ()})
    unmapped_everywhere = unmapped_values(everywhere, spec)
    for case, item in zip(cases, seen, strict=True):
        for path, counts in zip(case.mask_files, item.values, strict=True):
            unmapped = unmapped_values(counts or (), spec)
            if unmapped:
                listed = ", ".join(str(value) for value in unmapped[:12])
                more = f" … ({len(unmapped)} values)" if len(unmapped) > 12 else ""
                found = f"mask values without a class: {listed}{more}"
                findings.append(Finding(path, found, remedy(unmapped_everywhere, spec)))
    meant = {class_of(value, spec) for value in everywhere} - {IGNORE, 0}
    if everywhere and not findings and not meant:
        found = f"every mask is background (values found: {everywhere})"
        fix = "masks must hold class indices from 1 up where there is something to segment"
        findings.append(Finding(root / spec.masks, found, fix))
    return findings


def _facts(seen: Seen, spec: DatasetSpec) -> CaseFacts:
    height, width = seen.size_hw or (0, 0)
    pixels = [0] * len(spec.classes)
    ignored = 0
    for plane, counts in enumerate(seen.values):
        for value, count in (counts or {}).items():
            index = class_of(value, spec)
            if index == IGNORE:
                ignored += count
            elif spec.task == "multiclass":
                pixels[index] += count
            elif index == 1:
                pixels[plane] += count
    return CaseFacts(height, width, seen.channels, tuple(pixels), ignored)

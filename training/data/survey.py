"""A folder of images and masks, read as a whole: what is there and what is wrong with it.

``fit`` refuses what is found here, ``doctor`` tells it with more: there is one check of each kind.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contract.errors import ChannelMismatch, DataError
from imaging.channels import match_channels
from training.data.case import Case
from training.data.check import Seen, look_at_all
from training.data.findings import Finding
from training.data.masks import IGNORE, class_of, remedy, unmapped_values
from training.data.pairs import find_pairs
from training.data.spec import DatasetSpec

# Without named classes, masks with more than this many values are taken for something else.
MOST_INFERRED_CLASSES = 32
LISTED_VALUES = 12
# A value in no more than this share of the masks may be a mistake.
RARE = 0.1


@dataclass(frozen=True)
class Survey:
    """What a folder holds.

    Attributes:
        root: the folder.
        spec: dataset.yaml with the classes filled in.
        cases: that have an image and a mask, in natural order of their stems.
        seen: what each case turned out to be.
        channels: what all images can be brought to; 0 where there is none.
        findings: every fault.
    """

    root: Path
    spec: DatasetSpec
    cases: tuple[Case, ...]
    seen: tuple[Seen, ...]
    channels: int
    findings: tuple[Finding, ...]


def survey(
    root: Path, spec: DatasetSpec, *, class_names: Sequence[str] = (), progress: bool = True
) -> Survey:
    """Read every image and mask of a folder and note every fault; the arguments are open_folder's.

    Each file is decoded once: a truncated one has a perfect header.

    Raises:
        DataError: no such folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name the one that holds images/ and masks/")
    cases, findings = find_pairs(root, spec)
    seen = look_at_all(cases, progress=progress)
    findings += [finding for item in seen for finding in item.findings]
    channels = _channels(root, spec, cases, seen, findings)
    spec = _with_classes(spec, cases, seen, class_names)
    findings += _value_findings(root, spec, cases, seen)
    return Survey(root, spec, tuple(cases), tuple(seen), channels, tuple(findings))


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
                fix = "change channels in dataset.yaml"
                findings.append(Finding(first, "channels", found, fix))
        return spec.channels
    if set(counts) <= {1, 3}:
        return max(counts, default=0)
    if len(counts) == 1:
        return next(iter(counts))
    listed = ", ".join(f"{n} with {count}" for count, n in sorted(counts.items()))
    found = f"images of different channel counts: {listed}"
    fix = "set channels in dataset.yaml (3 drops alpha), or save all images with the same channels"
    findings.append(Finding(root / spec.images, "channels", found, fix))
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
    held = Counter(v for item in seen for v in {v for c in item.values for v in c or ()})
    highest = _highest_index(held, spec)
    if highest is None:
        # One bad mask must not take the meaning from all the good ones.
        common = [value for value, masks in held.items() if masks > RARE * len(seen)]
        highest = _highest_index(common, spec)
    if not highest:
        return spec.with_class_names(["background"])
    if highest == 1:
        return spec.with_class_names(["background", "foreground"])
    return spec.with_class_names(["background", *(f"class {i}" for i in range(1, highest + 1))])


def _highest_index(stored: Iterable[int], spec: DatasetSpec) -> int | None:
    """Return the highest class index; None where the values are no indices (0 and 255, say)."""
    mapped = {spec.mask_map.get(value, value) for value in stored if value != spec.ignore}
    highest = max(mapped, default=0)
    gap = mapped | {0} != set(range(highest + 1))
    return None if gap or highest >= MOST_INFERRED_CLASSES else highest


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
                found = f"mask values without a class: {_listed(unmapped_everywhere)}"
                detail = "" if unmapped == unmapped_everywhere else f"here {_listed(unmapped)}"
                fix = remedy(unmapped_everywhere, spec)
                findings.append(Finding(path, "mask-values", found, fix, detail))
    meant = {class_of(value, spec) for value in everywhere} - {IGNORE, 0}
    if everywhere and not findings and not meant:
        found = f"every mask is background (values found: {everywhere})"
        fix = "masks must hold class indices from 1 up where there is something to segment"
        findings.append(Finding(root / spec.masks, "all-background", found, fix))
    return findings


def _listed(values: Sequence[int]) -> str:
    more = f" … ({len(values)} values)" if len(values) > LISTED_VALUES else ""
    return ", ".join(str(value) for value in values[:LISTED_VALUES]) + more

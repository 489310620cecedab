"""A folder of images and masks, checked as a whole before anything is trained on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.errors import DataError
from contract.spec import SegmentClass
from imaging.channels import match_channels
from imaging.decode import read_image
from training.data.case import Case, CaseFacts
from training.data.check import MAX_PIXELS, Seen
from training.data.findings import refuse
from training.data.masks import IGNORE, class_of, load_mask
from training.data.spec import DatasetSpec, read_dataset_spec
from training.data.survey import Survey, survey

__all__ = ["IGNORE", "Case", "CaseFacts", "FolderDataset", "load_image", "load_mask", "open_folder"]


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
    spec = read_dataset_spec(root, None if spec_path is None else Path(spec_path))
    surveyed = survey(root, spec, class_names=class_names, progress=progress)
    refuse(root, surveyed.findings)
    return dataset_of(surveyed)


def dataset_of(surveyed: Survey) -> FolderDataset:
    """Return the data set of a survey that found no fault."""
    spec, cases = surveyed.spec, surveyed.cases
    facts = {case.stem: _facts(item, spec) for case, item in zip(cases, surveyed.seen, strict=True)}
    return FolderDataset(surveyed.root, spec, cases, spec.segment_classes, surveyed.channels, facts)


def load_image(case: Case, channels: int) -> NDArray[np.generic]:
    """Read an image as a viewer shows it (EXIF orientation applied), at its own bit depth.

    Returns:
        ``[H, W, channels]``: uint8, uint16 or float32; RGB order; grey repeated, alpha dropped.
    """
    decoded = read_image(case.image, max_pixels=MAX_PIXELS)
    matched: NDArray[np.generic] = match_channels(decoded.pixels_hwc, channels)
    return matched


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
    look = () if seen.glance is None else seen.glance.look
    return CaseFacts(height, width, seen.channels, tuple(pixels), ignored, look)

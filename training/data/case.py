"""One image of a data set and its mask, still on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.data.look import Look


@dataclass(frozen=True)
class Case:
    """An image file, its mask file(s) and the group that must stay in one part of a split.

    ``mask`` is one file of class indices, or for multilabel one file of 0/1 per class name.
    """

    stem: str
    image: Path
    mask: Path | Mapping[str, Path]
    group: str | None = None

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The mask file, or the files of all classes."""
        return (self.mask,) if isinstance(self.mask, Path) else tuple(self.mask.values())


@dataclass(frozen=True)
class CaseFacts:
    """What was seen of a case when it was checked.

    ``class_pixels``: pixels of each class in the mask; for multilabel a pixel may count twice.
    ``look``: what kind of image it is.
    """

    height_px: int
    width_px: int
    channels: int
    class_pixels: tuple[int, ...]
    ignored_pixels: int
    look: Look

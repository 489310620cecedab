"""The ``data`` group of a training configuration."""

from dataclasses import dataclass
from typing import Literal

SplitChoice = Literal["auto", "random", "group", "block"]


@dataclass(frozen=True)
class DataConfig:
    """Where the data are, how they are split and how samples are drawn from them.

    Attributes:
        root: folder of the data set.
        spec: dataset.yaml, where it is not in ``root``.
        split: how to split; ``auto`` is ``group`` where groups are known, else ``random``.
        split_file: reused where it exists, written where it does not.
        val_fraction: fraction of the images that validates (without ``folds``).
        test_fraction: fraction of the images that is held out altogether.
        folds: number of folds of cross-validation; null: one split by fractions.
        fold: which fold validates, from 0; ``all``: `fit` trains one after the other, each in a
            run of its own.
        seed: of the split, of the order and of every augmentation.
        patch: training crops, (H, W) in pixels; null: chosen from the images' sizes.
        working_size: whole images are resized to this (H, W) instead of being cropped.
        batch_size: samples per training step; validation takes one image at a time.
        patches_per_image: crops of each image in one epoch.
        foreground_fraction: share of crops centred on a pixel that is not background, its class
            drawn evenly from those that the image has.
        rare_share: images that hold a class, or are of a kind, that less than this share of the
            images holds or is of, are drawn more often: the square root of rare_share over that
            share times; 0: all images are drawn equally often.
        area_power: an image is drawn in proportion to its pixels, in patches, to this power; 0:
            large and small images equally often, 1: every pixel equally often.
        workers: processes that load training samples; 0: in the training process.
        cache_mb: memory for decoded images and masks of all training workers together;
            validation and test take up to a quarter of it each on top.
    """

    root: str = "data"
    spec: str | None = None
    split: SplitChoice = "auto"
    split_file: str | None = None
    val_fraction: float = 0.15
    test_fraction: float = 0.15
    folds: int | None = None
    fold: int | Literal["all"] = 0
    seed: int = 0
    patch: tuple[int, int] | None = None
    working_size: tuple[int, int] | None = None
    batch_size: int = 8
    patches_per_image: int = 1
    foreground_fraction: float = 0.33
    rare_share: float = 0.0
    area_power: float = 0.0
    workers: int = 2
    cache_mb: int = 1024

    def __post_init__(self) -> None:
        if self.patch is not None and self.working_size is not None:
            raise ValueError(
                f"patch {self.patch} and working_size {self.working_size} exclude each other: "
                "crops at the images' own scale, or whole images at one size; set one to null"
            )
        for name in ("patch", "working_size"):
            size = getattr(self, name)
            if size is not None and (len(size) != 2 or min(size) < 1):
                raise ValueError(f"{name} must be (H, W) in pixels, each >= 1, got {size}")
        fractions = ("val_fraction", "test_fraction", "foreground_fraction", "rare_share")
        for name in (*fractions, "area_power"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.val_fraction} + test_fraction {self.test_fraction} leave "
                "nothing to train on; together they must stay below 1"
            )
        for name, least in (
            ("batch_size", 1),
            ("patches_per_image", 1),
            ("workers", 0),
            ("cache_mb", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0, got {self.seed}")
        if self.fold == "all":
            if self.folds is None or self.folds < 2:
                raise ValueError(f"fold all needs folds >= 2, e.g. folds 5; got folds {self.folds}")
            if self.split_file is not None:
                raise ValueError(
                    f"split_file {self.split_file} is one split, and fold all makes one for each "
                    "fold; leave split_file out, or train one fold"
                )
        elif self.folds is not None and not (self.folds >= 2 and 0 <= self.fold < self.folds):
            raise ValueError(
                f"folds must be >= 2 and fold in 0..folds-1, got folds {self.folds}, "
                f"fold {self.fold}"
            )

"""Which images train, which validate and which test: deterministic, written down, reused."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from contract.errors import DataError
from training.data.config import DataConfig
from training.data.folder import FolderDataset
from training.data.stems import natural_key
from training.data.survey import Survey

SplitKind = Literal["random", "group", "block"]
PARTS = ("train", "val", "test")
LISTED = 10


@dataclass(frozen=True)
class Split:
    """Stems of each part, in natural order; no stem stands twice."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    kind: SplitKind
    seed: int
    fold: int | None = None
    folds: int | None = None

    def __post_init__(self) -> None:
        places = Counter([*self.train, *self.val, *self.test])
        twice = sorted(stem for stem, count in places.items() if count > 1)
        if twice:
            raise DataError(
                f"{len(twice)} stem(s) stand twice in the split: {', '.join(twice[:LISTED])}; "
                "each may stand in one part only"
            )
        if not self.train:
            raise DataError("the split's train part is empty; lower the other fractions")


def make_split(dataset: FolderDataset, config: DataConfig) -> Split:
    """Split a data set as ``config`` says; the same arguments always give the same parts.

    ``auto`` is ``group`` where the data set names groups, else ``random``. ``random`` and
    ``group`` depend on ``config.seed``; ``block`` cuts the naturally sorted stems into
    neighbouring runs (train, val, test), for slices of one stack, whose neighbours look alike.
    With ``config.folds`` the test part is cut off first, and fold ``config.fold`` of the rest
    validates.

    Raises:
        DataError: fewer groups or images than parts, or ``group`` without a group column.
        ValueError: fold ``all``, which is as many splits as there are folds.
    """
    if config.fold == "all":
        raise ValueError("fold all is no split of its own: make one for each fold")
    kind = _kind(dataset, config)
    if kind == "group":
        units = _groups(dataset, config.seed)
    else:
        stems = sorted((case.stem for case in dataset.cases), key=natural_key)
        if kind == "random":
            order = np.random.default_rng(config.seed).permutation(len(stems))
            stems = [stems[index] for index in order]
        units = [(stem,) for stem in stems]
    train, val, test = _parts(units, config, config.fold, kind)
    return Split(
        train=_flat(train),
        val=_flat(val),
        test=_flat(test),
        kind=kind,
        seed=config.seed,
        fold=config.fold if config.folds is not None else None,
        folds=config.folds,
    )


def find_split(dataset: FolderDataset, config: DataConfig) -> Split:
    """Return the split of ``config.split_file`` where that exists, else a new one.

    Raises:
        DataError: the file is no split of this data set, or not of the fold that is asked for;
            see ``make_split``.
    """
    path = None if config.split_file is None else Path(config.split_file)
    if path is None or not path.is_file():
        return make_split(dataset, config)
    split = read_split(path, dataset)
    if config.folds is not None and (split.fold, split.folds) != (config.fold, config.folds):
        held = "no fold" if split.folds is None else f"fold {split.fold} of {split.folds}"
        raise DataError(
            f"{path} is {held}, but fold {config.fold} of {config.folds} is asked for: the file "
            "would win. Leave data.split_file out, or data.folds and data.fold"
        )
    return split


def write_split(split: Split, path: Path) -> None:
    """Write ``split`` as JSON, one part per key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(split), indent=1) + "\n", encoding="utf-8")


def read_split(path: Path, dataset: FolderDataset | Survey | None = None) -> Split:
    """Read a split; with ``dataset`` its stems are checked against the folder.

    Images of the folder that the file does not name stay unused: a split is reused so that a
    grown folder does not change what was held out.

    Raises:
        DataError: no such file, not a split, or stems that the folder does not have.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        parts = {part: tuple(str(stem) for stem in fields[part]) for part in PARTS}
        split = Split(
            **parts,
            kind=fields["kind"],
            seed=int(fields["seed"]),
            fold=fields.get("fold"),
            folds=fields.get("folds"),
        )
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such split file; leave split_file out to make one") from error
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a split file that Longskip wrote ({error!r})") from error
    if dataset is not None:
        known = {case.stem for case in dataset.cases}
        missing = sorted({*split.train, *split.val, *split.test} - known, key=natural_key)
        if missing:
            raise DataError(
                f"{path} names {len(missing)} stem(s) that {dataset.root} does not have: "
                f"{', '.join(missing[:LISTED])}{' …' if len(missing) > LISTED else ''}. "
                "Use the split of this data set, or leave split_file out to make a new one."
            )
    return split


Unit = tuple[str, ...]  # stems that stay together


def _kind(dataset: FolderDataset, config: DataConfig) -> SplitKind:
    grouped = any(case.group is not None for case in dataset.cases)
    if config.split == "auto":
        return "group" if grouped else "random"
    if config.split == "group" and not grouped:
        raise DataError(
            "split is 'group', but no groups are known; name table and group_column in "
            "dataset.yaml, or use split random or block"
        )
    return config.split


def _groups(dataset: FolderDataset, seed: int) -> list[Unit]:
    """Return groups in a seeded order, the largest first: these are the hardest to place."""
    members: dict[str, list[str]] = {}
    for case in dataset.cases:
        # A case without a group is a group of its own.
        key = f"group {case.group}" if case.group is not None else f"stem {case.stem}"
        members.setdefault(key, []).append(case.stem)
    names = sorted(members, key=natural_key)
    order = np.random.default_rng(seed).permutation(len(names))
    units = [tuple(members[names[index]]) for index in order]
    return sorted(units, key=len, reverse=True)


def _parts(
    units: Sequence[Unit], config: DataConfig, fold: int, kind: SplitKind
) -> tuple[list[Unit], list[Unit], list[Unit]]:
    total = sum(len(unit) for unit in units)
    test_size = _share(total, config.test_fraction)
    if config.folds is None:
        val_size = _share(total, config.val_fraction)
        # Of a handful of images, rounding up must not take the last one from training.
        while val_size + test_size >= total and max(val_size, test_size) > 1:
            if val_size > test_size:
                val_size -= 1
            else:
                test_size -= 1
        sizes = [total - val_size - test_size, val_size, test_size]
        train, val, test = _fill(units, sizes, kind)
        return train, val, test
    rest = total - test_size
    if rest < config.folds:
        raise DataError(f"{rest} image(s) cannot make {config.folds} folds; lower folds")
    # Nearly equal folds; the first ones take the remainder.
    folds = [rest // config.folds + (i < rest % config.folds) for i in range(config.folds)]
    *chunks, test = _fill(units, [*folds, test_size], kind, folded=True)
    train = [unit for i, chunk in enumerate(chunks) if i != fold for unit in chunk]
    return train, chunks[fold], test


def _share(total: int, fraction: float) -> int:
    return max(1, round(total * fraction)) if fraction > 0 else 0


def _fill(
    units: Sequence[Unit], sizes: Sequence[int], kind: SplitKind, *, folded: bool = False
) -> list[list[Unit]]:
    """Deal ``units`` out to parts of about ``sizes`` stems; every wanted part gets one."""
    wanted = [index for index, size in enumerate(sizes) if size > 0]
    if len(units) < len(wanted) or sizes[0] <= 0:
        what = "group" if kind == "group" else "image"
        parts_wanted = 1 + sum(size > 0 for size in sizes[1:])
        remedies = [f"add {what}s"]
        if folded:
            remedies.append("lower data.folds")
        if sizes[-1] > 0 or not folded:
            remedies.append(
                f"data.{'test' if sizes[-1] > 0 else 'val'}_fraction 0 does without one"
            )
        raise DataError(
            f"{len(units)} {what}(s) cannot be split into {parts_wanted} parts of one {what} or "
            f"more: {', or '.join(remedies)}"
        )
    parts: list[list[Unit]] = [[] for _ in sizes]
    if kind != "group":  # units are single stems, already in the order to be cut
        start = 0
        for part, size in zip(parts, sizes, strict=True):
            part.extend(units[start : start + size])
            start += size
        return parts
    missing = list(sizes)
    for left, unit in zip(range(len(units), 0, -1), units, strict=True):
        empty = [index for index in wanted if not parts[index]]
        # The last units go to parts that would else stay empty.
        choices = empty if len(empty) >= left else wanted
        target = max(choices, key=lambda index: (missing[index], -index))
        parts[target].append(unit)
        missing[target] -= len(unit)
    return parts


def _flat(units: Sequence[Unit]) -> tuple[str, ...]:
    return tuple(sorted((stem for unit in units for stem in unit), key=natural_key))

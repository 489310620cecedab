"""A folder of folds: one training after the other, each an ordinary run.

config.yaml      every setting, resolved, with ``data.fold: all``
fold-0, fold-1   a run each, as `fit --data.fold 0` would have made it

What is done is told by the runs themselves, so there is no state beside theirs.
"""

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from training.data.split import Split, read_split
from training.fit.atomic import replace_file
from training.fit.run_directory import RunDirectory, RunDirectoryError


@dataclass(frozen=True)
class FoldsDirectory:
    """Paths inside the folder of all folds.

    Attributes:
        root: the folder.
        folds: how many there are.
    """

    root: Path
    folds: int

    @property
    def config(self) -> Path:
        """The settings of all folds."""
        return config_of(self.root)

    def run(self, fold: int) -> RunDirectory:
        """Return the run of one fold, there or not."""
        return RunDirectory(self.root / f"fold-{fold}")

    def trained(self) -> tuple[RunDirectory, ...]:
        """Return the runs of all folds.

        Raises:
            RunDirectoryError: one has no checkpoint yet.
        """
        runs = tuple(self.run(fold) for fold in range(self.folds))
        missing = [run.root.name for run in runs if not _has_checkpoint(run)]
        if missing:
            raise RunDirectoryError(
                f"{self.root} has no checkpoint of {', '.join(missing)} yet; go on with it by "
                f"`fit --resume {self.root}`"
            )
        return runs

    def begin(self, fold: int) -> RunDirectory | None:
        """Return the run of a fold that can be gone on with; None where it has to begin.

        What was left by one that was killed before its first checkpoint is removed.
        """
        run = self.run(fold)
        if _has_checkpoint(run):
            return run
        if run.root.exists():
            shutil.rmtree(run.root)
        return None

    def check_split(self, split: Split) -> None:
        """Hold the split of a fold that begins against those of the folds that began before.

        Raises:
            RunDirectoryError: it is of other images, or of another number of folds, so that the
                folds would no longer share images out and hold the same ones back.
        """
        for fold in range(self.folds):
            file = self.run(fold).split
            if not file.is_file():
                continue
            earlier = read_split(file)
            own, others = ({*one.train, *one.val, *one.test} for one in (split, earlier))
            if (own, split.folds, set(split.test)) == (others, earlier.folds, set(earlier.test)):
                continue
            raise RunDirectoryError(
                f"fold {split.fold} would be of {len(own)} images in {split.folds} folds, but "
                f"{self.run(fold).root} is of {len(others)} in {earlier.folds}: images came, went "
                "or got other names since, or the settings were changed. Put them back, or train "
                "all folds anew with another --out"
            )

    def settings_of(self, fold: int, *, max_minutes: float | None) -> str:
        """Return ``config`` as one fold's, comments kept."""
        text = self.config.read_text(encoding="utf-8")
        for pattern, line in (
            (r"  fold: all", f"  fold: {fold}"),
            (r"out: .*", f"out: {self.run(fold).root}"),
            (r"max_minutes: .*", f"max_minutes: {'null' if max_minutes is None else max_minutes}"),
        ):
            # A path may hold a backslash, which a replacement would read as its own.
            text = re.sub(rf"(?m)^{pattern}$", line.replace("\\", r"\\"), text, count=1)
        return text

    def write_config(self, text: str) -> None:
        """Keep the settings of all folds."""
        replace_file(self.config, lambda file: file.write(text.encode()))


def config_of(root: Path) -> Path:
    """Return where a folder's settings lie."""
    return RunDirectory(root).config


def read_folds(root: Path) -> FoldsDirectory | None:
    """Return the folder of folds that ``root`` is, or None where it is none."""
    try:
        data = yaml.safe_load(config_of(root).read_text(encoding="utf-8"))["data"]
        whole = data["fold"] == "all"
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return None
    return FoldsDirectory(root, int(data["folds"])) if whole else None


def runs_of(paths: Iterable[Path]) -> list[RunDirectory]:
    """Return the runs at ``paths``, of a folder of folds each fold's.

    Raises:
        RunDirectoryError: a fold is not trained yet.
    """
    runs: list[RunDirectory] = []
    for path in paths:
        folds = read_folds(path)
        runs.extend([RunDirectory(path)] if folds is None else folds.trained())
    return runs


def _has_checkpoint(run: RunDirectory) -> bool:
    try:
        run.checkpoint("last")
    except RunDirectoryError:
        return False
    return True

"""A run directory as a report reads it: whatever is there, of a run in any state."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from contract.errors import DataError
from training.data.split import Split, read_split
from training.fit.checkpoint import CheckpointUnreadable, read_whole
from training.fit.dotted import flat
from training.fit.run_directory import LAST, PREVIOUS, RunDirectory, RunDirectoryError
from training.report.history import History, read_history


@dataclass(frozen=True)
class RunRecord:
    """What one run left behind.

    Attributes:
        run: its folder.
        settings: every setting by its dotted name, such as ``data.patch``.
        reasons: why a setting was chosen, by its dotted name, where the config says so.
        environment: versions, hardware, command; empty where it is not there.
        split: None where it is not there or not readable.
        history: what was logged.
        planned_epochs: None where the run had no such plan (``max_steps``, ``max_time``).
        shortened_to: how many of them were left when the schedule was shortened to keep a time
            limit; None where it was not.
    """

    run: RunDirectory
    settings: Mapping[str, Any]
    reasons: Mapping[str, str]
    environment: Mapping[str, Any]
    split: Split | None
    history: History
    planned_epochs: int | None
    shortened_to: int | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.run.root.resolve().name

    @property
    def finished(self) -> bool:
        """Whether the schedule reached its end."""
        end = self.shortened_to or self.planned_epochs
        return end is not None and self.history.epochs >= end


def read_run(root: Path) -> RunRecord:
    """Read the run directory ``root``.

    Raises:
        RunDirectoryError: it is no run directory, or its config cannot be read.
    """
    run = RunDirectory(root)
    if not run.config.is_file():
        raise RunDirectoryError(
            f"{root} holds no config.yaml; give the folder that `python -m training fit` wrote"
        )
    text = run.config.read_text(encoding="utf-8")
    try:
        settings = flat(yaml.safe_load(text))
    except (yaml.YAMLError, AttributeError) as error:
        raise RunDirectoryError(f"{run.config} is no config that `fit` wrote: {error}") from error
    if settings.get("data.fold") == "all":
        raise RunDirectoryError(
            f"{root} holds the runs of all folds; give one of them, such as {root / 'fold-0'}"
        )
    planned = settings.get("trainer.max_epochs")
    return RunRecord(
        run=run,
        settings=settings,
        reasons=comments(text),
        environment=_json(run.environment),
        split=_split(run.split),
        history=read_history(run.logs),
        planned_epochs=planned if isinstance(planned, int) and planned > 0 else None,
        shortened_to=_shortened_to(run),
    )


def _shortened_to(run: RunDirectory) -> int | None:
    """Return the epochs that ``KeepToTime`` left; only the checkpoints hold that."""
    for name in (LAST, PREVIOUS):
        try:
            stored = read_whole(run.checkpoints / name)
        except CheckpointUnreadable:
            continue
        kept: int | None = stored.get("callbacks", {}).get("KeepToTime", {}).get("max_epochs")
        return kept
    return None


KEY_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w.-]+):(?P<rest>.*)$")


def comments(text: str) -> dict[str, str]:
    """Return the comments of a YAML text by the dotted name of the setting they belong to.

    A comment belongs to the setting on its line, or to the next one where it has lines of its own.
    """
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    above: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            above.append(line.lstrip("# ").strip())
            continue
        match = KEY_LINE.match(line)
        if match is None:
            above = []
            continue
        indent = len(match["indent"])
        path = [*((i, key) for i, key in path if i < indent), (indent, match["key"])]
        _, mark, beside = match["rest"].partition(" #")
        words = " ".join([*above, *([beside.strip()] if mark else [])])
        if words:
            found[".".join(key for _, key in path)] = words
        above = []
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _split(path: Path) -> Split | None:
    try:
        return read_split(path)
    except DataError:
        return None

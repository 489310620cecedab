"""Loggers that a user asks for, such as MLflow's, beside the run's own."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch.loggers import Logger

from training.fit.dotted import flat
from training.fit.run_directory import RunDirectory

# Where things lie is nobody's business on a server, and says nothing of the training.
LEFT_OUT = ("out", "resume", "init_from", "data.root", "data.spec", "data.split_file")

# The option by which a logger goes on with a run of its tool, by the logger's class.
GOES_ON_BY = {"MLFlowLogger": "run_id", "WandbLogger": "id"}
KEPT = "trackers.json"


def with_trackers(own: Sequence[Logger], asked: Any) -> list[Logger]:
    """Return the run's loggers for what stands under ``trainer.logger``.

    Args:
        own: the run's, which `report`, `compare` and `--resume` read.
        asked: None or True: only these; False: none; a logger or several: these as well.
    """
    if asked is None or asked is True:
        return list(own)
    if asked is False:
        return []
    return [*own, *(asked if isinstance(asked, list | tuple) else [asked])]


def log_settings(trackers: Sequence[Logger], run: RunDirectory) -> None:
    """Send the run's settings by their dotted names to ``trackers``.

    Paths stay here, and so does ``trainer.logger``, which may hold an address with a password.
    """
    if not trackers or not run.config.is_file():
        return
    settings = {
        name: value
        for name, value in flat(yaml.safe_load(run.config.read_text(encoding="utf-8"))).items()
        if name not in LEFT_OUT and not name.startswith("trainer.logger")
    }
    for tracker in trackers:
        tracker.log_hyperparams(settings)


def remember_trackers(trackers: Sequence[Logger], run: RunDirectory) -> None:
    """Write down which run of its tool each tracker logs to, for ``go_on_with_trackers``."""
    if trackers:
        kept = [[type(tracker).__name__, tracker.version] for tracker in trackers]
        (run.root / KEPT).write_text(json.dumps(kept) + "\n", encoding="utf-8")


def go_on_with_trackers(settings: Namespace, run: RunDirectory) -> None:
    """Let a resumed training log to the same runs as before, where a logger has an option for it.

    An option that the user has set himself is left alone.

    Args:
        settings: of the training; options of ``trainer.logger`` are changed in place.
        run: that is resumed.
    """
    try:
        kept = json.loads((run.root / KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    asked = settings.trainer.logger
    for logger, (name, version) in zip(
        asked if isinstance(asked, list) else [asked], kept, strict=False
    ):
        option = GOES_ON_BY.get(name)
        if option is None or not isinstance(logger, Namespace):
            continue
        if logger.class_path.rpartition(".")[2] == name and not logger.init_args.get(option):
            logger.init_args[option] = version


def end_trackers() -> None:
    """End what a tool keeps open for the whole process, so that the next fold has its own run."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()

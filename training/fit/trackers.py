"""Loggers that a user asks for, such as MLflow's, beside the run's own."""

from collections.abc import Sequence
from typing import Any

import yaml
from lightning.pytorch.loggers import Logger

from training.fit.dotted import flat
from training.fit.run_directory import RunDirectory

# Where things lie is nobody's business on a server, and says nothing of the training.
LEFT_OUT = ("out", "resume", "init_from", "data.root", "data.spec", "data.split_file")


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

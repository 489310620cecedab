"""Train one net: from settings to a run directory with its best checkpoint."""

import csv
import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, Timer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from contract.spec import Normalising, TrainingData
from training.data.datamodule import SegmentationData
from training.data.fingerprint import fingerprint
from training.data.folder import IGNORE
from training.data.split import write_split
from training.fit.checkpoint import CHECKPOINT_KEY, Description, initialise_from, net_fields
from training.fit.config import FitConfig
from training.fit.losses import build_loss
from training.fit.module import SegmentationModule
from training.fit.progress import progress_callback
from training.fit.run_directory import (
    RunDirectory,
    create_run_directory,
    keep_metrics,
    write_environment,
)


class DescribeCheckpoint(Callback):
    """Write the description into every checkpoint, so that it can be exported by itself."""

    def __init__(self, description: Description) -> None:
        self.description = description.model_dump(mode="json")

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the description under its key."""
        checkpoint[CHECKPOINT_KEY] = self.description


class WriteValidation(Callback):
    """Keep Dice and IoU per case and class of the latest validation pass as CSV."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the table; an empty cell is a class that neither mask nor answer holds."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        if not isinstance(pl_module, SegmentationModule):
            raise TypeError(f"expected a SegmentationModule, got {type(pl_module).__name__}")
        with self.path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["stem", "class", "dice", "iou"])
            for stem, scores in sorted(pl_module.cases.items()):
                for name, score in zip(pl_module.class_names, scores, strict=True):
                    cells = ["" if math.isnan(v) else f"{v:.6f}" for v in (score.dice, score.iou)]
                    writer.writerow([stem, name, *cells])


def fit(config: FitConfig, *, save_config: Callable[[Path], None]) -> RunDirectory:
    """Train and return the run directory.

    Args:
        config: the settings.
        save_config: writes the resolved settings to the path given.

    Raises:
        DataError: the data set has faults; every one found is listed.
        RunDirectoryError: the run directory is in use, or none to resume.
        CheckpointUnreadable: ``init_from`` cannot be used.
    """
    L.seed_everything(config.seed, workers=True, verbose=False)
    data_config = config.data
    if config.resume is not None:
        data_config = replace(data_config, split_file=str(RunDirectory(config.resume).split))
    data = SegmentationData(data_config, config.augment)
    seen = fingerprint(data.dataset, data.split.train)
    description = describe(config, data, seen)
    graph = description.build_graph()
    run = _open_run(config)
    first_rank = rank() == 0
    if config.resume is None and first_rank:
        save_config(run.config)
        write_split(data.split, run.split)
        write_environment(
            run,
            seed=config.seed,
            extra={"data_seed": config.data.seed, "images": len(data.dataset.cases)},
        )
    if config.resume is not None and first_rank:
        keep_metrics(run)
    if config.init_from is not None:
        fresh = initialise_from(graph, config.init_from)
        if first_rank:
            print(f"start from {config.init_from}; {len(fresh)} tensors keep fresh values")
    module = SegmentationModule(
        graph,
        loss=build_loss(
            config.loss,
            task=description.task,
            classes=len(description.classes),
            ignore=IGNORE,
            class_weights=data.class_weights() if config.loss.class_weights == "balanced" else None,
        ),
        optimiser=config.optimiser,
        class_names=tuple(c.name for c in description.classes),
        ignore=IGNORE,
    )
    trainer = build_trainer(config, run, description, validates=bool(data.split.val))
    if first_rank:
        print(
            f"{config.data.root}: {len(data.split.train)} images train, "
            f"{len(data.split.val)} validate, {len(data.split.test)} held out; "
            f"run directory {run.root}",
            flush=True,
        )
    resume_from = None if config.resume is None else run.checkpoint("last")
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume_from)
    except SystemExit as end:
        if not (trainer.interrupted and end.code == 1):
            raise
        # Lightning has taken Ctrl-C for itself and ended in silence.
        raise KeyboardInterrupt(_how_to_go_on(run)) from end
    _say_where_it_stopped(trainer)
    return run


def _how_to_go_on(run: RunDirectory) -> str:
    if (run.checkpoints / "last.ckpt").is_file():
        return f"go on after its last whole epoch by --resume {run.root}"
    return "no epoch was finished, so nothing was kept"


def _say_where_it_stopped(trainer: L.Trainer) -> None:
    """Tell a training that ended before its last epoch: its schedule was not run to the end."""
    planned = trainer.max_epochs
    if rank() == 0 and planned is not None and trainer.current_epoch < planned:
        print(
            f"stopped early, in epoch {trainer.current_epoch + 1} of {planned}, by a time limit or "
            "a callback: the schedule did not reach its end, so do not hold this run against one "
            "that did"
        )


def describe(config: FitConfig, data: SegmentationData, seen: TrainingData) -> Description:
    """Return what the checkpoint has to know, from the settings and the training images."""
    if config.normalising == "fixed":
        mean, std = data.training_statistics()
        normalising = Normalising(kind="fixed", mean=mean, std=std)
    else:
        normalising = Normalising(kind="image")
    return Description(
        net=net_fields(config.net),
        channels=data.channels,
        classes=data.classes,
        task=data.dataset.spec.task,
        normalising=normalising,
        working_size=config.data.working_size,
        patch=data.patch,
        training_data=seen,
        licence=data.dataset.spec.licence,
        seed=config.seed,
    )


def build_trainer(
    config: FitConfig, run: RunDirectory, description: Description, *, validates: bool
) -> L.Trainer:
    """Return Lightning's Trainer with our callbacks and loggers beside those of the settings."""
    options = dict(config.trainer)
    own: list[Callback] = [
        DescribeCheckpoint(description),
        # After every epoch, validated or not, so that little is lost with the process.
        ModelCheckpoint(
            dirpath=run.checkpoints,
            filename="last",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]
    if validates:
        own.append(
            ModelCheckpoint(
                dirpath=run.checkpoints,
                filename="best",
                monitor="val/dice",
                mode="max",
                enable_version_counter=False,
            )
        )
        own.append(WriteValidation(run.validation))
    if options.get("enable_progress_bar") is not False:
        own.append(progress_callback())
        options["enable_progress_bar"] = any(hasattr(c, "train_progress_bar") for c in own)
    if config.max_minutes is not None:
        own.append(Timer(timedelta(minutes=config.max_minutes), interval="step"))
    loggers = options.pop("logger", True)
    if loggers is True or loggers is None:
        loggers = default_loggers(run)
    if loggers:
        own.append(LearningRateMonitor(logging_interval="step"))
    given = options.pop("callbacks", None) or []
    given = given if isinstance(given, list) else [given]
    quieten()
    return L.Trainer(**options, logger=loggers, callbacks=[*own, *given], default_root_dir=run.root)


def default_loggers(run: RunDirectory) -> list[Logger]:
    """TensorBoard events and metrics.csv, both in ``logs/``."""
    return [
        TensorBoardLogger(run.root, name="logs", version="", default_hp_metric=False),
        CSVLogger(run.root, name="logs", version=""),
    ]


def quieten() -> None:
    """Silence what Lightning says at every start and nobody can act on."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for message in (
        ".*LeafSpec.*is deprecated.*",
        # Each rank validates all images, and train/loss is the rank's own by intent.
        ".*sync_dist=True.*",
        ".*does not have many workers.*",
        ".*number of training batches .* is smaller than the logging interval.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*Experiment logs directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message)


def _open_run(config: FitConfig) -> RunDirectory:
    if config.resume is not None:
        run = RunDirectory(config.resume)
        run.checkpoint("last")  # says at once when there is none
        return run
    skips = config.net.long_skips
    label = skips if isinstance(skips, str) else "-".join(skips)
    name = f"{Path(config.data.root).resolve().name}-{label.replace(',', '-')}"
    if rank() > 0:
        # Another process of the same training, which writes nothing; Lightning sends it the
        # first one's checkpoint folder.
        return RunDirectory(config.out or Path("runs") / name)
    return create_run_directory(config.out, name=name)


def rank() -> int:
    """Return this process's place in a training on several devices; 0 writes and prints."""
    return int(getattr(rank_zero_only, "rank", None) or 0)

"""Train one net: from settings to a run directory with its best checkpoint."""

import csv
import errno
import io
import logging
import math
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, Checkpoint, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from contract.errors import RequestInvalid
from contract.spec import Normalising, TrainingData
from training.data.datamodule import SegmentationData
from training.data.fingerprint import fingerprint
from training.data.folder import IGNORE, FolderDataset
from training.data.split import write_split
from training.fit.atomic import replace_file
from training.fit.checkpoint import (
    CHECKPOINT_KEY,
    Description,
    initialise_from,
    net_fields,
    read_checkpoint,
)
from training.fit.checkpoint_io import CheckpointUnwritable, WholeCheckpoints
from training.fit.config import FitConfig
from training.fit.data_wait import DataWait
from training.fit.ema import AverageWeights
from training.fit.folds import read_folds
from training.fit.gradient_alarm import GradientAlarm
from training.fit.last_checkpoint import KeepLast, Stopped
from training.fit.losses import build_loss
from training.fit.metrics_file import MetricsFile
from training.fit.module import SegmentationModule
from training.fit.progress import progress_callback
from training.fit.resume import ResumePoint, check_unchanged, find_point
from training.fit.run_directory import (
    LAST,
    PREVIOUS,
    RunDirectory,
    create_run_directory,
    write_environment,
)
from training.fit.trackers import log_settings, remember_trackers, with_trackers
from training.nets.deep_supervision import DeepSupervision

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["stem", "class", "dice", "iou"])
        for stem, scores in sorted(pl_module.cases.items()):
            for name, score in zip(pl_module.class_names, scores, strict=True):
                cells = ["" if math.isnan(v) else f"{v:.6f}" for v in (score.dice, score.iou)]
                writer.writerow([stem, name, *cells])
        replace_file(self.path, lambda file: file.write(text.getvalue().encode()))


def fit(
    config: FitConfig,
    *,
    save_config: Callable[[Path], None],
    dataset: FolderDataset | None = None,
) -> RunDirectory:
    """Train and return the run directory.

    Args:
        config: the settings.
        save_config: writes the resolved settings to the path given.
        dataset: what lies at ``config.data.root``, where it was opened and checked already.

    Raises:
        DataError: the data set has faults; every one found is listed.
        RunDirectoryError: the run directory is in use, or none to resume.
        CheckpointUnreadable: ``init_from`` cannot be used.
        RunChanged: the run to resume was trained with other settings or classes.
        RequestInvalid: Lightning refuses the trainer's options.
    """
    L.seed_everything(config.seed, workers=True, verbose=False)
    resume_from: Path | None = None
    point: ResumePoint | None = None
    if config.resume is not None:
        resume_from, point, note = find_point(RunDirectory(config.resume))
        if note is not None and rank() == 0:
            print(note, flush=True)
        if point is not None and point.finished:
            if rank() == 0:
                print(f"{config.resume} was trained to its end, {point.steps} steps", flush=True)
            return RunDirectory(config.resume)
    data_config = config.data
    if config.resume is not None:
        # The run's own split, whatever it was made of.
        split_file = str(RunDirectory(config.resume).split)
        data_config = replace(data_config, split_file=split_file, folds=None, fold=0)
    data = SegmentationData(data_config, config.augment, dataset=dataset)
    if point is not None:
        data.start_at(epoch=point.epoch, batches=point.batches)
    seen = fingerprint(data.dataset, data.split.train)
    description = describe(config, data, seen)
    graph = description.build_graph()
    if config.data.folds is not None and config.resume is None and config.out is not None:
        all_folds = read_folds(config.out.parent)
        if all_folds is not None:
            all_folds.check_split(data.split)
    run = _open_run(config)
    first_rank = rank() == 0
    if resume_from is not None:
        changed = check_unchanged(run, read_checkpoint(resume_from)[0], description)
        if changed is not None and first_rank:
            print(changed, file=sys.stderr, flush=True)
    if config.resume is None and first_rank:
        save_config(run.config)
        write_split(data.split, run.split)
        write_environment(
            run,
            seed=config.seed,
            extra={"data_seed": config.data.seed, "images": len(data.dataset.cases)},
        )
    if config.init_from is not None:
        fresh = initialise_from(graph, config.init_from)
        if first_rank:
            print(f"start from {config.init_from}; {len(fresh)} tensors keep fresh values")
    deep = None
    if config.loss.deep_supervision:
        if config.compile:
            raise RequestInvalid(
                "loss.deep_supervision reads levels of the net that torch.compile melts together; "
                "leave one of the two out"
            )
        classes = len(description.classes)
        deep = DeepSupervision(graph.net, classes=classes, ignore=IGNORE)
    module = SegmentationModule(
        graph,
        deep=deep,
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
    if config.channels_last:
        graph.net.to(memory_format=torch.channels_last)
    if config.compile:
        graph.net.compile()
    trainer = build_trainer(config, run, description, validates=bool(data.split.val), resumed=point)
    if first_rank:
        own = (MetricsFile, TensorBoardLogger)
        trackers = [tracker for tracker in trainer.loggers if not isinstance(tracker, own)]
        log_settings(trackers, run)
        remember_trackers(trackers, run)
    if first_rank:
        if data_config.folds is not None and (
            config.out is None or read_folds(config.out.parent) is None
        ):
            print(
                f"fold {data_config.fold} of {data_config.folds}, numbered from 0; "
                "--data.fold all trains each"
            )
        print(
            f"{config.data.root}: {len(data.split.train)} images train, "
            f"{len(data.split.val)} validate, {len(data.split.test)} held out; "
            f"run directory {run.root}",
            flush=True,
        )
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume_from)
    except SystemExit as end:
        if not (trainer.interrupted and end.code == 1):
            raise
        # Lightning has taken Ctrl-C for itself and ended in silence.
        if _keeper(trainer).stop.signal is signal.SIGTERM:
            if first_rank:
                print(f"stopped by SIGTERM; {_how_to_go_on(run, end)}", file=sys.stderr)
            raise SystemExit(128 + signal.SIGTERM) from end
        raise KeyboardInterrupt(_how_to_go_on(run, end)) from end
    except MisconfigurationException as error:
        raise RequestInvalid(f"Lightning refuses to train: {error}") from error
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise CheckpointUnwritable(
            f"{error.filename or run.root} cannot be written ({error.strerror}); make room. "
            f"Then {_how_to_go_on(run, error)}"
        ) from error
    _say_where_it_stopped(trainer, run)
    return run


def _keeper(trainer: L.Trainer) -> KeepLast:
    callbacks: list[Callback] = vars(trainer)["callbacks"]
    return next(c for c in callbacks if isinstance(c, KeepLast))


def _how_to_go_on(run: RunDirectory, end: BaseException) -> str:
    if not any((run.checkpoints / name).is_file() for name in (LAST, PREVIOUS)):
        return "nothing was kept yet, so start again"
    if isinstance(end.__context__, Stopped):
        return f"every step was kept: go on by --resume {run.root}"
    return f"go on after the last checkpoint by --resume {run.root}"


def _say_where_it_stopped(trainer: L.Trainer, run: RunDirectory) -> None:
    """Tell a training that ended before its last step: its schedule was not run to the end."""
    planned = trainer.max_epochs
    out_of_time = _keeper(trainer).out_of_time_at is not None
    early = planned is not None and planned > 0 and trainer.current_epoch < planned
    if rank() == 0 and (early or out_of_time):
        where = f"in epoch {min(trainer.current_epoch + 1, planned or 1)} of {planned}"
        print(
            f"stopped early, {where}, by {'the time limit' if out_of_time else 'a callback'}: the "
            "schedule did not reach its end, so do not hold this run against one that did"
            + (f"; go on by --resume {run.root}" if out_of_time else "")
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
    config: FitConfig,
    run: RunDirectory,
    description: Description,
    *,
    validates: bool,
    resumed: ResumePoint | None = None,
) -> L.Trainer:
    """Return Lightning's Trainer with our callbacks and loggers beside those of the settings."""
    options = dict(config.trainer)
    averaging = config.optimiser.ema_decay
    own: list[Callback] = [
        # First, so that whatever is written after a step holds that step's average.
        *([] if averaging is None else [AverageWeights(averaging)]),
        KeepLast(
            run,
            checkpoint_minutes=config.checkpoint_minutes,
            max_minutes=config.max_minutes,
            resumed=resumed,
        ),
        DescribeCheckpoint(description),
        DataWait(),
        GradientAlarm(config, run.alarms),
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
    loggers = with_trackers(default_loggers(run, resumed), options.pop("logger", None))
    if loggers:
        own.append(LearningRateMonitor(logging_interval="step"))
    given = options.pop("callbacks", None) or []
    given = given if isinstance(given, list) else [given]
    if not any(isinstance(callback, Checkpoint) for callback in [*own, *given]):
        options["enable_checkpointing"] = False  # or Lightning adds one of its own
    plugins = options.pop("plugins", None) or []
    plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(WholeCheckpoints())
    quieten()
    try:
        return L.Trainer(
            **options,
            logger=loggers,
            callbacks=[*own, *given],
            plugins=plugins,
            default_root_dir=run.root,
            # Each process takes its share of the order itself, and validates all images.
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError) as error:
        raise RequestInvalid(
            f"Lightning refuses an option under trainer: {error}; change it, or leave it out"
        ) from error


def default_loggers(run: RunDirectory, resumed: ResumePoint | None = None) -> list[Logger]:
    """TensorBoard events and metrics.csv, both in ``logs/``, going on where ``resumed`` stood."""
    step = None if resumed is None else resumed.logged_steps
    rows = None if resumed is None else resumed.metric_rows
    return [
        # What was logged past the checkpoint comes again; purge_step lets viewers drop the old.
        TensorBoardLogger(
            run.root, name="logs", version="", default_hp_metric=False, purge_step=step
        ),
        MetricsFile(run.logs / "metrics.csv", keep_rows=rows),
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
        ".*resuming from a checkpoint that ended before the epoch ended.*",  # ours can
    ):
        warnings.filterwarnings("ignore", message)


def _open_run(config: FitConfig) -> RunDirectory:
    if config.resume is not None:
        run = RunDirectory(config.resume)
        return run
    name = run_name(config)
    if rank() > 0:
        # Another process of the same training, which writes nothing; Lightning sends it the
        # first one's checkpoint folder.
        return RunDirectory(config.out or Path("runs") / name)
    return create_run_directory(config.out, name=name)


def run_name(config: FitConfig) -> str:
    """Return what a run is called where nobody says: data set and skips."""
    skips = config.net.long_skips
    label = skips if isinstance(skips, str) else "-".join(skips)
    return f"{Path(config.data.root).resolve().name}-{label.replace(',', '-')}"


def rank() -> int:
    """Return this process's place in a training on several devices; 0 writes and prints."""
    return int(getattr(rank_zero_only, "rank", None) or 0)

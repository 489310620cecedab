"""``last.ckpt``: when it is written, and how a training stops so that it can go on exactly."""

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from training.fit.metrics_file import MetricsFile
from training.fit.resume import ResumePoint, settle, take_point
from training.fit.run_directory import LAST, PREVIOUS, RunDirectory
from training.fit.stop import StopRequest, requeue

# At the start of an epoch a checkpoint is written unless that would cost more than this share of
# the time since the last one: epochs may take a second or an hour.
WRITING_SHARE = 0.02


class Stopped(KeyboardInterrupt):
    """The training was asked to stop and has kept everything."""


class KeepLast(Callback):
    """Write ``last.ckpt`` every few minutes, at epochs' starts, when asked to stop, at the end.

    Always when a step begins, which is the moment at which nothing is half done: the step before
    is logged, a validation that was due is over. Stands before all callbacks that log.

    Args:
        run: where.
        checkpoint_minutes: least time between two checkpoints within an epoch; 0: each step.
        max_minutes: when to stop the training.
        resumed: where the training goes on, None for a new one.
    """

    def __init__(
        self,
        run: RunDirectory,
        *,
        checkpoint_minutes: float,
        max_minutes: float | None = None,
        resumed: ResumePoint | None = None,
    ) -> None:
        self.path = run.checkpoints / LAST
        self.checkpoint_s = checkpoint_minutes * 60
        self.max_s = None if max_minutes is None else max_minutes * 60
        self.stop = StopRequest()
        self.out_of_time_at: int | None = None
        self._resumed = resumed
        self._saving: ResumePoint | None = None
        self._started_s = self._saved_s = time.monotonic()
        self._writing_s = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen for SLURM's signal before Lightning does, which respects who came first."""
        self.stop.listen()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen again, since Lightning has taken SIGTERM, and start the clock."""
        self.stop.listen()
        self._started_s = self._saved_s = time.monotonic()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save what is due; stop where that was asked for.

        Raises:
            Stopped: a signal asked for it.
        """
        if self._resumed is not None:
            self._resumed.restore(trainer)
            self._resumed = None
            return
        # Gradients that wait for more batches are in no checkpoint.
        between_steps = batch_idx % trainer.accumulate_grad_batches == 0
        if not between_steps or not _any_process(trainer, self._due(batch_idx, trainer)):
            return
        self._save(trainer, batches=batch_idx)
        if _any_process(trainer, self.stop.signal is not None):
            if self.stop.requeues and trainer.is_global_zero:
                print(requeue(), flush=True)
            raise Stopped
        if _any_process(trainer, self._out_of_time()):
            self.out_of_time_at = trainer.global_step
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the end, unless time ran out: then the last step's start is what to go on from."""
        ran_out = self.out_of_time_at
        if ran_out is None or trainer.global_step > ran_out + 1:
            self.out_of_time_at = None
            self._save(trainer, batches=0, finished=True)
            if trainer.is_global_zero:
                self.path.with_name(PREVIOUS).unlink(missing_ok=True)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the place to our own checkpoints; best.ckpt is written elsewhere in the epoch."""
        if self._saving is not None:
            settle(checkpoint, self._saving)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let what is known of best.ckpt name the folder in which the run lies now.

        Lightning forgets the best score of a run that was moved.
        """
        now = str(self.path.parent.resolve())
        for state in checkpoint.get("callbacks", {}).values():
            was = state.get("dirpath") if isinstance(state, dict) else None
            if was is None or Path(was).name != self.path.parent.name:
                continue
            for name, value in state.items():
                if isinstance(value, str):
                    state[name] = _moved(value, was, now)
            best = state.get("best_k_models", {})
            state["best_k_models"] = {_moved(path, was, now): s for path, s in best.items()}

    def _due(self, batch_idx: int, trainer: L.Trainer) -> bool:
        if self.stop.signal is not None or self._out_of_time():
            return True
        since_s = time.monotonic() - self._saved_s
        starts_epoch = batch_idx == 0 and trainer.global_step > 0
        return since_s >= self.checkpoint_s or (
            starts_epoch and self._writing_s <= WRITING_SHARE * since_s
        )

    def _out_of_time(self) -> bool:
        return self.max_s is not None and time.monotonic() - self._started_s >= self.max_s

    def _save(self, trainer: L.Trainer, *, batches: int, finished: bool = False) -> None:
        begun_s = time.monotonic()
        rows = [logger.secure() for logger in trainer.loggers if isinstance(logger, MetricsFile)]
        self._saving = take_point(
            trainer, batches=batches, metric_rows=sum(rows), finished=finished
        )
        try:
            trainer.save_checkpoint(self.path, weights_only=False)
        finally:
            self._saving = None
        self._saved_s = time.monotonic()
        self._writing_s = self._saved_s - begun_s


def _moved(path: str, was: str, now: str) -> str:
    return now + path.removeprefix(was) if path.startswith(was) else path


def _any_process(trainer: L.Trainer, wanted: bool) -> bool:
    """Tell whether any process of the training wants it; all of them get the same answer."""
    if trainer.world_size == 1:
        return wanted
    return bool(trainer.strategy.reduce_boolean_decision(wanted, all=False))

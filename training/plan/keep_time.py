"""Bring a training to its end in the time that is left, when the machine turns out slower."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch.optim.lr_scheduler import OneCycleLR

# An epoch must be this much over the time left to count: seconds come and go.
SLACK = 1.05
# What is kept for the last checkpoint and the end of the process.
END_S = 3.0


class KeepToTime(Callback):
    """Shorten a training at the end of an epoch, so that its schedule still reaches its end.

    A training that is cut off stops at a high learning rate, where weights are still noisy. Here
    the epochs that are left are cut to those that fit, and the schedule passes through its
    remaining part in larger strides: it stays continuous, and ends at its end. A training that
    keeps to its plan is not touched, so its config repeats it bit for bit; one that was shortened
    says so. Schedules other than onecycle are told by recursion and take no strides: they are cut.

    Args:
        deadline_s: on the clock of ``time.monotonic``; infinite for a training that is resumed.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.epoch_started_s = 0.0
        self.slowest_s = 0.0
        self.durations_s: list[float] = []
        self.stride = 1.0
        self.max_epochs: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over the end of a training that was shortened and is resumed."""
        if self.max_epochs is not None:
            trainer.fit_loop.max_epochs = self.max_epochs

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note when the epoch began; the time since the last one's beginning is its whole cost."""
        now_s = time.monotonic()
        if self.epoch_started_s:
            self.durations_s.append(now_s - self.epoch_started_s)
            self._shorten(trainer, now_s)
        self.epoch_started_s = now_s

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Move the schedule on by what the stride has beyond one step."""
        if self.stride == 1.0:
            return
        for config in trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            if isinstance(scheduler, OneCycleLR):
                # The step after the batch is the trainer's own; the last one goes to total - 1.
                # torch says int; its formula takes any number between steps.
                ahead = min(scheduler.last_epoch + self.stride - 1, scheduler.total_steps - 2)
                scheduler.last_epoch = ahead  # type: ignore[assignment]

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training goes on with."""
        return {"stride": self.stride, "max_epochs": self.max_epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the stride of before."""
        self.stride = float(state_dict["stride"])
        self.max_epochs = state_dict["max_epochs"]

    def _shorten(self, trainer: L.Trainer, now_s: float) -> None:
        """Cut ``trainer.max_epochs`` to what fits; ``current_epoch`` is about to begin."""
        planned = trainer.max_epochs
        if planned is None or planned < 0:
            return
        end = self._fitting_end(trainer, planned, now_s)
        if trainer.world_size > 1:
            # Clocks and epochs of processes differ a little; all must stop after the same epoch.
            end = trainer.strategy.broadcast(end)
        if end is None:
            return
        every = trainer.check_val_every_n_epoch or 1
        if end % every:
            trainer.check_val_every_n_epoch = end  # so that the last epoch is validated
        left, fitting = planned - trainer.current_epoch, end - trainer.current_epoch
        self.stride *= left / fitting
        trainer.fit_loop.max_epochs = self.max_epochs = end
        if trainer.is_global_zero:
            epoch_s = self._epoch_s()
            print(
                f"slower than measured ({epoch_s:.1f} s an epoch): {end} epochs instead of "
                f"{planned}, with the rest of the schedule in {fitting}",
                flush=True,
            )

    def _epoch_s(self) -> float:
        # The last few: what another process takes now says more than what it took before.
        recent = self.durations_s[-3:]
        return sum(recent) / len(recent)

    def _fitting_end(self, trainer: L.Trainer, planned: int, now_s: float) -> int | None:
        """Return how many epochs fit in all; None where all that are planned do."""
        epoch_s = self._epoch_s()
        left = planned - trainer.current_epoch
        left_s = self.deadline_s - END_S - now_s
        if left * epoch_s <= left_s * SLACK:
            return None
        fitting = max(1, int(left_s / epoch_s))
        if fitting >= left:
            return None
        every = trainer.check_val_every_n_epoch or 1
        end = trainer.current_epoch + fitting
        whole = end // every * every
        return whole if whole > trainer.current_epoch else end

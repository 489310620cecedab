"""Bring a training to its end in the time that is left, when the machine turns out slower."""

import math
import statistics
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch.optim.lr_scheduler import OneCycleLR

# An epoch must be this much over the time left to count: seconds come and go.
SLACK = 1.05
# Epochs come back where this many times those that are left fit, so that it does not go to and fro.
GAIN = 1.5
# What is kept for the last checkpoint and the end of the process.
END_S = 3.0


class KeepToTime(Callback):
    """Shorten a training at the end of an epoch, so that its schedule still reaches its end.

    A training that is cut off stops at a high learning rate, where weights are still noisy. Here
    the epochs that are left are cut to those that fit, and the schedule passes through its
    remaining part in larger strides: it stays continuous, and ends at its end. When the machine is
    faster again, epochs come back, up to those that were planned, and strides are smaller. A
    training that keeps to its plan is not touched, so its config repeats it bit for bit; one that
    was shortened says so. Schedules other than onecycle are told by recursion and take no strides:
    they are cut.

    Args:
        deadline_s: on the clock of ``time.monotonic``; infinite for a training that is resumed.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.epoch_started_s = 0.0
        self.durations_s: list[float] = []
        self.stride = 1.0
        self.max_epochs: int | None = None
        self.planned_epochs: int | None = None
        self.validated_every: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over the end of a training that was shortened and is resumed."""
        self.planned_epochs = trainer.max_epochs
        self.validated_every = trainer.check_val_every_n_epoch
        if self.max_epochs is not None:
            self._end_after(trainer, self.max_epochs)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note when the epoch began; the time since the last one's beginning is its whole cost."""
        now_s = time.monotonic()
        if self.epoch_started_s:
            self.durations_s.append(now_s - self.epoch_started_s)
            self._keep(trainer, now_s)
        self.epoch_started_s = now_s

    def on_before_optimizer_step(self, trainer: L.Trainer, *_: Any) -> None:
        """Move the schedule on by what the stride has beyond one step of the optimiser."""
        if self.stride == 1.0:
            return
        for config in trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            if isinstance(scheduler, OneCycleLR):
                # The step after this one is the trainer's own; the last one goes to total - 1.
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

    def _keep(self, trainer: L.Trainer, now_s: float) -> None:
        """Set ``trainer.max_epochs`` to what fits; ``current_epoch`` is about to begin."""
        planned = trainer.max_epochs
        if planned is None or planned < 0:
            return
        end = self._fitting_end(trainer, planned, now_s)
        if trainer.world_size > 1:
            # Clocks and epochs of processes differ a little; all must stop after the same epoch.
            end = trainer.strategy.broadcast(end)
        if end is None:
            return
        left, fitting = planned - trainer.current_epoch, end - trainer.current_epoch
        self.stride *= left / fitting
        self._end_after(trainer, end)
        if trainer.is_global_zero:
            found = "slower than measured" if end < planned else "faster again"
            print(
                f"{found} ({self._epoch_s():.1f} s an epoch): {end} epochs instead of "
                f"{planned}, with the rest of the schedule in {fitting}",
                flush=True,
            )

    def _end_after(self, trainer: L.Trainer, end: int) -> None:
        trainer.fit_loop.max_epochs = self.max_epochs = end
        # The last epoch is validated.
        trainer.check_val_every_n_epoch = self.validated_every if end % self._every == 0 else end

    @property
    def _every(self) -> int:
        return self.validated_every or 1

    def _epoch_s(self) -> float:
        # The last few: what another process takes now says more than what it took before. Their
        # median, because one slow epoch is a burst.
        return statistics.median(self.durations_s[-3:])

    def _fitting_end(self, trainer: L.Trainer, planned: int, now_s: float) -> int | None:
        """Return after which epoch to end; None where that stays as it is."""
        left_s = self.deadline_s - END_S - now_s
        if math.isinf(left_s):
            return None
        epoch_s = self._epoch_s()
        left = planned - trainer.current_epoch
        at_first = (self.planned_epochs or planned) - trainer.current_epoch
        fitting = min(max(1, int(left_s / epoch_s)), at_first)
        late, early = left * epoch_s > left_s * SLACK, fitting > left * GAIN
        if not (late or early):
            return None
        end = trainer.current_epoch + fitting
        whole = end // self._every * self._every
        end = whole if whole > trainer.current_epoch else end
        return end if (end < planned if late else end > planned) else None

"""A training that turns out slower is shortened, and its schedule still reaches its end."""

import warnings
from itertools import pairwise

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from training.plan import keep_time
from training.plan.keep_time import END_S, KeepToTime

EPOCHS, STEPS, LR = 12, 5, 0.1


class OneWeight(L.LightningModule):
    """A real training of one number, which notes the rate of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.rates: list[float] = []

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        loss: torch.Tensor = (self.weight * batch[0]).square().mean()
        return loss

    def configure_optimizers(self) -> dict[str, object]:
        optimiser = torch.optim.AdamW(self.parameters(), lr=LR)
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=total)
        scheduler = {"scheduler": schedule, "interval": "step"}
        return {"optimizer": optimiser, "lr_scheduler": scheduler}


def train(
    monkeypatch: pytest.MonkeyPatch,
    *,
    epoch_s: float | list[float],
    limit_s: float,
    accumulate: int = 1,
) -> OneWeight:
    """Train 12 epochs of 5 steps on a clock that stands still but for ``epoch_s`` an epoch.

    Of a list, the first epochs take what it says, and the others what its last one does.
    """
    module = OneWeight()

    class Clock(L.Callback):
        now_s = 1000.0

        def on_train_epoch_end(self, trainer: L.Trainer, *_: object) -> None:
            took = [epoch_s] if isinstance(epoch_s, float) else epoch_s
            Clock.now_s += took[min(trainer.current_epoch, len(took) - 1)]

    monkeypatch.setattr(keep_time.time, "monotonic", lambda: Clock.now_s)
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Clock(), KeepToTime(1000.0 + limit_s + END_S)],
    )
    data = TensorDataset(torch.ones(STEPS * accumulate, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers
        trainer.fit(module, DataLoader(data, batch_size=1))
    return module


def test_a_training_in_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = train(monkeypatch, epoch_s=1.0, limit_s=EPOCHS)
    assert len(module.rates) == EPOCHS * STEPS


def test_a_slow_one_ends_in_time_and_at_the_end_of_its_schedule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = train(monkeypatch, epoch_s=1.0, limit_s=EPOCHS).rates
    # Each epoch takes twice what was planned: 6 of 12 fit.
    rates = train(monkeypatch, epoch_s=2.0, limit_s=EPOCHS).rates
    assert len(rates) == 6 * STEPS
    assert rates[:STEPS] == whole[:STEPS]  # nothing was known yet
    assert max(rates) == pytest.approx(LR, rel=0.05)  # it still went through its summit
    assert rates[-1] < 0.03 * LR
    # No jump: a step moves the rate by no more than a few of the whole schedule's steps do.
    largest = max(abs(b - a) for a, b in pairwise(whole))
    assert max(abs(b - a) for a, b in pairwise(rates)) < 3.5 * largest


def test_batches_of_one_update_take_one_stride_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = train(monkeypatch, epoch_s=2.0, limit_s=EPOCHS).rates
    accumulated = train(monkeypatch, epoch_s=2.0, limit_s=EPOCHS, accumulate=3).rates
    assert accumulated[::3] == pytest.approx(rates)


def test_one_slow_epoch_among_others_shortens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = train(monkeypatch, epoch_s=[1.0, 1.0, 3.0, 1.0], limit_s=EPOCHS + 2).rates
    assert len(rates) == EPOCHS * STEPS


def test_a_machine_that_is_faster_again_gives_epochs_back(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(monkeypatch, epoch_s=1.0, limit_s=EPOCHS).rates
    assert len(train(monkeypatch, epoch_s=3.0, limit_s=EPOCHS).rates) == 4 * STEPS
    rates = train(monkeypatch, epoch_s=[3.0, 0.5], limit_s=EPOCHS).rates
    assert len(rates) == EPOCHS * STEPS  # not more than were planned
    assert rates[-1] < 0.03 * LR
    largest = max(abs(b - a) for a, b in pairwise(whole))
    assert max(abs(b - a) for a, b in pairwise(rates)) < 4 * largest


def test_it_is_remembered_over_a_resume() -> None:
    stopped = KeepToTime(0.0)
    stopped.stride, stopped.max_epochs = 2.5, 7
    resumed = KeepToTime(1e9)
    resumed.load_state_dict(stopped.state_dict())
    assert (resumed.stride, resumed.max_epochs) == (2.5, 7)

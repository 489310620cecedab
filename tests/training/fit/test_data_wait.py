from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from training.data import loader
from training.fit import data_wait
from training.fit.data_wait import LEAST_STEPS, DataWait


class Clock:
    """Stands in for ``time``: it goes on where somebody spends time, and nowhere else."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s


class Slow(Dataset[Any]):
    """Samples that take a given time to load."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds

    def __len__(self) -> int:
        return LEAST_STEPS + 1  # the first step does not count

    def __getitem__(self, index: int) -> Tensor:
        self.clock.now_s += self.seconds
        return torch.ones(1)


class Steady(L.LightningModule):
    """A module whose step takes a given time, and what comes between epochs a long one."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.clock = clock
        self.seconds = seconds
        self.shares: list[float] = []

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        self.clock.now_s += self.seconds
        loss: Tensor = self.layer(batch).sum()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def on_train_epoch_start(self) -> None:
        self.clock.now_s += 1000
        share = self.trainer.callback_metrics.get("data_wait_share")
        if share is not None:
            self.shares.append(float(share))


def train(monkeypatch: pytest.MonkeyPatch, *, loading_s: float, stepping_s: float) -> list[float]:
    clock = Clock()
    monkeypatch.setattr(loader, "time", clock)
    monkeypatch.setattr(data_wait, "time", clock)
    module = Steady(clock, stepping_s)
    trainer = L.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[DataWait()],
    )
    batches = loader.TimedLoader(Slow(clock, loading_s), batch_size=1)  # type: ignore[arg-type]
    trainer.fit(module, batches)
    return module.shares


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_a_loader_slower_than_the_net_is_measured_and_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(monkeypatch, loading_s=3, stepping_s=1) == pytest.approx([0.75] * 3)
    said = capsys.readouterr().err
    assert said.count("the net waited for data 75% of epoch 2") == 1
    assert said.count("the net waited for data") == 1
    assert "--data.workers" in said


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_a_loader_that_keeps_up_is_not_spoken_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(monkeypatch, loading_s=1, stepping_s=19) == pytest.approx([0.05] * 3)
    assert "waited" not in capsys.readouterr().err

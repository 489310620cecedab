"""A training that is killed again and again ends as if nothing had happened, bit for bit."""

import csv
import multiprocessing
import os
import random
import signal
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch

from training.fit.checkpoint import read_whole

pytestmark = pytest.mark.slow

SETTINGS = (
    "--net.widths=[4,6]",
    "--net.dropout=0.3",  # draws from torch's own generator at each step
    "--data.patch=[32,32]",
    "--data.batch_size=2",
    "--data.patches_per_image=1",
    "--trainer.max_epochs=4",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accumulate_grad_batches=2",
    "--trainer.log_every_n_steps=1",
    "--trainer.accelerator=cpu",
    "--trainer.callbacks+=EarlyStopping",
    "--trainer.callbacks.monitor=val/dice",
    "--trainer.callbacks.mode=max",
    "--trainer.callbacks.patience=2",
)
BATCHES = 7  # of one epoch: 14 training images, 2 in each
STEPS = 4  # of one epoch: 2 batches each, the last has one
TIMED = ("data_wait_share",)  # no two runs have the same


def train(arguments: Sequence[str], dies_at: int | None, while_writing: bool) -> None:
    """Run the command in this process; SIGKILL ends it in the batch ``dies_at`` of the run."""
    from training.__main__ import main
    from training.fit import atomic
    from training.fit.module import SegmentationModule

    torch.set_num_threads(1)
    # The loader's workers too must not import torch again.
    multiprocessing.set_start_method("fork", force=True)
    step = SegmentationModule.training_step
    sync = os.fsync
    now = 0

    def killed_step(self: SegmentationModule, batch: dict[str, Any], index: int) -> torch.Tensor:
        nonlocal now
        loss = step(self, batch, index)
        now = self.trainer.current_epoch * BATCHES + index
        if now == dies_at and not while_writing:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

    def killed_sync(handle: int) -> None:
        if dies_at is not None and now >= dies_at and while_writing:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(handle)

    SegmentationModule.training_step = killed_step  # type: ignore[method-assign]
    atomic.os.fsync = killed_sync  # type: ignore[assignment]
    raise SystemExit(main(list(arguments)))


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Return what starts processes of their own that need not import torch again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.fit.command", "pytest"])
    return context


def run(
    processes: ForkServerContext,
    *arguments: str,
    dies_at: int | None = None,
    while_writing: bool = False,
) -> int:
    process = processes.Process(target=train, args=(arguments, dies_at, while_writing))
    process.start()
    process.join(timeout=200)
    assert process.exitcode is not None
    return process.exitcode


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "logs" / "metrics.csv").open() as file:
        rows = [
            {name: cell for name, cell in row.items() if cell != "" and name not in TIMED}
            for row in csv.DictReader(file)
        ]
    return rows


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def scalars(run: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "logs"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.fixture(scope="module")
def unbroken(
    processes: ForkServerContext, phantoms: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    options = (f"--data.root={phantoms}", f"--out={out}", "--data.workers=0", *SETTINGS)
    assert run(processes, "fit", *options) == 0
    return out


@pytest.mark.parametrize(
    ("workers", "minutes"),
    [(0, 0), (2, 0.002)],
    ids=["alone, a checkpoint each step", "two workers, a checkpoint now and then"],
)
def test_killed_at_random_steps_it_gives_the_unbroken_runs_weights(
    processes: ForkServerContext,
    phantoms: Path,
    unbroken: Path,
    tmp_path: Path,
    workers: int,
    minutes: float,
) -> None:
    out = tmp_path / "run"
    first = (
        f"--data.root={phantoms}",
        f"--out={out}",
        *SETTINGS,
        f"--data.workers={workers}",
        f"--checkpoint-minutes={minutes}",
    )
    steps = read_whole(unbroken / "checkpoints" / "last.ckpt")["global_step"]
    # Not in the first epoch's first steps, so that there is a checkpoint to go on from.
    kills = sorted(random.Random(workers).sample(range(3, steps // STEPS * BATCHES - 2), 3))
    command: tuple[str, ...] = first
    for number, batch in enumerate(kills):
        while_writing = number == 1
        code = run(processes, "fit", *command, dies_at=batch, while_writing=while_writing)
        assert code == -signal.SIGKILL, f"kill {number} in batch {batch}"
        command = (f"--resume={out}",)
    assert run(processes, "fit", f"--resume={out}") == 0

    for name in ("last.ckpt", "best.ckpt"):
        ended, expected = (read_whole(r / "checkpoints" / name) for r in (out, unbroken))
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
            assert same(ended[key], expected[key]), f"{name}: {key}"
        for key, state in expected["callbacks"].items():
            if key.startswith("EarlyStopping"):
                assert same(ended["callbacks"][key], state)
            if key.startswith("ModelCheckpoint"):
                assert ended["callbacks"][key]["best_model_score"] == state["best_model_score"]
    assert metrics(out) == metrics(unbroken)
    assert (out / "validation.csv").read_bytes() == (unbroken / "validation.csv").read_bytes()
    for tag in ("train/loss_step", "val/dice"):
        assert scalars(out, tag) == scalars(unbroken, tag)
    assert not list(out.rglob("*.part"))


def test_the_unbroken_run_logged_every_step_once(unbroken: Path) -> None:
    # Otherwise the comparison above would compare nothing.
    rows = metrics(unbroken)
    steps = [int(row["step"]) for row in rows if "train/loss_step" in row]
    assert steps == list(range(len(steps)))
    assert len(steps) >= 2 * STEPS
    assert sum("val/dice" in row for row in rows) == len(steps) / STEPS

"""A training that is killed again and again ends as if nothing had happened, bit for bit."""

import csv
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch

from training.fit.checkpoint import read_whole

# The first process imports torch anew, which takes a minute on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = (
    "--net.widths=[4,6]",
    "--net.dropout=0.3",  # draws from torch's own generator at each step
    "--data.patch=[32,32]",
    "--data.batch_size=2",
    "--data.rare_share=1.0",  # images are drawn unevenly
    "--data.patches_per_image=1",
    "--optimiser.ema_decay=0.9",
    "--trainer.max_epochs=4",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accumulate_grad_batches=2",
    "--trainer.log_every_n_steps=1",
    "--channels-last=true",
    "--trainer.accelerator=cpu",
    "--trainer.precision=32-true",
    "--trainer.callbacks+=EarlyStopping",
    "--trainer.callbacks.monitor=val/dice",
    "--trainer.callbacks.mode=max",
    "--trainer.callbacks.patience=2",
)
BATCHES = 7  # of one epoch: 14 training images, 2 in each
STEPS = 4  # of one epoch: 2 batches each, the last has one
TIMED = ("data_wait_share",)  # no two runs have the same
SIGNALS = {
    "killed": signal.SIGKILL,
    "interrupted": signal.SIGINT,
    "terminated": signal.SIGTERM,
    "preempted": signal.SIGUSR1,
}


def train(arguments: Sequence[str], batch: int | None, happens: str, said: str) -> None:
    """Run the command in this process; in the batch ``batch`` of the run something happens."""
    from training.__main__ import main
    from training.fit import atomic
    from training.fit.module import SegmentationModule

    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    torch.set_num_threads(1)
    # The loader's workers too must not import torch again.
    multiprocessing.set_start_method("fork", force=True)
    step = SegmentationModule.training_step
    sync = os.fsync
    now = 0

    def eventful_step(self: SegmentationModule, of_batch: dict[str, Any], index: int) -> Any:
        nonlocal now
        loss = step(self, of_batch, index)
        now = self.trainer.current_epoch * BATCHES + index
        if now == batch and happens in SIGNALS:
            os.kill(os.getpid(), SIGNALS[happens])
        if now == batch and happens == "disk full":
            # No file may grow beyond a part of a checkpoint from here on.
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        return loss

    def killed_sync(handle: int) -> None:
        if batch is not None and now >= batch and happens == "killed while writing":
            os.kill(os.getpid(), signal.SIGKILL)
        sync(handle)

    SegmentationModule.training_step = eventful_step  # type: ignore[method-assign]
    atomic.os.fsync = killed_sync  # type: ignore[assignment]
    raise SystemExit(main(list(arguments)))


def run(
    processes: ForkServerContext,
    said: Path,
    *arguments: str,
    batch: int | None = None,
    happens: str = "nothing",
) -> tuple[int, str]:
    """Return the exit code and what was printed."""
    process = processes.Process(target=train, args=(arguments, batch, happens, str(said)))
    process.start()
    process.join(timeout=400)
    assert process.exitcode is not None
    return process.exitcode, said.read_text()


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "logs" / "metrics.csv").open() as file:
        return [
            {name: cell for name, cell in row.items() if cell != "" and name not in TIMED}
            for row in csv.DictReader(file)
        ]


def scalars(run: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "logs"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def assert_as_unbroken(ended_run: Path, unbroken: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        ended, expected = (read_whole(r / "checkpoints" / name) for r in (ended_run, unbroken))
        for key in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
            assert same(ended[key], expected[key]), f"{name}: {key}"
        assert (ended["global_step"], ended["epoch"]) == (
            expected["global_step"],
            expected["epoch"],
        )
        for key, state in expected["callbacks"].items():
            if key.startswith("EarlyStopping"):
                assert same(ended["callbacks"][key], state)
            if key.startswith("ModelCheckpoint"):
                assert ended["callbacks"][key]["best_model_score"] == state["best_model_score"]
    assert metrics(ended_run) == metrics(unbroken)
    for tag in ("train/loss_step", "val/dice"):
        assert scalars(ended_run, tag) == scalars(unbroken, tag)
    scored = [(r / "validation.csv").read_bytes() for r in (ended_run, unbroken)]
    assert scored[0] == scored[1]
    assert not list(ended_run.rglob("*.part"))
    assert not list(ended_run.rglob("previous.ckpt"))


@pytest.fixture(scope="module")
def options(phantoms: Path) -> tuple[str, ...]:
    return ("fit", f"--data.root={phantoms}", *SETTINGS)


@pytest.fixture(scope="module")
def unbroken(
    processes: ForkServerContext,
    options: tuple[str, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    code, said = run(
        processes, folder / "said", *options, f"--out={folder / 'run'}", "--data.workers=0"
    )
    assert code == 0, said
    return folder / "run"


def test_the_unbroken_run_logged_every_step_once(unbroken: Path) -> None:
    # Otherwise the comparisons below would compare nothing.
    rows = metrics(unbroken)
    steps = [int(row["step"]) for row in rows if "train/loss_step" in row]
    assert steps == list(range(len(steps)))
    assert len(steps) >= 2 * STEPS
    assert sum("val/dice" in row for row in rows) == len(steps) / STEPS


@pytest.mark.parametrize(
    ("workers", "minutes"),
    [(0, 0), (2, 0.002)],
    ids=["alone, a checkpoint each step", "two workers, a checkpoint now and then"],
)
def test_killed_at_random_steps_it_gives_the_unbroken_runs_weights(
    processes: ForkServerContext,
    options: tuple[str, ...],
    unbroken: Path,
    tmp_path: Path,
    workers: int,
    minutes: float,
) -> None:
    out = tmp_path / "run"
    command = (
        *(*options, f"--out={out}"),
        *(f"--data.workers={workers}", f"--checkpoint-minutes={minutes}"),
    )
    steps = read_whole(unbroken / "checkpoints" / "last.ckpt")["global_step"]
    # Not in the first epoch's first steps, so that there is a checkpoint to go on from.
    kills = sorted(random.Random(workers).sample(range(3, steps // STEPS * BATCHES - 2), 3))
    for number, batch in enumerate(kills):
        happens = "killed while writing" if number == 1 else "killed"
        code, said = run(processes, tmp_path / "said", *command, batch=batch, happens=happens)
        assert code == -signal.SIGKILL, f"kill {number} in batch {batch}: {said}"
        command = ("fit", f"--resume={out}")
    code, said = run(processes, tmp_path / "said", *command)
    assert code == 0, said
    assert_as_unbroken(out, unbroken)
    before = (out / "checkpoints" / "last.ckpt").read_bytes()
    code, said = run(processes, tmp_path / "said", *command)
    assert code == 0
    assert "trained to its end" in said
    assert (out / "checkpoints" / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize("happens", ["interrupted", "terminated"])
def test_asked_to_stop_in_the_first_epoch_it_keeps_every_step(
    processes: ForkServerContext,
    options: tuple[str, ...],
    unbroken: Path,
    tmp_path: Path,
    happens: str,
) -> None:
    out = tmp_path / "run"
    command = (*options, f"--out={out}", "--data.workers=0")
    code, said = run(processes, tmp_path / "said", *command, batch=2, happens=happens)
    assert code == (130 if happens == "interrupted" else 128 + signal.SIGTERM)
    assert f"--resume {out}" in said
    assert "every step was kept" in said
    assert "Traceback" not in said
    # Batches 2 and 3 make one step, and the next begins after them.
    assert read_whole(out / "checkpoints" / "last.ckpt")["global_step"] == 2
    code, said = run(processes, tmp_path / "said", "fit", f"--resume={out}")
    assert code == 0, said
    assert_as_unbroken(out, unbroken)


def test_a_preempted_slurm_job_is_requeued_and_goes_on(
    processes: ForkServerContext,
    options: tuple[str, ...],
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What SLURM gives a task, and a scontrol that notes what it is asked.
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    slurm = {
        "PATH": f"{scontrol.parent}:{os.environ['PATH']}",
        **{"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "4711"},
        **{"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"},
        "SLURM_JOB_NODELIST": "localhost",
    }
    out = tmp_path / "run"
    command = (*options, f"--out={out}", "--data.workers=0")

    def job(restarts: str, **what: Any) -> tuple[int, str]:
        process = processes.Process(
            target=train_in,
            args=(
                {**slurm, "SLURM_RESTART_COUNT": restarts},
                *(command, what.get("batch"), what.get("happens", "nothing")),
                str(tmp_path / "said"),
            ),
        )
        process.start()
        process.join(timeout=400)
        return process.exitcode or 0, (tmp_path / "said").read_text()

    _, said = job("0", batch=4, happens="preempted")
    assert (tmp_path / "asked").read_text() == "requeue 4711\n", said
    assert "job 4711 is requeued" in said
    # SLURM runs the very same command again.
    code, said = job("1")
    assert code == 0, said
    assert_as_unbroken(out, unbroken)


def train_in(environment: dict[str, str], *arguments: Any) -> None:
    os.environ.update(environment)
    train(*arguments)


def test_a_full_disk_stops_it_in_plain_words_with_the_last_checkpoint_whole(
    processes: ForkServerContext, options: tuple[str, ...], unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = (*options, f"--out={out}", "--data.workers=0", "--checkpoint-minutes=0")
    code, said = run(processes, tmp_path / "said", *command, batch=9, happens="disk full")
    assert code == 1
    assert "last.ckpt cannot be written (File too large); last.ckpt from before is whole" in said
    assert f"--resume {out}" in said
    assert "Traceback" not in said
    assert not list(out.rglob("*.part"))
    code, said = run(processes, tmp_path / "said", "fit", f"--resume={out}")
    assert code == 0, said
    assert_as_unbroken(out, unbroken)


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_from_a_damaged_last_checkpoint_it_goes_back_to_the_one_before_and_says_so(
    processes: ForkServerContext,
    stopped: Path,
    unbroken: Path,
    tmp_path: Path,
    damage: str,
) -> None:
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    last = out / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    if damage == "gone":
        last.unlink()  # killed between the two renames
    elif damage == "cut":
        last.write_bytes(whole[: len(whole) // 2])
    else:
        middle = len(whole) // 2
        last.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    code, said = run(processes, tmp_path / "said", "fit", f"--resume={out}")
    assert code == 0, said
    noted = "last.ckpt is not whole; going on from previous.ckpt, written at step 5" in said
    assert noted == (damage != "gone")
    for name in ("last.ckpt", "best.ckpt"):
        ended, expected = (read_whole(r / "checkpoints" / name) for r in (out, unbroken))
        assert same(ended["state_dict"], expected["state_dict"])
    assert metrics(out) == metrics(unbroken)


def test_two_damaged_checkpoints_are_refused_with_a_remedy(
    processes: ForkServerContext, stopped: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    for name in ("last.ckpt", "previous.ckpt"):
        (out / "checkpoints" / name).write_bytes(b"PK")
    code, said = run(processes, tmp_path / "said", "fit", f"--resume={out}")
    assert code == 1
    assert "last.ckpt and previous.ckpt" in said
    assert "--init-from" in said


@pytest.fixture(scope="module")
def stopped(
    processes: ForkServerContext,
    options: tuple[str, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a run that was killed in its second epoch, with a checkpoint of each step."""
    folder = tmp_path_factory.mktemp("stopped")
    command = (*options, f"--out={folder / 'run'}", "--data.workers=0", "--checkpoint-minutes=0")
    code, _ = run(processes, folder / "said", *command, batch=11, happens="killed")
    assert code == -signal.SIGKILL
    assert read_whole(folder / "run" / "checkpoints" / "last.ckpt")["global_step"] == 6
    return folder / "run"

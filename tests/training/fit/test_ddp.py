"""Several processes train one run: as one process with all of their batches would."""

import os
import socket
import subprocess
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch

from training.fit.checkpoint import read_whole
from training.fit.loss_terms import OverlapTerm, PixelTerm

# Each start of a process imports torch anew, which takes a minute on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = (
    "--net.widths=[4,6]",
    "--net.norm=instance",  # batch norm sees its own process's batch only
    "--loss.kind=dice_ce",
    "--data.patch=[32,32]",
    "--data.workers=0",
    "--data.patches_per_image=1",
    "--optimiser.kind=sgd",  # AdamW would divide rounding by rounding where gradients vanish
    "--optimiser.lr=0.05",
    "--trainer.max_epochs=2",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accumulate_grad_batches=1",
    "--trainer.precision=32-true",
    "--trainer.accelerator=cpu",
    "--normalising=image",
)


def train_alone(arguments: tuple[str, ...]) -> None:
    from training.__main__ import main

    torch.set_num_threads(1)
    raise SystemExit(main(arguments))


@pytest.fixture(scope="module")
def alone(
    processes: ForkServerContext, phantoms: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the run of one process with batches of 4."""
    out = tmp_path_factory.mktemp("alone") / "run"
    options = (f"--data.root={phantoms}", f"--out={out}", "--data.batch_size=4", *SETTINGS)
    process = processes.Process(target=train_alone, args=(("fit", *options),))
    process.start()
    process.join(timeout=400)
    assert process.exitcode == 0
    return out


def assert_same_run(run: Path, expected: Path) -> None:
    ended, wanted = (read_whole(r / "checkpoints" / "last.ckpt") for r in (run, expected))
    # 14 images: three batches of 4, in each of two epochs.
    assert ended["global_step"] == wanted["global_step"] == 6
    for name, weight in wanted["state_dict"].items():
        torch.testing.assert_close(ended["state_dict"][name], weight, rtol=1e-4, atol=1e-5)
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert (run / "validation.csv").read_text().count("\n") == 1 + 2 * 3


def test_two_processes_are_one_with_twice_the_batch(
    phantoms: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "training", "fit", f"--data.root={phantoms}", f"--out={out}"]
    devices = ("--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=2")
    done = subprocess.run(
        [*command, *SETTINGS, *devices],
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("run directory") == done.stdout.count("epoch 1/2") == 1
    assert_same_run(out, alone)


def test_torchrun_starts_the_same_fit_on_two_nodes(
    phantoms: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nodes = []
    for node in range(2):
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"),
            *(f"--node-rank={node}", "--master-addr=127.0.0.1", f"--master-port={port}"),
            *("-m", "training", "fit", f"--data.root={phantoms}", f"--out={out}", *SETTINGS),
            *("--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp"),
            "--data.batch_size=2",
        ]
        nodes.append(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            )
        )
    said = [node.communicate(timeout=560)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)[-3000:]
    assert "".join(said).count("epoch 1/2") == 1
    assert_same_run(out, alone)


def loss_of_part(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    logits, one_hot, valid = batch()
    part = slice(0, 3) if rank == 0 else slice(3, 4)
    logits.requires_grad_()
    for number, term in enumerate(terms()):
        loss = term(logits[part], one_hot[part], valid[part])
        (gradient,) = torch.autograd.grad(loss, logits)
        torch.distributed.all_reduce(gradient)
        torch.save((gradient / 2, loss.detach()), f"{folder}/{rank}-{number}.pt")
    torch.distributed.destroy_process_group()


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 3, 8, 8, generator=drawn, dtype=torch.float32)
    labels = torch.randint(0, 3, (4, 8, 8), generator=drawn)
    valid = (torch.rand(4, 1, 8, 8, generator=drawn) < 0.6).float()
    valid[3, :, :5] = 0  # much of the second process's part is ignored
    one_hot = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float() * valid
    return logits, one_hot, valid


def terms() -> tuple[torch.nn.Module, ...]:
    return (
        OverlapTerm(
            task="multiclass", alpha=0.3, beta=0.7, smooth_px=1.0, include_background=False
        ),
        PixelTerm(task="multiclass", gamma=2.0, class_weights=torch.tensor([1.0, 2.0, 3.0])),
    )


def test_the_loss_of_uneven_parts_is_that_of_the_whole(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    parts = [
        processes.Process(target=loss_of_part, args=(rank, port, str(tmp_path)))
        for rank in range(2)
    ]
    for part in parts:
        part.start()
    for part in parts:
        part.join(timeout=400)
        assert part.exitcode == 0
    logits, one_hot, valid = batch()
    logits.requires_grad_()
    for number, term in enumerate(terms()):
        whole = term(logits, one_hot, valid)
        (expected,) = torch.autograd.grad(whole, logits)
        losses = []
        for rank in range(2):
            averaged, loss = torch.load(tmp_path / f"{rank}-{number}.pt")
            torch.testing.assert_close(averaged, expected)
            losses.append(loss)
        torch.testing.assert_close(torch.stack(losses).mean(), whole.detach())

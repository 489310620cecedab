"""Options that make training faster do so without breaking it: one epoch each, for real."""

import csv
import math
from pathlib import Path

import pytest
import torch

from training.__main__ import main
from training.fit.checkpoint import load_graph

pytestmark = pytest.mark.slow

SETTINGS = (
    "--net.widths=[4,6]",
    "--data.patch=[32,32]",
    "--data.batch_size=2",
    "--data.workers=0",
    "--data.patches_per_image=1",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.accumulate_grad_batches=1",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.enable_progress_bar=false",
)


def trained(phantoms: Path, out: Path, *options: str) -> tuple[float, torch.nn.Module]:
    """Return the mean loss of two steps, and the graph as its checkpoint gives it."""
    assert main(["fit", f"--data.root={phantoms}", f"--out={out}", *SETTINGS, *options]) == 0
    with (out / "logs" / "metrics.csv").open() as file:
        losses = [row["train/loss_epoch"] for row in csv.DictReader(file)]
    return float(next(filter(None, losses))), load_graph(out / "checkpoints" / "last.ckpt")[1]


@pytest.fixture(scope="module")
def plain_loss(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    out = tmp_path_factory.mktemp("plain") / "run"
    return trained(phantoms, out, "--trainer.precision=32-true")[0]


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        (("--channels-last=true", "--trainer.precision=32-true"), 1e-4),
        (("--trainer.precision=bf16-mixed",), 0.05),
        (("--channels-last=true", "--trainer.precision=bf16-mixed"), 0.05),
        (("--compile=true", "--trainer.precision=32-true"), 1e-4),
    ],
    ids=["channels last", "bf16", "channels last, bf16", "compiled"],
)
def test_the_loss_is_that_of_plain_training(
    phantoms: Path, plain_loss: float, tmp_path: Path, options: tuple[str, ...], tolerance: float
) -> None:
    loss, graph = trained(phantoms, tmp_path / "run", *options)
    assert math.isfinite(loss)
    assert loss == pytest.approx(plain_loss, rel=tolerance)
    # The checkpoint names its tensors as always, so that it can be exported.
    with torch.no_grad():
        labels, _ = graph(torch.rand(1, 1, 33, 47))
    assert labels.shape == (1, 33, 47)

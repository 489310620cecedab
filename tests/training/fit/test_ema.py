"""Averaged weights and deep supervision in a real training, broken off and gone on with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from training.__main__ import main
from training.fit.checkpoint import load_graph
from training.fit.config import OptimiserConfig
from training.fit.ema import rising_average
from training.fit.module import SegmentationModule

SETTINGS = (
    "--net.widths=[4,6,8]",
    "--net.dropout=0.2",
    "--data.patch=[32,32]",
    "--data.batch_size=4",
    "--data.workers=0",
    "--trainer.max_epochs=3",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accelerator=cpu",
    "--trainer.precision=32-true",
    "--trainer.accumulate_grad_batches=1",
    "--optimiser.lr=0.01",
    "--checkpoint-minutes=0",
)
STRONGER = ("--optimiser.ema_decay=0.9", "--loss.deep_supervision=true")
KILLED_AT = 5  # a step in the middle of the second epoch: 14 training images, 4 in each


def test_the_average_rises_to_its_decay() -> None:
    """By hand: the first weights are the first average; then 2/11, 3/12 … up to the decay."""
    net = nn.Linear(1, 1, bias=False)
    averaged = AveragedModel(net, avg_fn=rising_average(0.25))
    expected = 0.0
    for step in range(6):
        net.weight.data.fill_(float(step + 1))
        averaged.update_parameters(net)
        decay = 0.0 if step == 0 else min(0.25, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
        assert averaged.module.get_parameter("weight").item() == pytest.approx(expected)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1])
def test_a_decay_that_averages_nothing_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="ema_decay must be in"):
        OptimiserConfig(ema_decay=decay)


def stored(run: Path, name: str) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(run / "checkpoints" / name, weights_only=False)
    return checkpoint


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


@pytest.fixture(scope="module")
def unbroken(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stronger") / "unbroken"
    assert main(["fit", f"--data.root={phantoms}", f"--out={out}", *SETTINGS, *STRONGER]) == 0
    return out


@pytest.mark.slow
def test_a_training_that_was_broken_off_ends_with_the_same_averages(
    phantoms: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "broken"
    whole_step = SegmentationModule.training_step

    def step(self: SegmentationModule, batch: dict[str, Any], index: int) -> Tensor:
        if self.trainer.global_step == KILLED_AT:
            raise RuntimeError("the machine went away")
        return whole_step(self, batch, index)

    with monkeypatch.context() as broken:
        broken.setattr(SegmentationModule, "training_step", step)
        with pytest.raises(RuntimeError, match="went away"):
            main(["fit", f"--data.root={phantoms}", f"--out={out}", *SETTINGS, *STRONGER])
    assert stored(out, "last.ckpt")["global_step"] == KILLED_AT
    assert main(["fit", f"--resume={out}"]) == 0
    for name in ("last.ckpt", "best.ckpt"):
        gone_on, whole = stored(out, name), stored(unbroken, name)
        assert gone_on["global_step"] == whole["global_step"]
        for part in ("state_dict", "current_model_state", "averaging_state"):
            assert equal(gone_on[part], whole[part]), f"{name}: {part} differs"


@pytest.mark.slow
def test_the_averages_are_what_is_read_and_exported(unbroken: Path) -> None:
    checkpoint = stored(unbroken, "last.ckpt")
    averages, weights = checkpoint["state_dict"], checkpoint["current_model_state"]
    _, graph = load_graph(unbroken / "checkpoints" / "last.ckpt")
    head = graph.state_dict()["net.head.weight"]
    assert torch.equal(head, averages["graph.net.head.weight"])
    assert not torch.equal(head, weights["graph.net.head.weight"])


@pytest.mark.slow
def test_deep_supervision_leaves_the_exported_graph_as_it_is(unbroken: Path) -> None:
    checkpoint = stored(unbroken, "last.ckpt")
    assert "deep.heads.0.weight" in checkpoint["state_dict"]
    description, graph = load_graph(unbroken / "checkpoints" / "last.ckpt")
    plain = description.build_graph().eval()
    assert graph.state_dict().keys() == plain.state_dict().keys()
    # The same layers in the same places, so what is traced from them is the same.
    assert repr(graph) == repr(plain)

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training.fit.losses import LossConfig, build_loss
from training.nets.config import NetConfig
from training.probe.backward import fresh, phantom_batch
from training.probe.gradient_flow import draw_gradient_flow, gradient_flow, profile
from training.probe.gradient_table import gradient_table

NET = NetConfig(widths=(4, 6), dropout=0.2)
LOSS = build_loss(LossConfig(), task="multiclass", classes=2)


class Scaled(nn.Module):
    """The loss times a number, so that every gradient is that many times as large."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        scaled: Tensor = LOSS(logits, mask) * self.factor
        return scaled


def test_each_layer_has_the_norms_that_a_backward_pass_gives() -> None:
    graph = fresh(NET)
    batch = phantom_batch(count=2, side_px=32)
    torch.manual_seed(3)
    rows = gradient_flow(graph, LOSS, batch)
    torch.manual_seed(3)  # the same channels are dropped
    graph.train()
    LOSS(graph.logits(batch["image"]), batch["mask"]).backward()
    assert [row.layer for row in rows] == [
        "encoder.0.0.0", "encoder.0.0.3", "bottleneck.0.0", "bottleneck.0.3",
        "ups.0.narrow", "decoder.0.0.0", "decoder.0.0.3", "head",
    ]  # fmt: skip
    for row in rows:
        weight = graph.net.get_submodule(row.layer).get_parameter("weight")
        assert weight.grad is not None
        assert row.gradient_norm == pytest.approx(float(weight.grad.norm()), rel=1e-5)
        assert row.weight_norm == pytest.approx(float(weight.detach().norm()), rel=1e-5)
        assert row.gradient_per_weight == pytest.approx(row.gradient_norm / row.weight_norm)
        assert row.update_per_weight is None
    seen = profile(rows)
    assert seen.convs == 6
    assert seen.first == rows[0].gradient_norm
    assert seen.centre == rows[3].gradient_norm  # of the bottleneck
    assert seen.last == rows[6].gradient_norm  # the head is a pixel wide


def test_looking_leaves_no_trace() -> None:
    graph = fresh(NET).eval()
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    generator = torch.get_rng_state()
    gradient_flow(graph, LOSS, phantom_batch(count=2, side_px=32))
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(parameter.grad is None for parameter in graph.parameters())
    assert not any(module.training for module in graph.modules())


def test_a_small_gradient_is_a_number_and_an_underflow_is_zero() -> None:
    batch = phantom_batch(count=2, side_px=32)
    graph = fresh(NetConfig(widths=(4, 6)))
    usual, small, none = (
        gradient_flow(graph, Scaled(factor), batch) for factor in (1.0, 2.0**-90, 0.0)
    )
    for row, less, zero in zip(usual, small, none, strict=True):
        # Its square, 1e-54, would be 0 in float32.
        assert less.gradient_norm == pytest.approx(row.gradient_norm * 2.0**-90, rel=1e-3)
        assert zero.gradient_norm == zero.gradient_per_weight == 0
    assert profile(small).first_per_last == pytest.approx(profile(usual).first_per_last, rel=1e-3)


def test_frozen_layers_are_left_out() -> None:
    graph = fresh(NetConfig(widths=(4, 6)))
    graph.net.get_submodule("encoder").requires_grad_(False)
    batch = phantom_batch(count=2, side_px=32)
    assert gradient_flow(graph, LOSS, batch)[0].layer == "bottleneck.0"
    graph.requires_grad_(False)
    with pytest.raises(ValueError, match="frozen"):
        gradient_flow(graph, LOSS, batch)


def test_the_same_table_comes_twice_and_names_what_was_varied() -> None:
    configs = [
        NetConfig(widths=(4, 6), activation="tanh", long_skips="none"),
        NetConfig(widths=(4, 6, 8), long_skips="none,add", init="xavier"),
    ]
    batch = phantom_batch(count=2, side_px=32)
    rows = gradient_table(configs, seeds=(0, 1), batch=batch)
    assert rows == gradient_table(configs, seeds=(0, 1), batch=batch)
    assert [(row.long_skips, row.activation, row.init, row.seed) for row in rows] == [
        ("none", "tanh", "he", 0),
        ("none", "tanh", "he", 1),
        ("none,add", "relu", "xavier", 0),
        ("none,add", "relu", "xavier", 1),
    ]
    assert [row.convs for row in rows] == [6, 6, 10, 10]
    assert rows[0].gradient_first != rows[1].gradient_first


def test_the_figure_shows_where_the_gradient_is_zero(tmp_path: Path) -> None:
    rows = gradient_flow(fresh(NetConfig(widths=(4, 6))), LOSS, phantom_batch(count=2, side_px=32))
    lost = [replace(row, gradient_norm=0.0) for row in rows]
    for name, drawn in (("all", rows), ("half", [*lost[:4], *rows[4:]]), ("none", lost)):
        draw_gradient_flow(drawn, tmp_path, name)
    pictures = {name: (tmp_path / f"{name}.svg").read_text() for name in ("all", "half", "none")}
    # A cross is one marker more, used once for each layer whose gradient is 0.
    used = {name: text.count("<use ") for name, text in pictures.items()}
    assert used["none"] > 0
    crosses = {name: text.count("M -2 2") for name, text in pictures.items()}
    assert crosses == {"all": 0, "half": 1, "none": 1}
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in pictures)

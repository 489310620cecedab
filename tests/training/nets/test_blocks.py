"""Bodies, norms and starting weights of our own U-Net."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.nets.blocks import BLOCKS, DenseBody, ResidualUnit, build_block
from training.nets.config import NetConfig
from training.nets.initialise import initialise
from training.nets.net import SegmentationNet
from training.nets.unet import Up

Build = Callable[[NetConfig], SegmentationNet]
BARE = NetConfig(norm="none")


def convolutions(module: nn.Module, kernel: int = 3) -> list[nn.Conv2d]:
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (kernel, kernel)
    ]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("convs", [1, 2, 3, 10])
def test_a_block_has_its_convolutions_and_its_width(block: str, convs: int) -> None:
    config = replace(BARE, block=block, convs_per_block=convs)  # type: ignore[arg-type]
    body = build_block(3, 8, config)
    assert len(convolutions(body)) == convs
    assert body(torch.randn(1, 3, 5, 7)).shape == (1, 8, 5, 7)


def test_a_residual_unit_is_its_shortcut_when_the_body_is_silent() -> None:
    x = torch.randn(1, 4, 5, 5)
    unit = ResidualUnit(4, 4, BARE, convs=2)
    for parameter in unit.body.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(unit(x), x.relu())
    widening = ResidualUnit(4, 6, BARE, convs=2)
    for parameter in widening.body.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(widening(x), widening.shortcut(x).relu())


def test_in_a_dense_body_each_convolution_sees_all_before_it() -> None:
    body = DenseBody(5, 8, replace(BARE, convs_per_block=3))
    assert [conv.in_channels for conv in convolutions(body)] == [5, 8, 11]
    assert [conv.in_channels for conv in convolutions(body, kernel=1)] == [14]


def test_the_gradient_passes_70_tanh_convolutions_only_with_short_skips(build: Build) -> None:
    """Direction of the study's table; the numbers depend on the widths."""

    def ratio(block: str) -> float:
        net = build(
            NetConfig(
                widths=(4, 4, 4, 4),
                long_skips="none",
                convs_per_block=10,
                block=block,  # type: ignore[arg-type]
                norm="none",
                activation="tanh",
                init="default",
            )
        )
        convs = convolutions(net)
        assert len(convs) == 70
        net(torch.randn(1, 2, 32, 32)).square().mean().backward()
        first, last = convs[0].weight.grad, convs[-1].weight.grad
        assert first is not None
        assert last is not None
        return float(first.norm() / last.norm())

    assert ratio("plain") < 1e-6
    assert ratio("residual") > 1e-3


@pytest.mark.parametrize(("width", "groups"), [(24, 8), (16, 8), (12, 4), (10, 2), (7, 1)])
def test_groups_divide_the_width(width: int, groups: int) -> None:
    body = build_block(3, width, NetConfig(norm="group"))
    norms = [layer for layer in body.modules() if isinstance(layer, nn.GroupNorm)]
    assert [norm.num_groups for norm in norms] == [groups, groups]


@pytest.mark.parametrize(("norm", "has_bias"), [("batch", False), ("group", False), ("none", True)])
def test_a_bias_stands_only_where_no_norm_takes_its_place(norm: str, has_bias: bool) -> None:
    for block in BLOCKS:
        config = NetConfig(norm=norm, block=block)  # type: ignore[arg-type]
        body = build_block(3, 8, config)
        assert {conv.bias is not None for conv in convolutions(body)} == {has_bias}


def test_dropout_drops_whole_channels_in_training_only() -> None:
    block = build_block(3, 64, replace(BARE, dropout=0.5, activation="sigmoid"))
    x = torch.randn(1, 3, 4, 4)
    trained = block.train()(x)[0].flatten(1)  # a sigmoid is never 0 by itself
    dropped = (trained == 0).all(1)
    assert torch.equal(dropped, (trained == 0).any(1))
    assert 10 < int(dropped.sum()) < 54
    assert (block.eval()(x) != 0).all()


def test_up_commutes_with_its_convolution() -> None:
    up = Up(4, 2)
    x = torch.randn(1, 4, 3, 5)
    other_order = up.narrow(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(up(x), other_order)


@pytest.mark.parametrize(
    ("init", "activation", "std"),
    [
        ("he", "relu", math.sqrt(2 / (9 * 64))),
        ("he", "sigmoid", math.sqrt(2 / (9 * 64))),
        ("he", "leaky", math.sqrt(2 / (1 + 0.01**2) / (9 * 64))),
        ("xavier", "tanh", math.sqrt(2 / (9 * 64 + 9 * 128))),
    ],
)
def test_weights_start_with_the_spread_of_their_paper(
    init: str, activation: str, std: float
) -> None:
    config = NetConfig(init=init, activation=activation)  # type: ignore[arg-type]
    conv = nn.Conv2d(64, 128, 3)
    torch.manual_seed(0)
    initialise(conv, config)
    assert conv.weight.std().item() == pytest.approx(std, rel=0.02)
    assert conv.weight.mean().item() == pytest.approx(0, abs=std / 50)
    assert conv.bias is not None
    assert not conv.bias.any()


def test_default_leaves_pytorchs_weights_alone() -> None:
    conv = nn.Conv2d(3, 4, 3)
    before: Tensor = conv.weight.detach().clone()
    initialise(conv, NetConfig(init="default"))
    assert torch.equal(conv.weight, before)
    assert conv.bias is not None
    assert conv.bias.any()

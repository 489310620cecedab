"""The dial itself: what each position computes, costs and lets through."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from training.nets.config import LONG_SKIPS, NetConfig
from training.nets.cost import parameter_count
from training.nets.net import SegmentationNet
from training.nets.skips import SKIPS, Add, AttentionGate, Concat, NoSkip
from training.nets.unet import UNet

Build = Callable[[NetConfig], SegmentationNet]
Image = Callable[..., Tensor]

WIDTHS = (4, 6, 8)
PLAIN = NetConfig(widths=WIDTHS)
SMP = NetConfig("smp-unet", widths=WIDTHS)


def skips_of(net: SegmentationNet) -> torch.nn.ModuleList:
    skips = net.skips
    assert isinstance(skips, torch.nn.ModuleList)
    return skips


def test_every_position_has_one_module() -> None:
    assert tuple(SKIPS) == LONG_SKIPS


@pytest.mark.parametrize("kind", SKIPS)
@pytest.mark.parametrize("channels", [(5, 5), (6, 3), (2, 7)])
def test_out_channels_is_what_comes_out(kind: str, channels: tuple[int, int]) -> None:
    decoder, encoder = (torch.randn(2, count, 3, 4) for count in channels)
    skip = SKIPS[kind](*channels)  # type: ignore[index]
    assert skip(decoder, encoder).shape == (2, skip.out_channels, 3, 4)


def test_concat_add_and_none_are_what_their_names_say() -> None:
    decoder, encoder = torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3)
    assert torch.equal(Concat(2, 2)(decoder, encoder), torch.cat((decoder, encoder), 1))
    assert torch.equal(Add(2, 2)(decoder, encoder), decoder + encoder)
    assert torch.equal(NoSkip(2, 2)(decoder, encoder), decoder)


def test_add_projects_only_where_widths_differ() -> None:
    assert parameter_count(Add(4, 4)) == 0
    assert parameter_count(Add(4, 3)) == 3 * 4 + 4


@pytest.mark.parametrize(("psi_bias", "alpha"), [(1e3, 1.0), (-1e3, 0.0), (0.0, 0.5)])
def test_an_attention_gate_opens_shuts_and_halves(psi_bias: float, alpha: float) -> None:
    gate = AttentionGate(2, 4)
    torch.nn.init.zeros_(gate.psi.weight)
    assert gate.psi.bias is not None
    torch.nn.init.constant_(gate.psi.bias, psi_bias)
    decoder, encoder = torch.randn(1, 2, 3, 3), torch.randn(1, 4, 3, 3)
    expected = torch.cat((decoder, alpha * encoder), 1)
    assert torch.equal(gate(decoder, encoder), expected)


def test_an_attention_gate_follows_its_equation_pixel_by_pixel() -> None:
    gate = AttentionGate(3, 4)
    decoder, encoder = torch.randn(1, 3, 2, 2), torch.randn(1, 4, 2, 2)
    out = gate(decoder, encoder)
    x, g = encoder[0, :, 1, 0], decoder[0, :, 1, 0]
    query = gate.features.weight[:, :, 0, 0] @ x + gate.gate.weight[:, :, 0, 0] @ g + gate.gate.bias
    alpha = torch.sigmoid(gate.psi.weight[:, :, 0, 0] @ query.relu() + gate.psi.bias)
    torch.testing.assert_close(out[0, :, 1, 0], torch.cat((g, alpha * x)))


@pytest.mark.parametrize("base", [PLAIN, SMP], ids=["unet", "smp-unet"])
@pytest.mark.parametrize("kind", SKIPS)
@pytest.mark.parametrize("level", [0, 1])
def test_only_none_shuts_a_level(
    base: NetConfig, kind: str, level: int, build: Build, image: Image
) -> None:
    """Disturb what crosses at one level and nothing else: the way down is left as it is."""
    words = ["add", "add"]
    words[level] = kind
    net = build(replace(base, long_skips=tuple(words)))
    x = image(16, 16)

    def disturb(module: torch.nn.Module, arguments: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        decoder, encoder = arguments
        return decoder, encoder + 3.0

    with torch.no_grad():
        before = net(x)
        with skips_of(net)[level].register_forward_pre_hook(disturb):
            after = net(x)
    assert torch.equal(before, after) == (kind == "none")


def test_without_skips_the_image_comes_through_the_bottleneck_alone(
    build: Build, image: Image
) -> None:
    def reach(config: NetConfig) -> bool:
        net = build(config)
        assert isinstance(net, UNet)
        with torch.no_grad(), net.bottleneck.register_forward_hook(lambda *call: call[2] * 0):
            return not torch.equal(net(image(16, 16)), net(-image(16, 16)))

    assert not reach(replace(PLAIN, long_skips="none"))
    assert reach(replace(PLAIN, long_skips="none,add"))
    assert reach(replace(PLAIN, long_skips="concat,none"))


def test_positions_with_the_same_weights_answer_differently(build: Build, image: Image) -> None:
    nets = {kind: build(replace(PLAIN, long_skips=kind)) for kind in ("add", "none")}
    nets["add"].load_state_dict(nets["none"].state_dict())
    with torch.no_grad():
        assert not torch.allclose(nets["add"](image(16, 16)), nets["none"](image(16, 16)))


def test_parameter_counts_are_the_predicted_ones(build: Build) -> None:
    def count(long_skips: str) -> int:
        return parameter_count(build(replace(PLAIN, long_skips=long_skips)))

    fine, coarse = WIDTHS[:2]
    nothing = count("none")
    assert count("add") == nothing
    # Concatenation doubles what the first 3×3 of a decoder block of one width reads.
    assert count("concat,none") - nothing == 9 * fine * fine
    assert count("none,concat") - nothing == 9 * coarse * coarse
    # The gate adds W_g with bias, W_x without, and psi with bias, at half the width.
    gate = 2 * fine * (fine // 2) + fine // 2 + fine // 2 + 1
    assert count("attention,none") - count("concat,none") == gate


def test_parameters_of_a_plain_net_are_counted_by_hand(build: Build) -> None:
    def conv_norm(inputs: int, width: int) -> int:
        return 9 * inputs * width + 2 * width

    down = sum(
        conv_norm(inputs, width) + conv_norm(width, width)
        for inputs, width in pairwise((2, *WIDTHS))
    )
    up = sum(
        below * width + width + conv_norm(2 * width, width) + conv_norm(width, width)
        for width, below in pairwise(WIDTHS)
    )
    head = WIDTHS[0] * 3 + 3
    assert parameter_count(build(PLAIN)) == down + up + head

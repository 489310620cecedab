import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from contract.errors import RequestInvalid
from training.nets.config import NetConfig
from training.probe import cost
from training.probe.backward import fresh
from training.probe.cost import activation_bytes, compare_cost, probe_cost
from training.probe.probed import Probed


def test_a_chain_of_convolutions_holds_two_maps_forward_and_all_of_them_to_train() -> None:
    net = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(4)))
    one_map = 4 * 3 * 16 * 24
    forward, step = activation_bytes(net, channels=3, size_hw=(16, 24))
    assert forward == 2 * one_map
    # Backward keeps every convolution's input and makes a gradient for each map and kernel.
    assert 4 * one_map < step <= 8 * one_map + 4 * 4 * 81


def test_a_skip_holds_its_features_until_the_decoder_comes() -> None:
    class Crossing(nn.Module):
        def __init__(self, crosses: bool) -> None:
            super().__init__()
            self.convs = nn.Sequential(*(nn.Conv2d(2, 2, 1, bias=False) for _ in range(3)))
            self.crosses = crosses

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = self.convs[0](x)
            held = first if self.crosses else None
            x = self.convs[1](first)
            del first
            x = self.convs[2](x)
            return x if held is None else x + held

    one_map = 4 * 2 * 64
    plain, crossing = (
        activation_bytes(Crossing(crosses), channels=2, size_hw=(8, 8))[0]
        for crosses in (False, True)
    )
    assert (plain, crossing) == (2 * one_map, 3 * one_map)


def test_the_net_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)).eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    activation_bytes(net, channels=1, size_hw=(8, 8))
    assert not net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.slow
def test_a_net_and_its_file_are_measured(look_at: Callable[..., Probed], tmp_path: Path) -> None:
    probed = look_at(NetConfig(widths=(4, 6)))
    found = probe_cost(probed, tmp_path, side_px=31, turns=2, threads=1)
    assert found["parameters"] == sum(p.numel() for p in probed.graph.parameters())
    assert 0 < found["forward_mib"] < found["training_step_mib"]
    assert found["file_ms"] > 0
    (row,) = csv.DictReader((tmp_path / "cost.csv").read_text().splitlines())
    assert (row["height_px"], row["threads"], row["net"]) == ("31", "1", "net")
    assert float(row["file_peak_mib"]) > float(row["file_mib"]) > 0
    assert {"cost.png", "cost.svg"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_one_value_per_channel_makes_no_training_step_under_a_norm(norm: str) -> None:
    net = fresh(NetConfig(widths=(4, 6), norm=norm)).net
    coarsest_one_px = (net.divisor, net.divisor)
    if norm == "instance":  # which the graph's pad keeps from such sizes, and cannot run on them
        with pytest.raises(ValueError, match="spatial"):
            activation_bytes(net, channels=1, size_hw=coarsest_one_px)
        return
    forward, step = activation_bytes(net, channels=1, size_hw=coarsest_one_px)
    assert forward > 0
    assert (step is None) == (norm == "batch")
    twice = activation_bytes(net, channels=1, size_hw=(2 * net.divisor, 2 * net.divisor))
    assert twice[1] is not None


def test_the_smallest_image_is_measured(look_at: Callable[..., Probed], tmp_path: Path) -> None:
    # Not exported, so that no time goes into a file.
    net = NetConfig(architecture="pspnet", encoder="resnet18", encoder_weights=None)
    found = probe_cost(look_at(net), tmp_path, side_px=1)
    assert found["forward_mib"] > 0
    assert "training_step_mib" not in found
    assert {"cost.csv", "cost.png"} <= {path.name for path in tmp_path.iterdir()}


def test_what_the_machine_cannot_hold_is_refused_before_it_is_tried(
    look_at: Callable[..., Probed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side_px in (32_769, 10**9):
        with pytest.raises(RequestInvalid, match=r"give a side .* of 32768 px or less"):
            probe_cost(look_at(), tmp_path, side_px=side_px)
    monkeypatch.setattr(cost, "memory_of", lambda device: 2**20)
    with pytest.raises(RequestInvalid, match="GiB for an image of 400 x 400 px, and this machine"):
        probe_cost(look_at(), tmp_path, side_px=400)
    assert not list(tmp_path.iterdir())


def test_nets_of_one_name_are_refused(look_at: Callable[..., Probed], tmp_path: Path) -> None:
    with pytest.raises(RequestInvalid, match="one name"):
        compare_cost([look_at(), look_at()], tmp_path)

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from training.nets.build import build_net
from training.nets.config import NetConfig
from training.nets.cost import macs, match_parameters, parameter_count


def quadratic(widths: tuple[int, ...]) -> int:
    return sum(9 * width * width + width for width in widths)


def test_running_statistics_do_not_count() -> None:
    assert parameter_count(nn.BatchNorm2d(5)) == 10


def test_macs_of_a_convolution_are_counted_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)).train()
    assert macs(net, channels=3, size_hw=(10, 20)) == 10 * 20 * (9 * 3 * 8 + 8 * 2)
    assert net.training


def test_macs_leave_the_net_untouched() -> None:
    net = build_net(NetConfig(widths=(4, 8)), channels=1, classes=2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    macs(net, channels=1, size_hw=(16, 16))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_macs_grow_with_the_pixels() -> None:
    net = build_net(NetConfig(widths=(4, 8)), channels=1, classes=2)
    assert macs(net, channels=1, size_hw=(64, 32)) == 8 * macs(net, channels=1, size_hw=(16, 16))


@settings(deadline=None)
@given(
    st.lists(st.integers(4, 64), min_size=2, max_size=5).map(tuple),
    st.floats(0.3, 3.5),
    st.sampled_from([1, 2, 8]),
)
def test_no_other_factor_comes_nearer(
    widths: tuple[int, ...], factor: float, multiple_of: int
) -> None:
    def scaled(factor: float) -> tuple[int, ...]:
        steps = (math.floor(width * factor / multiple_of + 0.5) for width in widths)
        return tuple(max(1, step) * multiple_of for step in steps)

    target = quadratic(scaled(factor)) + 17
    assume(target <= quadratic(scaled(4.0)))
    found = match_parameters(widths, count=quadratic, target=target, multiple_of=multiple_of)
    assert all(width % multiple_of == 0 for width in found)
    tried = {scaled(step / 2000) for step in range(500, 8001, 5)}
    best = min(abs(quadratic(other) - target) for other in tried)
    assert abs(quadratic(found) - target) <= best


def test_a_target_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no factor between 0.25 and 4.0 brings widths \(8, 8\)"):
        match_parameters((8, 8), count=quadratic, target=1)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("long_skips", ["none", "add", "attention", "none,concat,none"])
def test_a_twin_meets_the_parameters_of_all_concat(norm: str, long_skips: str) -> None:
    base = NetConfig(norm=norm)  # type: ignore[arg-type]
    full = parameter_count(build_net(base, channels=3, classes=2))
    by_width = build_net(replace(base, long_skips=long_skips), channels=3, classes=2)
    twin = build_net(
        replace(base, long_skips=long_skips, match="parameters"), channels=3, classes=2
    )
    off_by_width = abs(parameter_count(by_width) - full) / full
    off = abs(parameter_count(twin) - full) / full
    # With group norm the widths keep to multiples of 8, which is 2 % of a count.
    assert off <= min(0.02 if norm == "group" else 0.003, off_by_width)
    assert by_width.widths == base.widths
    assert twin.long_skips == by_width.long_skips


def test_all_concat_is_its_own_twin() -> None:
    twin = build_net(NetConfig(match="parameters"), channels=3, classes=2)
    assert twin.widths == NetConfig().widths

from itertools import chain, combinations
from pathlib import Path

import pytest
import torch

from contract.errors import RequestInvalid
from training.fit.losses import LossConfig, build_loss
from training.nets.config import NetConfig
from training.probe.backward import fresh, phantom_batch
from training.probe.path_lengths import (
    PathLength,
    Ways,
    draw_path_lengths,
    effective_lengths,
    path_lengths,
    with_shares,
)

LOSS = build_loss(LossConfig(), task="multiclass", classes=2)
BATCH = phantom_batch(count=1, side_px=16)


@pytest.mark.parametrize("long_skips", ["concat", "none", "attention", "none,add"])
@pytest.mark.parametrize("training", [True, False])
def test_the_gradients_of_all_ways_add_up_to_the_whole_gradient(
    long_skips: str, training: bool
) -> None:
    widths = (4, 6, 8) if "," in long_skips else (4, 6)
    graph = fresh(NetConfig(widths=widths, block="residual", long_skips=long_skips)).double()
    ways = Ways(graph, LOSS, {**BATCH, "image": BATCH["image"].double()})
    with ways.passed(training=training):
        whole = ways.gradient(None, None)
        total, count = torch.zeros_like(whole), 0
        for crossing in ways.crossings:
            sizes = range(len(crossing.units) + 1)
            for chosen in chain.from_iterable(combinations(crossing.units, k) for k in sizes):
                total += ways.gradient(crossing, frozenset(chosen))
                count += 1
    # Two units stand on a way through the finest skip, three on one through the bottleneck below.
    assert count == {"none": 8, "none,add": 2**4 + 2**5}.get(long_skips, 4 + 8)
    assert float(whole.norm()) > 0
    assert torch.allclose(total, whole, rtol=1e-4, atol=1e-6 * float(whole.abs().max()))


def test_units_that_do_not_stand_on_a_way_have_no_say_in_it() -> None:
    graph = fresh(NetConfig(widths=(4, 6), block="residual"))
    ways = Ways(graph, LOSS, BATCH)
    skip, _ = ways.crossings
    assert skip.units == (0, 2)  # encoder and decoder, not the bottleneck between them
    with ways.passed(training=True):
        for through in (frozenset[int](), frozenset({0}), frozenset({0, 2})):
            without = ways.gradient(skip, through)
            assert torch.equal(without, ways.gradient(skip, through | {1}))
        assert float(ways.gradient(skip, frozenset({0, 2})).norm()) > 0


def test_shares_by_hand() -> None:
    # Two units; a way through both carries 1/4, through one 1/2, through none 1.
    rows = with_shares(
        [
            PathLength("bottleneck", 2, k, p, 1, 0.5**k, 0.0)
            for k, p in ((0, 1.0), (1, 2.0), (2, 1.0))
        ]
    )
    assert [row.share for row in rows] == pytest.approx([1 / 2.25, 1 / 2.25, 0.25 / 2.25])
    headline = effective_lengths(rows)
    assert headline["length_mean"] == pytest.approx((1 + 2 * 0.25) / 2.25)
    assert headline["length_median"] == 1
    assert (headline["length_5_percent"], headline["length_95_percent"]) == (0, 2)
    assert headline["share_through_bottleneck"] == pytest.approx(1)


def test_a_residual_net_is_measured_without_a_trace_and_drawn(tmp_path: Path) -> None:
    config = NetConfig(widths=(4, 6), convs_per_block=4, block="residual", dropout=0.2)
    graph = fresh(config).eval()
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    rows = path_lengths(graph, LOSS, BATCH, draws=3)
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in graph.modules())
    assert [(row.crossing, row.length, row.paths, row.draws) for row in rows[:5]] == [
        ("skip level 0", 0, 1.0, 1),
        ("skip level 0", 1, 4.0, 3),
        ("skip level 0", 2, 6.0, 3),
        ("skip level 0", 3, 4.0, 3),
        ("skip level 0", 4, 1.0, 1),
    ]
    assert len(rows) == 5 + 7
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert effective_lengths(rows)["units"] == 6
    draw_path_lengths(rows, tmp_path)
    assert (tmp_path / "path_lengths.png").stat().st_size > 5000


@pytest.mark.parametrize("block", ["plain", "dense"])
def test_a_net_without_short_skips_is_refused_in_plain_words(block: str) -> None:
    graph = fresh(NetConfig(widths=(4, 6), block=block))  # type: ignore[arg-type]
    with pytest.raises(RequestInvalid, match=f"blocks are {block}: .*--net.block residual"):
        path_lengths(graph, LOSS, BATCH)
    foreign = fresh(NetConfig(architecture="fpn"))
    with pytest.raises(RequestInvalid, match="SmpNet is not made of our blocks"):
        path_lengths(foreign, LOSS, BATCH)

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from contract.errors import RequestInvalid
from training.fit.losses import LossConfig, build_loss
from training.nets.blocks import ResidualUnit
from training.nets.config import NetConfig
from training.nets.units import net_units
from training.probe.backward import fresh, phantom_batch
from training.probe.norm_preservation import (
    draw_norm_preservation,
    geometric_mean,
    norm_preservation,
)

LOSS = build_loss(LossConfig(), task="multiclass", classes=2)
BATCH = phantom_batch(count=2, side_px=16)


@pytest.mark.parametrize(
    ("block", "convs", "units"),
    [("plain", 4, 6), ("plain", 3, 6), ("residual", 4, 6), ("dense", 4, 3), ("plain", 1, 3)],
)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_units_of_every_block_stand_in_forward_order(
    block: str, convs: int, units: int, dropout: float
) -> None:
    config = NetConfig(
        widths=(4, 6),
        block=block,  # type: ignore[arg-type]
        convs_per_block=convs,
        dropout=dropout,
    )
    found = net_units(fresh(config).net)
    assert len(found) == units
    assert [unit.place for unit in found][:: units // 3] == [
        "encoder level 0, unit 1", "bottleneck, unit 1", "decoder level 0, unit 1",
    ]  # fmt: skip
    assert {unit.kind for unit in found} == {block}


def test_a_residual_unit_that_is_the_identity_keeps_the_norm_exactly() -> None:
    config = NetConfig(widths=(4, 6), convs_per_block=4, block="residual", norm="none")
    graph = fresh(config)
    for unit in graph.net.modules():
        if isinstance(unit, ResidualUnit):
            last = unit.body.get_submodule("3")
            assert isinstance(last, torch.nn.Conv2d)
            torch.nn.init.zeros_(last.weight)
            unit.activation = torch.nn.Identity()
    rows = norm_preservation(graph, LOSS, BATCH)
    assert len(rows) == 5  # the first unit takes the image
    kept = [row for row in rows if row.keeps_width]
    assert [row.place for row in kept] == [
        "encoder level 0, unit 2", "bottleneck, unit 2", "decoder level 0, unit 2",
    ]  # fmt: skip
    assert [row.ratio for row in kept] == [1.0, 1.0, 1.0]
    assert geometric_mean(kept) == 1.0
    as_built = norm_preservation(fresh(config), LOSS, BATCH)
    assert all(row.ratio != 1 for row in as_built)


def test_ratios_multiply_along_the_way_where_nothing_branches() -> None:
    config = NetConfig(widths=(4, 6), convs_per_block=8, long_skips="none")
    rows = norm_preservation(fresh(config), LOSS, BATCH)
    inside = [row for row in rows if row.place.startswith("bottleneck")]
    assert len(inside) == 4
    product = math.prod(row.ratio for row in inside)
    assert product == pytest.approx(inside[0].gradient_in / inside[-1].gradient_out)
    for before, after in itertools.pairwise(inside):
        assert before.gradient_out == pytest.approx(after.gradient_in)


def test_without_norm_short_skips_keep_the_gradient_that_default_init_loses() -> None:
    config = NetConfig(widths=(8, 8), convs_per_block=10, norm="none", init="default")
    measured = [
        norm_preservation(fresh(replace(config, block=block)), LOSS, BATCH)
        for block in ("plain", "residual")
    ]
    plain, residual = (
        geometric_mean([row for row in rows if row.keeps_width]) for rows in measured
    )
    assert plain < 0.4
    assert 0.7 < residual < 1.4


def test_looking_leaves_no_trace_and_makes_a_figure(tmp_path: Path) -> None:
    graph = fresh(NetConfig(widths=(4, 6), dropout=0.2)).eval()
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    rows = norm_preservation(graph, LOSS, BATCH)
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in graph.modules())
    draw_norm_preservation(rows, tmp_path)
    assert (tmp_path / "norm_preservation.png").stat().st_size > 5000
    assert math.isnan(geometric_mean([]))


def test_a_net_of_other_blocks_is_refused() -> None:
    with pytest.raises(RequestInvalid, match="SmpNet is not made of our blocks"):
        net_units(fresh(NetConfig(architecture="fpn")).net)

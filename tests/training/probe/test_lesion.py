import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from contract.errors import RequestInvalid
from training.nets.config import NetConfig
from training.probe.lesion import (
    Lesion,
    compare_lesion,
    damage,
    lesions_of,
    probe_lesion,
    summarise_lesions,
)
from training.probe.probed import Probed

Look = Callable[..., Probed]
RESIDUAL = NetConfig(widths=(4, 6, 8), block="residual", long_skips="none", convs_per_block=4)


def by_name(probed: Probed, gain: float = 0.0) -> dict[str, Lesion]:
    return {lesion.target: lesion for lesion in lesions_of(probed, (gain,))}


@pytest.mark.parametrize("kind", ["concat", "add", "attention"])
def test_gain_1_changes_nothing_and_gain_0_is_a_net_whose_encoder_hands_over_zeros(
    look_at: Look, kind: str
) -> None:
    probed = look_at(NetConfig(widths=(4, 6, 8), long_skips=kind))
    image = probed.image("i0").image_chw
    whole = probed.answer(image)
    np.testing.assert_array_equal(by_name(probed, 1.0)["all skips"].answer(image), whole)
    net = probed.graph.net
    seen: list[torch.Tensor] = []
    hook = net.skips[1].register_forward_pre_hook(lambda m, given: seen.append(given[1].clone()))
    cut = by_name(probed)["skip 1"].answer(image)
    hook.remove()
    assert not np.array_equal(cut, whole)
    np.testing.assert_array_equal(probed.answer(image), whole)  # no hook stays behind
    assert len(seen) == 1  # registered first, so it saw the features before they were scaled
    assert seen[0].abs().sum() > 0


def test_an_added_skip_that_is_cut_is_the_decoder_alone(look_at: Look) -> None:
    probed = look_at(NetConfig(widths=(4, 6, 8), long_skips="add"))
    twin = look_at(NetConfig(widths=(4, 6, 8), long_skips="none"))
    # Both widths agree, so an added skip has no weights of its own.
    twin.graph.load_state_dict(probed.graph.state_dict())
    image = probed.image("i1").image_chw
    np.testing.assert_array_equal(by_name(probed)["all skips"].answer(image), twin.answer(image))


def test_a_gain_that_is_given_twice_counts_once(look_at: Look, tmp_path: Path) -> None:
    probed = replace(look_at(), stems=("i2",))
    once, twice = (
        probe_lesion(probed, tmp_path / name, gains=gains)
        for name, gains in (("once", (0.0, 0.5)), ("twice", (0.0, 0.5, -0.0, 0.5)))
    )
    assert once == twice
    assert (tmp_path / "once/cases.csv").read_text() == (tmp_path / "twice/cases.csv").read_text()


def test_a_residual_block_that_is_dropped_is_its_shortcut(look_at: Look) -> None:
    probed = look_at(RESIDUAL)
    lesions = by_name(probed)
    assert list(lesions) == [
        f"{part}, unit {unit}"
        for part in ("encoder level 0", "encoder level 1", "bottleneck", "decoder level 0",
                     "decoder level 1")
        for unit in (1, 2)
    ]  # fmt: skip
    assert {lesion.kind for lesion in lesions.values()} == {"residual block"}
    image = probed.image("i0").image_chw
    unit = probed.graph.net.get_submodule("encoder.1.1")
    assert isinstance(unit.shortcut, nn.Identity)
    kept = unit.body
    cut = lesions["encoder level 1, unit 2"].answer(image)

    class Nothing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    unit.body = Nothing()
    np.testing.assert_array_equal(cut, probed.answer(image))
    unit.body = kept


def test_a_plain_layer_that_is_dropped_hands_on_what_came_in(look_at: Look) -> None:
    probed = look_at(NetConfig(widths=(4, 6), convs_per_block=3, dropout=0.1))
    lesions = by_name(probed)
    assert list(lesions) == ["skip 0"] + [
        f"{part}, conv {conv}"
        for part in ("encoder level 0", "bottleneck", "decoder level 0")
        for conv in (2, 3)
    ]
    net = probed.graph.net
    image = probed.image("i0").image_chw
    cut = lesions["bottleneck, conv 2"].answer(image)
    layers = net.bottleneck[0]
    conv, norm = layers[3], layers[4]
    layers[3], layers[4] = nn.Identity(), nn.Identity()
    np.testing.assert_array_equal(cut, probed.answer(image))
    layers[3], layers[4] = conv, norm


def test_blocks_of_an_smp_encoder_are_dropped_too(look_at: Look) -> None:
    config = NetConfig(architecture="smp-unet", encoder="resnet18", widths=(4, 4, 4))
    lesions = by_name(look_at(config))
    assert {"skip 0", "skip 1", "encoder.layer1.0", "encoder.layer2.1"} <= lesions.keys()


def test_any_callable_can_stand_for_a_damaged_net(look_at: Look) -> None:
    probed = replace(look_at(), stems=("i0", "i2"))

    def nothing(image_chw: np.ndarray) -> np.ndarray:
        return np.zeros(image_chw.shape[1:], np.uint8)

    cases = damage(probed, [Lesion("skip 0", "long skip", 0.0, nothing)])
    assert len(cases) == 2 * 2 * 2  # images, the whole net and the lesion, classes
    rows = summarise_lesions(probed, cases)
    damaged = [row for row in rows if row.gain == 0]
    assert [row.dice for row in damaged] == [0.0, 0.0]
    whole = [row.dice for row in rows if row.target == "whole"]
    for row, dice in zip(damaged, whole, strict=True):
        assert row.dice_lost == pytest.approx(dice)


def test_nets_are_damaged_into_one_table_and_a_net_without_parts_is_refused(
    look_at: Look, tmp_path: Path
) -> None:
    concat = replace(look_at(name="concat"), stems=("i0", "i1"))
    residual = replace(look_at(RESIDUAL, name="residual"), stems=("i0", "i1"))
    found = compare_lesion([concat, residual], tmp_path)
    assert {"concat.skip 0", "concat.all skips", "residual.bottleneck, unit 2"} <= found.keys()
    rows = list(csv.DictReader((tmp_path / "lesions.csv").read_text().splitlines()))
    whole = [row for row in rows if row["target"] == "whole"]
    assert {float(row["dice_lost"]) for row in whole} == {0.0}
    assert (tmp_path / "lesion.svg").is_file()
    dense = look_at(NetConfig(widths=(4, 6), block="dense", long_skips="none"))
    with pytest.raises(RequestInvalid, match="nothing to take away: unet"):
        probe_lesion(dense, tmp_path / "none")

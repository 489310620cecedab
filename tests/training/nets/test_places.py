from collections.abc import Callable

import pytest
import torch

from training.nets.config import NetConfig
from training.nets.net import SegmentationNet
from training.nets.places import LayerPlace, layer_places

Build = Callable[[NetConfig], SegmentationNet]


def along(places: tuple[LayerPlace, ...]) -> list[tuple[str, int]]:
    return [(place.place, place.depth) for place in places if place.main]


def test_layers_are_numbered_in_the_order_of_the_forward_pass(build: Build) -> None:
    places = layer_places(build(NetConfig(widths=(4, 6, 8))), channels=2)
    assert along(places) == [
        ("encoder level 0, conv 1", 1),
        ("encoder level 0, conv 2", 2),
        ("encoder level 1, conv 1", 3),
        ("encoder level 1, conv 2", 4),
        ("bottleneck, conv 1", 5),
        ("bottleneck, conv 2", 6),
        ("up to level 1, conv 1", 7),
        ("decoder level 1, conv 1", 8),
        ("decoder level 1, conv 2", 9),
        ("up to level 0, conv 1", 10),
        ("decoder level 0, conv 1", 11),
        ("decoder level 0, conv 2", 12),
        ("head, conv 1", 13),
    ]


@pytest.mark.parametrize("convs", [1, 2, 3])
@pytest.mark.parametrize("block", ["plain", "residual", "dense"])
@pytest.mark.parametrize("long_skips", ["concat", "none"])
def test_the_longest_way_passes_every_block(
    build: Build, block: str, convs: int, long_skips: str
) -> None:
    config = NetConfig(
        widths=(4, 6),
        block=block,  # type: ignore[arg-type]
        convs_per_block=convs,
        long_skips=long_skips,
    )
    places = layer_places(build(config), channels=2)
    # Encoder, bottleneck, decoder; a dense block ends in a 1×1 convolution, shortcuts stand beside.
    assert sum(place.spatial for place in places if place.main) == 3 * convs
    joins = 3 if block == "dense" else 0
    assert max(place.depth for place in places) == 3 * convs + joins + 2
    assert all("shortcut" not in place.place for place in places if place.main)


def test_a_gate_beside_the_way_is_told_from_the_way(build: Build) -> None:
    places = layer_places(build(NetConfig(widths=(4, 6), long_skips="attention")), channels=2)
    beside = [(place.name, place.depth) for place in places if not place.main]
    assert beside == [("skips.0.features", 3)]


@pytest.mark.parametrize(
    "config",
    [
        NetConfig(architecture="smp-unet", widths=(4, 6, 8)),
        NetConfig(architecture="smp-unet", encoder="tu-convnext_atto", widths=(4, 6, 8)),
        NetConfig(architecture="fpn"),
    ],
)
def test_every_layer_of_other_nets_has_a_place_of_its_own(build: Build, config: NetConfig) -> None:
    net = build(config)
    places = layer_places(net, channels=2)
    names = {name for name, module in net.named_modules() if isinstance(module, torch.nn.Conv2d)}
    assert names == {place.name for place in places if "conv" in place.place} | {
        place.name for place in places if "shortcut" in place.place
    }
    assert len({place.place for place in places}) == len(places)


def test_looking_changes_nothing(build: Build) -> None:
    net = build(NetConfig(widths=(4, 6), dropout=0.5))
    net.train()
    net.get_submodule("head").eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    generator = torch.get_rng_state()
    first = layer_places(net, channels=2)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert net.training
    assert not net.get_submodule("head").training
    assert layer_places(net, channels=2) == first


def test_the_places_do_not_depend_on_the_number_format(build: Build) -> None:
    net = build(NetConfig(widths=(4, 6)))
    places = layer_places(net, channels=2)
    assert layer_places(net.double(), channels=2) == places
    assert layer_places(net.bfloat16(), channels=2) == places

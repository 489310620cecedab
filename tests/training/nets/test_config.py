from dataclasses import asdict, replace

import pytest
from jsonargparse import ArgumentParser

from training.nets.build import build_net, export_refusal
from training.nets.config import NetConfig


def parse(*arguments: str) -> NetConfig:
    parser = ArgumentParser()
    parser.add_class_arguments(NetConfig, "net")
    net: NetConfig = parser.instantiate(parser.parse_args(list(arguments))).net
    return net


@pytest.mark.parametrize(
    ("long_skips", "by_level"),
    [
        ("concat", ("concat", "concat", "concat")),
        ("none", ("none", "none", "none")),
        ("none,add,attention", ("none", "add", "attention")),
        (" none, add , concat", ("none", "add", "concat")),
        (("none", "add", "concat"), ("none", "add", "concat")),
    ],
)
def test_the_dial_takes_one_word_or_one_per_level(
    long_skips: str | tuple[str, ...], by_level: tuple[str, ...]
) -> None:
    assert NetConfig(long_skips=long_skips).skips_by_level == by_level


def test_lists_become_tuples_so_that_a_config_can_be_a_key() -> None:
    config = NetConfig(widths=[8, 16], long_skips=["add"])  # type: ignore[arg-type]
    assert config == NetConfig(widths=(8, 16), long_skips=("add",))
    assert hash(config) == hash(replace(config))
    assert NetConfig(**asdict(config)) == config


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), NetConfig()),
        (("--net.long_skips", "none"), NetConfig(long_skips="none")),
        (("--net.long_skips", "concat,none,none"), NetConfig(long_skips="concat,none,none")),
        (
            ("--net.long_skips", '["concat","none","add"]'),
            NetConfig(long_skips=("concat", "none", "add")),
        ),
        (
            ("--net.widths", "[8,16]", "--net.norm", "group"),
            NetConfig(widths=(8, 16), norm="group"),
        ),
    ],
)
def test_the_command_line_reaches_every_position(
    arguments: tuple[str, ...], expected: NetConfig
) -> None:
    parsed = parse(*arguments)
    assert replace(parsed, long_skips=parsed.skips_by_level) == replace(
        expected, long_skips=expected.skips_by_level
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"long_skips": "concatenate"}, "knows concat, add, attention, none; got 'concatenate'"),
        ({"long_skips": ""}, "knows concat, add, attention, none; got ''"),
        ({"long_skips": "concat,none"}, "names 2 levels, but 4 widths make 3"),
        ({"long_skips": ("none",) * 4}, "names 4 levels, but 4 widths make 3"),
        ({"widths": (16,)}, "two or more positive channel counts"),
        ({"widths": (16, 0)}, "two or more positive channel counts"),
        ({"convs_per_block": 0}, "convs_per_block must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be a probability in \[0, 1\), got 1.0"),
        ({"block": "resnet"}, "block must be one of plain, residual, dense; got 'resnet'"),
        ({"norm": "layer"}, "norm must be one of batch, instance, group, none"),
        ({"activation": "swish"}, "activation must be one of relu"),
        ({"init": "orthogonal"}, "init must be one of he, xavier, default"),
        ({"match": "flops"}, "match must be one of width, parameters"),
        ({"encoder": "resnet34"}, "encoder='resnet34' has no effect on architecture 'unet'"),
        ({"encoder_weights": "imagenet"}, "encoder_weights='imagenet' has no effect"),
        ({"architecture": "smp-unet", "norm": "group"}, "norm='group' has no effect"),
        ({"architecture": "fpn", "long_skips": "none"}, "long_skips='none' has no effect"),
        ({"architecture": "fpn", "widths": (8, 16)}, r"widths=\(8, 16\) has no effect"),
        ({"architecture": "fpn", "match": "parameters"}, "match='parameters' has no effect"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetConfig(**fields)  # type: ignore[arg-type]


def test_building_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"one of unet, smp-unet, unetplusplus.*got 'vnet'"):
        build_net(NetConfig("vnet"), channels=1, classes=2)
    with pytest.raises(ValueError, match="got 'vnet'"):
        export_refusal(NetConfig("vnet"))
    with pytest.raises(ValueError, match="at least 1, got 0 and 2"):
        build_net(NetConfig(), channels=0, classes=2)

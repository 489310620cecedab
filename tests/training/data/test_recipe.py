import math

import pytest

from training.data.recipe import RECIPES, AugmentConfig, Recipe

LUNGS = ("background", "right lung", "left lung", "mediastinum")


def recipe(config: AugmentConfig, classes=("background", "cell"), channels=3) -> Recipe:
    return config.recipe(class_names=classes, channels=channels)


def test_auto_is_microscopy_unless_classes_have_a_side():
    assert recipe(AugmentConfig()) == RECIPES["microscopy"]
    assert recipe(AugmentConfig(), LUNGS, 1) == RECIPES["xray"]


@pytest.mark.parametrize("kind", ["auto", "xray", "microscopy", "photo"])
def test_sided_classes_are_never_mirrored_by_default(kind):
    chosen = recipe(AugmentConfig(kind=kind, strength=2.0), LUNGS)
    assert [chosen.flip_horizontal, chosen.flip_vertical, chosen.rotate90] == [False] * 3


def test_xray_is_not_mirrored_whatever_the_names():
    assert not recipe(AugmentConfig(kind="xray")).flip_horizontal


def test_mirroring_can_be_asked_for():
    assert recipe(AugmentConfig(flip_horizontal=True), LUNGS).flip_horizontal


@pytest.mark.parametrize("name", ["left", "Left_lung", "kidney-right", "RIGHT"])
def test_names_with_a_side(name):
    assert not recipe(AugmentConfig(), ("background", name)).flip_horizontal


@pytest.mark.parametrize("name", ["cleft", "bright spot", "leftover", "upright"])
def test_names_without_a_side(name):
    assert recipe(AugmentConfig(), ("background", name)).flip_horizontal


@pytest.mark.parametrize("kind", [kind for kind in RECIPES])
def test_strength_0_and_none_alter_nothing(kind):
    assert recipe(AugmentConfig(kind=kind, strength=0)) == Recipe()
    assert recipe(AugmentConfig(kind="none", strength=2)) == Recipe()


def test_strength_scales_the_logarithm_of_the_magnification():
    chosen = recipe(AugmentConfig(kind="microscopy", strength=0.5))
    assert chosen.scale == pytest.approx((math.sqrt(0.5), math.sqrt(2)))
    assert chosen.gamma == pytest.approx(RECIPES["microscopy"].gamma / 2)


def test_probabilities_stay_probabilities():
    chosen = recipe(AugmentConfig(kind="photo", strength=3))
    assert all(0 <= v <= 1 for k, v in vars(chosen).items() if k.endswith("_probability"))


def test_colour_changes_need_three_channels():
    chosen = recipe(AugmentConfig(colour_probability=1.0, grey_probability=1.0), channels=4)
    assert chosen.colour_probability == chosen.grey_probability == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "xrays"}, "kind must be auto or one of"),
        ({"strength": -1.0}, "strength must lie in 0..3"),
        ({"scale": (2.0, 0.5)}, "low <= high"),
        ({"scale": (0.0, 1.0)}, "0 < low"),
        ({"blur_probability": 1.5}, "blur_probability must lie in 0..1"),
        ({"noise": -0.1}, "noise must be >= 0"),
    ],
)
def test_wrong_values_are_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        AugmentConfig(**fields)

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import RequestInvalid
from contract.spec import Normalising
from training.probe.corrupt import KINDS, UNITS, NoTexture, background_patch, corrupt
from training.probe.crossing import crossing, first_crossing
from training.probe.probed import Probed
from training.probe.shift import compare_shift, kinds_for, shifted_pixels

Look = Callable[..., Probed]


def disc(dtype: type, *, level: float = 40.0, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return an image [48, 64, C] with a bright disc, and where that is."""
    rows, columns = np.mgrid[:48, :64]
    inside = (rows - 24) ** 2 + (columns - 20) ** 2 <= 100
    texture = np.random.default_rng(0).normal(level, level / 8, (48, 64, channels))
    return (texture + 3 * level * inside[..., None]).astype(dtype), inside


def shifted(image: np.ndarray, inside: np.ndarray, kind: str, strength: float) -> np.ndarray:
    known = np.ones(inside.shape, np.bool_)
    return corrupt(image, kind, strength, foreground_hw=inside, known_hw=known, stem="a", seed=3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "level"), [(np.uint8, 40), (np.uint16, 9000), (np.float32, 0.02)]
)
def test_every_shift_keeps_type_and_size_grows_and_is_drawn_from_the_seed(
    kind: str, dtype: type, level: float
) -> None:
    image, inside = disc(dtype, level=level)
    away = []
    for strength in (0.0, 0.3, 0.6, 1.0):
        found = shifted(image, inside, kind, strength)
        assert (found.dtype, found.shape) == (image.dtype, image.shape)
        np.testing.assert_array_equal(found, shifted(image, inside, kind, strength))
        away.append(float(np.abs(found.astype(float) - image.astype(float)).mean()))
    assert away[0] == 0.0
    assert away == sorted(away)
    assert away[1] > 0.0
    assert kind in UNITS


def test_shifts_do_not_depend_on_the_unit_of_intensities() -> None:
    image, inside = disc(np.float64, level=40)
    for kind in KINDS:
        small = shifted(image, inside, kind, 0.5)
        large = shifted(image * 257, inside, kind, 0.5)
        np.testing.assert_allclose(large, small * 257, rtol=1e-9)


def test_at_full_strength_the_foreground_has_the_texture_of_the_background() -> None:
    image, inside = disc(np.float64)
    found = shifted(image, inside, "texture", 1.0)
    assert abs(found[inside].mean() - image[~inside].mean()) < 1.0
    assert abs(found[inside].std() - image[~inside].std()) < 1.0
    np.testing.assert_array_equal(found[~inside], image[~inside])
    half = shifted(image, inside, "texture", 0.5)
    np.testing.assert_allclose(half, (image + found) / 2)


def test_noise_and_blur_have_the_size_that_their_units_say() -> None:
    image, inside = disc(np.float64)
    noise = shifted(image, inside, "noise", 0.4) - image
    assert noise.std() == pytest.approx(0.4 * image.std(), rel=0.05)
    spot = np.zeros((61, 61, 1))
    spot[30, 30] = 1.0
    nowhere = np.zeros((61, 61), np.bool_)
    blurred = shifted(spot, nowhere, "blur", 0.75)[..., 0]
    rows = np.arange(61) - 30
    assert (blurred.sum(axis=1) * rows**2).sum() == pytest.approx(3.0**2, rel=0.01)


def test_the_patch_is_the_largest_square_of_background() -> None:
    background = np.zeros((30, 40), np.bool_)
    background[2:11, 3:12] = True  # 9 x 9
    background[20:25, 20:40] = True  # 5 high
    assert background_patch(background) == (slice(2, 11), slice(3, 12))
    assert background_patch(np.ones((7, 9), np.bool_))[0] == slice(0, 7)
    with pytest.raises(NoTexture, match="4 px"):
        background_patch(np.eye(20, dtype=np.bool_))


def test_ignored_pixels_are_neither_blended_nor_taken_for_a_texture() -> None:
    image, inside = disc(np.float64)
    image[:, 40:] = 9999.0
    known = np.ones(inside.shape, np.bool_)
    known[:, 40:] = False
    found = corrupt(image, "texture", 1.0, foreground_hw=inside, known_hw=known, stem="a", seed=0)
    assert found[:, :40].max() < 300
    assert (found[:, 40:] == 9999.0).all()


@given(st.floats(0.05, 0.95), st.floats(0.5, 3), st.floats(0.5, 3))
def test_lines_cross_where_algebra_says(at: float, up: float, down: float) -> None:
    strengths = np.linspace(0, 1, 11)
    difference = np.where(strengths < at, up, down) * (at - strengths)
    if np.abs(difference).min() < 1e-9:
        return
    found = first_crossing(list(strengths), difference)
    assert found is not None
    assert found == pytest.approx(at, abs=0.1)
    assert found == first_crossing(list(strengths), -difference)


def test_curves_that_only_touch_do_not_cross() -> None:
    assert first_crossing([0, 0.5, 1], np.array([0.2, 0.0, 0.1])) is None
    assert first_crossing([0, 0.5, 1], np.array([0.2, 0.0, -0.2])) == 0.5
    assert first_crossing([0, 0.5, 1], np.zeros(3)) is None


def test_the_interval_holds_the_crossing_and_says_where_there_is_none() -> None:
    random = np.random.default_rng(0)
    strengths = [0.0, 0.25, 0.5, 0.75, 1.0]
    line = 0.4 - np.array(strengths)
    differences = line + random.normal(0, 0.1, (30, 1))
    differences[3, 2] = np.nan
    found = crossing(strengths, differences)
    assert found.cases == 29
    assert found.at is not None
    assert found.ci95 is not None
    assert found.ci95[0] < 0.4 < found.ci95[1]
    assert found.share > 0.99
    apart = crossing(strengths, np.abs(differences) + 1)
    assert (apart.at, apart.ci95, apart.share) == (None, None, 0.0)
    alone = crossing(strengths, differences, groups=["p"] * 30)
    assert (alone.at, alone.ci95) == (found.at, None)  # one patient says nothing of the spread
    assert crossing(strengths, differences * np.nan).cases == 0


def test_two_nets_see_the_same_shifted_images(look_at: Look, tmp_path: Path) -> None:
    one = replace(look_at(task="multilabel", name="one"), stems=("i0", "i1"))
    found = compare_shift(
        [one, replace(one, name="two")], tmp_path, strengths=(0, 0.5), kinds=("texture", "noise")
    )
    assert found["one.noise.dice_at_0.5"] == found["two.noise.dice_at_0.5"]
    assert not any("crosses_at" in key for key in found)  # one net does not cross itself
    rows = list(csv.DictReader((tmp_path / "crossings.csv").read_text().splitlines()))
    assert [(row["kind"], row["crosses_at"]) for row in rows] == [("texture", ""), ("noise", "")]
    cases = (tmp_path / "cases.csv").read_text().splitlines()
    assert len(cases) == 1 + 2 * 2 * 2 * 2 * 2  # nets, images, kinds, strengths, classes
    assert {"shift.png", "shift-examples.svg"} <= {path.name for path in tmp_path.iterdir()}


def test_contrast_is_looked_at_where_the_net_can_see_it(look_at: Look, tmp_path: Path) -> None:
    own = look_at()
    assert "contrast" not in kinds_for([own])
    fixed = Normalising(kind="fixed", mean=(1000.0,), std=(500.0,))
    description = own.description.model_copy(update={"normalising": fixed})
    seen = replace(own, description=description, graph=description.build_graph().eval())
    assert kinds_for([own, seen]) == tuple(KINDS)
    with pytest.raises(RequestInvalid, match="rise from 0"):
        compare_shift([own], tmp_path, strengths=(0.5, 1.0))


def test_an_image_without_background_has_no_score_under_texture(look_at: Look) -> None:
    probed = replace(look_at(), stems=("i0",))
    image = replace(probed.image("i0"), truth=np.full((44, 60), 1, np.uint8))
    with pytest.raises(NoTexture):
        shifted_pixels(probed, image, "texture", 0.0)
    assert shifted_pixels(probed, image, "noise", 0.5).dtype == np.uint16

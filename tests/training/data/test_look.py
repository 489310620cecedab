import numpy as np
import pytest

from training.data.look import ALIKE, MOST_COMPARED, alike_shares, look_of


def cells(seed: int, *, bright: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = rng.normal(20, 4, (80, 80, 1))
    image[10:30, 20:50] += 150
    return image if bright else 255 - image


def test_gain_and_offset_do_not_make_another_kind():
    image = cells(0, bright=True)
    np.testing.assert_allclose(look_of(image * 250 + 3000), look_of(image), atol=1e-9)


def test_an_image_turned_over_has_the_levels_of_the_other_side():
    *levels, colour = look_of(cells(0, bright=True))
    *turned, still = look_of(cells(0, bright=False))
    np.testing.assert_allclose(turned, [-level for level in levels][::-1], atol=1e-9)
    assert colour == still == 0


def test_colour_is_told_in_deviations_of_the_grey():
    grey = np.repeat(cells(0, bright=True), 3, axis=2)
    assert look_of(grey)[-1] == pytest.approx(0)
    stained = grey * [1.0, 0.5, 0.8]
    assert look_of(stained)[-1] > 0.1
    np.testing.assert_allclose(look_of(stained * 200), look_of(stained))


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_an_image_without_spread_has_no_look(value):
    assert look_of(np.full((9, 9, 2), value)) == (0.0,) * 6


def test_two_bright_fields_among_eighteen_dark_ones_are_a_tenth():
    looks = [look_of(cells(seed, bright=seed % 10 != 0)) for seed in range(20)]
    shares = alike_shares(looks)
    np.testing.assert_allclose(shares, [0.1 if seed % 10 == 0 else 0.9 for seed in range(20)])


def test_many_images_are_compared_with_a_choice_of_them():
    looks = np.zeros((3 * MOST_COMPARED, 6))
    looks[::2, 0] = 2 * ALIKE
    looks[1, 1] = 9.0  # not among those that are compared with
    shares = alike_shares([tuple(look) for look in looks])
    assert shares[1] == pytest.approx(1 / len(looks))
    np.testing.assert_allclose(shares[2:], 0.5, atol=0.01)

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.case import CaseFacts
from training.data.draws import MOST_REPEATED, Draws, repeat_factors

DARK, BRIGHT = (-1.0, -0.5, 0.0, 0.5, 2.0, 0.0), (-2.0, -0.5, 0.0, 0.5, 1.0, 0.0)


def facts(*, side=64, classes=(1, 1), look=DARK):
    return CaseFacts(side, side, 1, classes, 0, look)


@given(
    st.lists(st.floats(1, 10), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(0, 2**31),
    st.integers(0, 500),
)
def test_every_epoch_draws_each_image_as_often_as_its_factor_says(factors, times, seed, epoch):
    samples = times * len(factors)
    draws = Draws(np.array(factors), samples=samples, seed=seed)
    count = Counter(draws.image_of(epoch, sample) for sample in range(samples))
    assert sum(count.values()) == samples
    for image, factor in enumerate(factors):
        expected = samples * factor / sum(factors)
        assert math.floor(expected - 1e-6) <= count[image] <= math.ceil(expected + 1e-6)


def test_over_the_epochs_the_rounding_evens_out():
    draws = Draws(np.array([1.0, 1.0, 3.5]), samples=3, seed=0)
    count = Counter(draws.image_of(epoch, sample) for epoch in range(2000) for sample in range(3))
    np.testing.assert_allclose(
        [count[i] / 6000 for i in range(3)], np.array([1, 1, 3.5]) / 5.5, atol=0.02
    )


def test_equal_factors_draw_as_if_nothing_were_set():
    draws = Draws(np.ones(7), samples=21, seed=4)
    assert [draws.image_of(3, sample) for sample in range(21)] == [s // 3 for s in range(21)]


def test_a_class_in_one_of_a_hundred_images_is_drawn_five_times_as_often():
    holds = [facts(classes=(9, 5, 2))] + [facts(classes=(9, 5, 0)) for _ in range(99)]
    factors = repeat_factors(holds, rare_share=0.25)
    np.testing.assert_allclose(factors, [5.0] + [1.0] * 99)
    # The first class counts where it is not background.
    rare_first = [facts(classes=(1, 5))] + [facts(classes=(0, 5)) for _ in range(99)]
    assert repeat_factors(rare_first, rare_share=0.25)[0] == 1
    assert repeat_factors(rare_first, rare_share=0.25, background=False)[0] == pytest.approx(5)


def test_the_rarer_of_class_and_kind_counts():
    images = [facts(look=BRIGHT, classes=(1, 1))] * 4 + [facts(classes=(1, 0))] * 96
    images[4] = facts(classes=(1, 1))
    factors = repeat_factors(images, rare_share=0.25)
    np.testing.assert_allclose(factors[:4], math.sqrt(0.25 / 0.04))  # of the kind: 4 %
    assert factors[4] == pytest.approx(math.sqrt(0.25 / 0.05))  # of the class: 5 %
    np.testing.assert_allclose(factors[5:], 1.0)


def test_where_everything_is_common_nothing_is_repeated():
    images = [facts(look=BRIGHT)] * 5 + [facts(classes=(1, 0))] * 5
    np.testing.assert_array_equal(repeat_factors(images, rare_share=0.25), np.ones(10))


def test_pixels_count_in_patches_and_small_images_as_one():
    images = [facts(side=side) for side in (16, 64, 128, 256)]
    root = repeat_factors(images, rare_share=0, area_power=0.5, patch_hw=(64, 64))
    np.testing.assert_allclose(root, [1, 1, 2, 4])
    whole = repeat_factors(images, rare_share=0, area_power=0.5)
    np.testing.assert_array_equal(whole, np.ones(4))


def test_no_image_takes_the_training_over():
    images = [facts(side=64)] * 9 + [facts(side=10_000)]
    factors = repeat_factors(images, rare_share=0.25, area_power=1.0, patch_hw=(64, 64))
    assert factors[-1] == MOST_REPEATED * factors[0]


def test_images_without_any_class_are_common():
    empty = [facts(classes=(9, 0))] * 9 + [facts(classes=(9, 1))]
    factors = repeat_factors(empty, rare_share=0.25)
    np.testing.assert_allclose(factors, [1.0] * 9 + [math.sqrt(2.5)])

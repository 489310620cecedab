import tracemalloc

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.statistics import image_statistics


def test_closed_form():
    image = np.array([[[0, 2]], [[5, 5]]], np.float32)
    expected = [[1, 1], [5, 0]]
    statistics = image_statistics(image)
    assert statistics.dtype == np.float32
    assert np.array_equal(statistics, expected)


def test_a_small_spread_on_a_large_mean_survives():
    """float32, or mean(x²) - mean(x)², would give a std of 0 or hundreds."""
    image = np.full((1, 3000, 1000), 60000, np.float32)
    image[:, ::2] += 1
    assert np.array_equal(image_statistics(image), np.array([[60000.5, 0.5]], np.float32))


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=9),
        elements=st.integers(-1024, 65535).map(float),
    )
)
def test_as_numpy_in_float64_and_blind_to_the_memory_layout(image):
    wide = image.astype(np.float64)
    expected = np.stack([wide.mean((1, 2)), wide.std((1, 2))], axis=1)
    assert np.allclose(image_statistics(image), expected, rtol=1e-6, atol=1e-6)
    strided = np.ascontiguousarray(image.transpose(2, 1, 0)).transpose(2, 1, 0)
    assert np.array_equal(image_statistics(strided), image_statistics(image))


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_is_bounded(order):
    image = np.zeros((1, 4000, 4000), np.float32, order=order)
    tracemalloc.start()
    try:
        image_statistics(image)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6  # the image itself is 64 MB, in float64 it would be 128 MB


def test_as_the_graph_takes_them(open_threshold_model, picture):
    """Given to the graph, they change nothing against the graph's own."""
    model, image = open_threshold_model(channels=3), picture(3, 301, 203)
    own = model.run(image[None], outputs=("probabilities",))["probabilities"]
    given_ = model.run(
        image[None], statistics=image_statistics(image)[None], outputs=("probabilities",)
    )["probabilities"]
    assert np.abs(own - given_).max() < 1e-6

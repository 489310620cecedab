"""The pictures of the proof show something at every size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.graph.prove import PROOF_SIZES, proof_batch

RANGE = (0.0, 255.0)


@pytest.mark.parametrize("size", PROOF_SIZES)
def test_a_large_picture_is_as_little_saturated_as_a_small_one(size: tuple[int, int]) -> None:
    """Drawn at once, 99 % of 250 x 300 px were white, and a proof on them would prove little."""
    batch = proof_batch([97, 98, 99], 2, size, RANGE)
    assert (batch < RANGE[1]).mean() > 0.6
    if size != (1, 1):
        assert batch.std(axis=(2, 3)).min() > 10


@given(height=st.integers(1, 150), width=st.integers(1, 150), channels=st.integers(1, 4))
def test_any_size_is_a_cut_of_one_endless_picture(height: int, width: int, channels: int) -> None:
    batch = proof_batch([3, 4], channels, (height, width), RANGE)
    assert batch.shape == (2, channels, height, width)
    assert batch.flags.c_contiguous
    whole = proof_batch([3, 4], channels, (192, 192), RANGE)
    assert np.array_equal(batch, whole[..., :height, :width])
    assert np.array_equal(whole[..., 64:128, 64:128], whole[..., :64, :64])
    assert not np.array_equal(whole[0], whole[1])

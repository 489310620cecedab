import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.graph.pad import Pad
from training.graph.resample import Resample


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    divisor=st.sampled_from([1, 2, 8, 16, 32]),
    doubled=st.booleans(),
)
def test_pad_reaches_the_divisor_and_crop_gives_the_image_back(
    height: int, width: int, divisor: int, doubled: bool
) -> None:
    least = divisor * (2 if doubled else 1)
    pad = Pad(divisor, least=least)
    image = torch.rand(1, 2, height, width)
    padded = pad(image)
    for side, given_side in zip(padded.shape[2:], (height, width), strict=True):
        assert side % divisor == 0
        assert side >= least
        assert side - given_side < max(divisor, least)
    assert torch.equal(pad.crop(padded, (height, width)), image)


def test_padding_repeats_the_border() -> None:
    image = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    assert Pad(4)(image)[0, 0].tolist() == [[1.0, 2.0, 3.0, 3.0]] * 4


def test_an_image_that_fits_is_left_alone() -> None:
    image = torch.rand(1, 1, 32, 64)
    assert torch.equal(Pad(16)(image), image)


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (96, 40), (200, 180)])
def test_resampling_there_and_back_keeps_a_linear_ramp(size: tuple[int, int]) -> None:
    """Bilinear with half-pixel centres reproduces a ramp away from the border."""
    rows = torch.arange(size[0], dtype=torch.float32)[:, None].expand(size)[None, None]
    resample = Resample((96, 96))
    back = resample.back(resample(rows), size)
    assert back.shape == rows.shape
    # One working pixel spans size / 96 rows; nothing may move by more than one of them.
    assert float((back - rows).abs().max()) <= max(1.0, size[0] / 96)


def test_a_constant_image_stays_constant() -> None:
    image = torch.full((1, 3, 57, 91), 7.0)
    torch.testing.assert_close(Resample((32, 48))(image), torch.full((1, 3, 32, 48), 7.0))


def test_down_sampling_is_antialiased() -> None:
    """A one-pixel checkerboard becomes its mean and not a moire of blacks and whites."""
    board = (torch.arange(64)[:, None] + torch.arange(64)[None]).remainder(2).float()[None, None]
    small = Resample((16, 16))(board)
    torch.testing.assert_close(small, torch.full_like(small, 0.5), atol=0.05, rtol=0)

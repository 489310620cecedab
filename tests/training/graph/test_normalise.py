import numpy as np
import pytest
import torch

from contract.spec import Normalising
from contract.statistics import image_statistics as contract_statistics
from training.graph.normalise import Normalise, image_statistics


def test_own_statistics_give_mean_0_and_std_1() -> None:
    image = torch.rand(2, 3, 17, 23) * 255
    seen = Normalise(Normalising(kind="image"))(image)
    torch.testing.assert_close(seen.mean(dim=(2, 3)), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        seen.std(dim=(2, 3), correction=0), torch.ones(2, 3), atol=1e-5, rtol=0
    )


def test_a_constant_channel_becomes_zero_and_not_nan() -> None:
    image = torch.full((1, 1, 5, 7), 200.0)
    assert torch.equal(Normalise(Normalising(kind="image"))(image), torch.zeros(1, 1, 5, 7))


def test_fixed_numbers_are_those_of_the_spec() -> None:
    normalise = Normalise(Normalising(kind="fixed", mean=(10.0, 0.0), std=(2.0, 4.0)))
    image = torch.full((1, 2, 1, 1), 12.0)
    assert normalise(image).flatten().tolist() == [1.0, 3.0]


def test_given_statistics_replace_the_own_one_by_one() -> None:
    image = torch.arange(4.0).reshape(1, 1, 2, 2)
    given = torch.tensor([[[1.0, float("nan")]]])  # the mean is given, the std is the image's own
    own_std = float(np.arange(4.0).std())
    expected = (image - 1.0) / own_std
    torch.testing.assert_close(Normalise(Normalising(kind="image"))(image, given), expected)


def test_statistics_of_each_image_or_of_all() -> None:
    image = torch.rand(3, 2, 4, 4)
    one = torch.tensor([[[0.5, 2.0], [0.1, 4.0]]])
    normalise = Normalise(Normalising(kind="image"))
    assert torch.equal(normalise(image, one), normalise(image, one.expand(3, 2, 2)))


@pytest.mark.parametrize("offset", [0.0, 1e4, 6e4])
def test_large_16_bit_images_keep_their_digits(offset: float) -> None:
    """float32 sums over 1024² pixels near 65 000 lose the third digit of a small std."""
    generator = np.random.default_rng(0)
    image = (offset + generator.normal(0, 3, (1, 1, 1024, 1024))).astype(np.float32)
    mean, std = image_statistics(torch.from_numpy(image))[0, 0].tolist()
    assert mean == pytest.approx(image.astype(np.float64).mean(), rel=1e-7)
    assert std == pytest.approx(image.astype(np.float64).std(), rel=1e-6)


def test_contract_and_graph_agree_on_what_statistics_are() -> None:
    image = np.random.default_rng(1).uniform(0, 4095, (3, 37, 41)).astype(np.float32)
    ours = image_statistics(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(contract_statistics(image), ours, rtol=1e-6)

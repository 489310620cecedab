import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.graph.activate import Activate


@given(classes=st.integers(2, 12), seed=st.integers(0, 1000))
def test_multiclass_is_argmax_and_softmax(classes: int, seed: int) -> None:
    logits = torch.randn(2, classes, 5, 7, generator=torch.Generator().manual_seed(seed)) * 4
    labels, probabilities = Activate("multiclass")(logits)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), logits.argmax(dim=1))
    torch.testing.assert_close(probabilities, logits.softmax(dim=1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_lowest_index_wins_a_tie(classes: int) -> None:
    labels, probabilities = Activate("multiclass")(torch.zeros(1, classes, 2, 2))
    assert not labels.any()
    torch.testing.assert_close(probabilities, torch.full((1, classes, 2, 2), 1 / classes))


def test_large_logits_do_not_overflow() -> None:
    logits = torch.tensor([1e4, -1e4, 9e3]).reshape(1, 3, 1, 1)
    labels, probabilities = Activate("multiclass")(logits)
    assert labels.item() == 0
    assert probabilities.flatten().tolist() == [1.0, 0.0, 0.0]


def test_the_highest_class_index_fits_uint8() -> None:
    logits = torch.zeros(1, 255, 1, 1)
    logits[0, 254] = 1.0
    assert Activate("multiclass")(logits)[0].item() == 254


def test_multilabel_classes_are_independent() -> None:
    logits = torch.tensor([2.0, -1.0, 3.0]).reshape(1, 3, 1, 1)
    labels, probabilities = Activate("multilabel")(logits)
    assert labels.flatten().tolist() == [1, 0, 1]
    torch.testing.assert_close(probabilities, logits.sigmoid())

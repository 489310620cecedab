import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.decision import labels_of, tie_margin


def softmax(seed, classes):
    logits = np.random.default_rng(seed).normal(0, 2, (classes, 6, 7))
    exponentials = np.exp(logits)
    return (exponentials / exponentials.sum(axis=0)).astype(np.float32)


def test_labels_of_probabilities():
    two = np.array([[[0.5, 0.4, 0.6]], [[0.5, 0.6, 0.4]]], np.float32)
    assert labels_of(two, "multiclass").tolist() == [[0, 1, 0]]
    three = np.array([[[0.2, 0.4]], [[0.2, 0.4]], [[0.6, 0.2]]], np.float32)
    assert labels_of(three, "multiclass").tolist() == [[2, 0]]
    assert labels_of(two, "multilabel").tolist() == [[[1, 0, 1]], [[1, 1, 0]]]
    assert labels_of(two, "multilabel").dtype == np.uint8


@given(seed=st.integers(0, 1000), threshold=st.floats(0.01, 0.99))
def test_two_classes_are_a_threshold_on_the_second(seed, threshold):
    probabilities = softmax(seed, 2)
    clear = np.abs(probabilities[1] - threshold) > 1e-5
    labels = labels_of(probabilities, "multiclass", (1 - threshold, threshold))
    assert np.array_equal(labels[clear], (probabilities[1] > threshold)[clear])


@given(seed=st.integers(0, 1000), classes=st.integers(2, 6))
def test_equal_thresholds_change_nothing(seed, classes):
    probabilities = softmax(seed, classes)
    equal = [1 / classes] * classes
    for given_thresholds in (equal, None):
        labels = labels_of(probabilities, "multiclass", given_thresholds)
        assert np.array_equal(labels, probabilities.argmax(axis=0))
        best_two = np.sort(probabilities, axis=0)[-2:]
        margin = tie_margin(probabilities, "multiclass", given_thresholds)
        np.testing.assert_allclose(margin, best_two[1] - best_two[0], atol=1e-6)


@given(seed=st.integers(0, 1000), classes=st.integers(2, 5))
def test_a_lower_threshold_never_loses_a_pixel_of_its_class(seed, classes):
    probabilities = softmax(seed, classes)
    weights = np.random.default_rng(seed).dirichlet(np.full(classes, 4.0))
    lower = weights.copy()
    lower[1] /= 3
    before = labels_of(probabilities, "multiclass", weights) == 1
    after = labels_of(probabilities, "multiclass", lower / lower.sum()) == 1
    assert not (before & ~after).any()


@given(seed=st.integers(0, 1000), classes=st.integers(2, 5))
def test_a_label_beyond_the_margin_survives_an_error(seed, classes):
    """An error of e in every probability can flip a label only where the margin is within 2 e."""
    probabilities = softmax(seed, classes)
    generator = np.random.default_rng(seed)
    thresholds = generator.dirichlet(np.full(classes, 4.0))
    error = 1e-2
    moved = probabilities + generator.uniform(-error, error, probabilities.shape).astype("f4")
    clear = tie_margin(probabilities, "multiclass", thresholds) > 2 * error
    same = labels_of(moved, "multiclass", thresholds) == labels_of(
        probabilities, "multiclass", thresholds
    )
    assert same[clear].all()


def test_multilabel_thresholds_are_one_per_class():
    probabilities = np.array([[[0.2, 0.3]], [[0.8, 0.9]]], np.float32)
    assert labels_of(probabilities, "multilabel", (0.25, 0.85)).tolist() == [[[0, 1]], [[0, 1]]]
    margin = tie_margin(probabilities, "multilabel", (0.25, 0.85))
    assert margin.ravel().tolist() == pytest.approx([0.1, 0.1, 0.1, 0.1], abs=1e-6)


def test_a_batch_has_the_margins_of_its_images():
    images = np.stack([softmax(seed, 3) for seed in range(2)])
    each = [tie_margin(image, "multiclass", (0.2, 0.3, 0.5)) for image in images]
    assert np.array_equal(tie_margin(images, "multiclass", (0.2, 0.3, 0.5)), np.stack(each))

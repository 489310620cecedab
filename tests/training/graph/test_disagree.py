"""Disagreement of members: closed forms, bounds, and nothing else changed by it."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.graph.assemble import ModelGraph
from training.graph.disagree import Disagree
from training.graph.onnx_file import trace


def logits_of(probabilities: list[float]) -> Tensor:
    return torch.log(torch.tensor(probabilities)).reshape(1, -1, 1, 1)


def of(*members: list[float]) -> float:
    return float(Disagree("multiclass")([[logits_of(p)] for p in members]))


def entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=0)


def test_members_that_say_the_same_do_not_disagree_however_unsure() -> None:
    assert of([0.5, 0.5], [0.5, 0.5]) == 0
    assert of([0.2, 0.3, 0.5], [0.2, 0.3, 0.5], [0.2, 0.3, 0.5]) == pytest.approx(0, abs=1e-6)


def test_members_that_are_sure_of_different_classes_disagree_most() -> None:
    assert of([1, 0], [0, 1]) == pytest.approx(math.log(2))
    assert of([1, 0, 0], [0, 1, 0], [0, 0, 1]) == pytest.approx(math.log(3))


def test_one_in_closed_form() -> None:
    # H(0.6, 0.4) - (H(0.9, 0.1) + H(0.3, 0.7)) / 2
    mean, first, second = 0.6730117, 0.3250830, 0.6108643
    assert of([0.9, 0.1], [0.3, 0.7]) == pytest.approx(mean - (first + second) / 2, abs=1e-6)


def test_overlapping_classes_disagree_each_by_itself() -> None:
    sure, unsure = 30.0, 0.0
    members = [torch.tensor([sure, unsure]), torch.tensor([-sure, unsure])]
    found = Disagree("multilabel")([[logits.reshape(1, 2, 1, 1)] for logits in members])
    assert found.flatten().tolist() == pytest.approx([math.log(2), 0], abs=1e-6)


def test_views_of_one_member_are_no_disagreement() -> None:
    one, other = logits_of([0.9, 0.1]), logits_of([0.3, 0.7])
    assert float(Disagree("multiclass")([[one, other], [other, one]])) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(2, 5), st.integers(0, 2**32 - 1), st.floats(0, 200))
def test_it_is_mutual_information_within_its_bounds(
    members: int, classes: int, seed: int, scale: float
) -> None:
    random = np.random.default_rng(seed)
    logits = (scale * random.normal(size=(members, classes, 3, 4))).astype(np.float32)
    found = Disagree("multiclass")([[torch.from_numpy(one)[None]] for one in logits])[0].numpy()
    wide = logits.astype(np.float64)
    weights = np.exp(wide - wide.max(axis=1, keepdims=True))
    p = weights / weights.sum(axis=1, keepdims=True)
    expected = entropy(p.mean(axis=0)) - np.mean([entropy(one) for one in p], axis=0)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert (found >= 0).all()
    assert (found <= math.log(min(members, classes)) + 1e-6).all()


@pytest.mark.parametrize(
    ("task", "classes", "mirrors"), [("multiclass", 3, ("horizontal",)), ("multilabel", 2, ())]
)
def test_a_file_with_it_gives_the_labels_of_one_without_bit_for_bit(
    small_graph: Callable[..., ModelGraph],
    tmp_path: Path,
    task: str,
    classes: int,
    mirrors: tuple[str, ...],
) -> None:
    graph = small_graph(
        task=task, classes=classes, members=2, mirrors=mirrors, temperature=1.4, widths=(4, 6)
    )
    assert graph.outputs == ("labels", "probabilities", "disagreement")
    image = np.random.default_rng(0).uniform(0, 255, (2, 1, 33, 47)).astype(np.float32)
    with torch.inference_mode():
        own = [answer.numpy() for answer in graph(torch.from_numpy(image))]
    answers = []
    for name in ("with", "without"):
        if name == "without":
            graph.disagree = None
        (tmp_path / name).write_bytes(trace(graph, channels=1).SerializeToString())
        session = ort.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        answers.append(
            dict(
                zip(
                    [o.name for o in session.get_outputs()],
                    session.run(None, {"image": image}),
                    strict=True,
                )
            )
        )
    with_it, without = answers
    assert set(with_it) - set(without) == {"disagreement"}
    for name in ("labels", "probabilities"):
        np.testing.assert_array_equal(with_it[name], without[name])
    assert with_it["disagreement"].shape == with_it["labels"].shape
    np.testing.assert_allclose(with_it["disagreement"], own[2], atol=1e-5)
    assert with_it["disagreement"].max() > 1e-4


def test_one_net_has_no_such_output_mirrored_or_not(
    small_graph: Callable[..., ModelGraph],
) -> None:
    for mirrors in ((), ("horizontal", "vertical")):
        graph = small_graph(mirrors=mirrors)
        assert graph.outputs == ("labels", "probabilities")
        assert len(graph(torch.rand(1, 1, 20, 20))) == 2

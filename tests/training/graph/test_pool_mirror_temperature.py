"""The stages that only an export adds, each by itself and then in one graph."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contract.decision import labels_of, tie_margin
from contract.spec import Mirror
from training.graph.activate import Activate, Task, probabilities_of
from training.graph.assemble import ModelGraph
from training.graph.mirror import MirrorViews
from training.graph.pool import Pool
from training.graph.temperature import Temperature

ALL_MIRRORS: tuple[Mirror, ...] = ("horizontal", "vertical", "both")
tasks = st.sampled_from(["multiclass", "multilabel"])


def drawn(seed: int, classes: int, spread: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(2, classes, 4, 5, generator=generator)


@given(task=tasks, classes=st.integers(2, 5), answers=st.integers(1, 4), seed=st.integers(0, 999))
def test_pooled_logits_mean_the_mean_probability(
    task: Task, classes: int, answers: int, seed: int
) -> None:
    each = [drawn(seed + index, classes) for index in range(answers)]
    mean = torch.stack([probabilities_of(logits, task) for logits in each]).mean(dim=0)
    pooled = Pool(task)(each)
    torch.testing.assert_close(probabilities_of(pooled, task), mean, atol=2e-6, rtol=1e-5)
    backwards = Pool(task)(each[::-1])
    torch.testing.assert_close(pooled, backwards, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_pooling_answers_that_are_certain_stays_finite(task: Task) -> None:
    sure = torch.tensor([1e4, -1e4, -1e4]).reshape(1, 3, 1, 1)
    alone = Pool(task)([sure, sure])
    assert torch.isfinite(alone).all()
    assert probabilities_of(alone, task).flatten().tolist() == pytest.approx([1, 0, 0])
    split = Pool(task)([sure, sure.flip(1)])
    assert probabilities_of(split, task).flatten().tolist() == pytest.approx([0.5, 0.0, 0.5])


def test_every_view_turns_back_onto_the_image() -> None:
    image = drawn(0, 3)
    stage = MirrorViews(ALL_MIRRORS)
    views = stage(image)
    assert torch.equal(views[0], image)
    assert torch.equal(views[1][..., 0], image[..., -1])  # left and right exchanged
    assert torch.equal(views[2][..., 0, :], image[..., -1, :])  # top and bottom
    assert torch.equal(views[3], image.rot90(2, (2, 3)))
    for index, view in enumerate(views):
        assert torch.equal(stage.back(view, index), image)


@given(
    temperature=st.floats(0.05, 20.0),
    task=tasks,
    classes=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_a_temperature_never_changes_a_label(
    temperature: float, task: Task, classes: int, seed: int
) -> None:
    logits = drawn(seed, classes)
    scaled = Temperature(temperature)(logits)
    assert torch.equal(Activate(task).labels(scaled), Activate(task).labels(logits))
    expected = probabilities_of(logits.double() / temperature, task).float()
    torch.testing.assert_close(probabilities_of(scaled, task), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Temperature(temperature)


@given(task=tasks, classes=st.integers(2, 5), seed=st.integers(0, 999))
def test_thresholds_in_the_graph_are_those_of_the_contract(
    task: Task, classes: int, seed: int
) -> None:
    shares = np.random.default_rng(seed).dirichlet(np.full(classes, 4.0)).clip(1e-3)
    thresholds = shares.tolist()
    labels, probabilities = Activate(task, thresholds_prob=thresholds)(drawn(seed, classes))
    assert torch.equal(
        probabilities, Activate(task)(drawn(seed, classes))[1]
    )  # thresholds move labels alone
    for own, image in zip(labels.numpy(), probabilities.numpy(), strict=True):
        clear = tie_margin(image, task, thresholds) > 1e-5
        assert np.array_equal(own[clear], labels_of(image, task, thresholds)[clear])


def test_one_net_without_options_has_no_further_stage(
    small_graph: Callable[..., ModelGraph],
) -> None:
    graph = small_graph()
    assert graph.pool is None
    assert graph.mirror is None
    assert graph.temperature is None
    assert not [name for name in graph.state_dict() if not name.startswith("net.")]


@pytest.mark.parametrize("working_size", [None, (40, 56)])
def test_mirrors_in_the_graph_are_flips_outside_of_it(
    small_graph: Callable[..., ModelGraph], working_size: tuple[int, int] | None
) -> None:
    plain = small_graph(classes=3, working_size=working_size)
    mirrored = small_graph(classes=3, working_size=working_size, mirrors=ALL_MIRRORS)
    image = 255 * torch.rand(2, 1, 33, 47, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        flips = [(), (3,), (2,), (2, 3)]
        outside = [plain(image.flip(axes))[1].flip(axes) for axes in flips]
        inside = mirrored(image)[1]
    torch.testing.assert_close(inside, torch.stack(outside).mean(dim=0), atol=1e-5, rtol=0)
    assert (inside - outside[0]).abs().max() > 1e-3


def test_members_are_averaged_by_probability(small_graph: Callable[..., ModelGraph]) -> None:
    graph = small_graph(classes=3, members=3)
    nets = [graph.net, *graph.more_nets]
    image = 255 * torch.rand(1, 1, 30, 41, generator=torch.Generator().manual_seed(1))
    alone = small_graph(classes=3)
    each = []
    with torch.inference_mode():
        for net in nets:
            alone.net.load_state_dict(net.state_dict())
            each.append(alone(image)[1])
        mean = torch.stack(each).mean(dim=0)
        labels, probabilities, _ = graph(image)
    torch.testing.assert_close(probabilities, mean, atol=1e-5, rtol=0)
    clear = torch.from_numpy(tie_margin(mean.numpy(), "multiclass") > 1e-4)
    assert torch.equal(labels[clear].long(), mean.argmax(dim=1)[clear])

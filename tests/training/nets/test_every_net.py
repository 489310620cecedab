"""One tester for all nets: what training, export and tiling rely on, whoever wrote the layers."""

import copy
import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout

import numpy as np
import onnxruntime as ort
import pytest
import torch

from training.nets.build import ARCHITECTURES, export_refusal
from training.nets.config import NetConfig
from training.nets.net import SegmentationNet
from training.nets.smp_architectures import SMP_ARCHITECTURES

Build = Callable[[NetConfig], SegmentationNet]
Image = Callable[..., torch.Tensor]

TINY = (4, 6, 8)
SMP_TINY = (4, 6, 8, 8)

OWN = {
    "concat": NetConfig(widths=TINY),
    "add": NetConfig(widths=TINY, long_skips="add"),
    "attention": NetConfig(widths=TINY, long_skips="attention"),
    "none": NetConfig(widths=TINY, long_skips="none"),
    "mixed": NetConfig(widths=(4, 4, 6, 6, 8), long_skips="none,add,attention,concat"),
    "residual-group-leaky": NetConfig(
        widths=TINY, long_skips="add", block="residual", norm="group", activation="leaky"
    ),
    "dense-instance-gelu": NetConfig(
        widths=TINY, long_skips="attention", block="dense", norm="instance", activation="gelu"
    ),
    "no-norm-sigmoid-xavier": NetConfig(
        widths=TINY, norm="none", activation="sigmoid", init="xavier", convs_per_block=1
    ),
    "residual-odd-tanh": NetConfig(
        widths=TINY, block="residual", norm="none", activation="tanh", convs_per_block=3
    ),
    "dropout-default-init": NetConfig(widths=TINY, dropout=0.3, init="default"),
    "parameter-matched": NetConfig(widths=TINY, long_skips="none", match="parameters"),
}
SMP_UNETS = {
    "smp-resnet18": NetConfig("smp-unet", widths=SMP_TINY, long_skips="add,none,attention"),
    "smp-mobilenet_v2": NetConfig("smp-unet", "mobilenet_v2", widths=SMP_TINY),
    "smp-convnext": NetConfig("smp-unet", "tu-convnext_atto", widths=SMP_TINY),
}
AS_IS = {name: NetConfig(name) for name in SMP_ARCHITECTURES}
EVERY = {**OWN, **SMP_UNETS, **AS_IS}
EXPORTED = (
    "mixed",
    "residual-group-leaky",
    "dense-instance-gelu",
    "smp-resnet18",
    "smp-mobilenet_v2",
    "deeplabv3plus",
)


@pytest.fixture(scope="module", params=EVERY.values(), ids=EVERY.keys())
def config(request: pytest.FixtureRequest) -> NetConfig:
    """Each net in turn; pytest runs all tests on one before it goes to the next."""
    chosen: NetConfig = request.param
    return chosen


@pytest.fixture(scope="module")
def net(config: NetConfig, build: Build) -> SegmentationNet:
    """The net of ``config`` in eval mode; a test that changes it works on a copy."""
    return build(config)


def test_every_architecture_is_covered() -> None:
    assert {config.architecture for config in EVERY.values()} == set(ARCHITECTURES)


def test_logits_have_the_size_of_the_image(net: SegmentationNet, image: Image) -> None:
    least, step = net.least_side, net.divisor
    assert least % step == 0
    for height, width, batch in ((least, least, 1), (least + step, least, 3)):
        with torch.no_grad():
            logits = net(image(height, width, batch))
        assert logits.shape == (batch, 3, height, width)
        assert logits.isfinite().all()


def test_backward_reaches_every_parameter(net: SegmentationNet, image: Image) -> None:
    net = copy.deepcopy(net).train()
    logits = net(image(net.least_side, 2 * net.least_side, batch=2))
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (logits * weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    moved = [gradient is not None and bool(gradient.any()) for gradient in gradients.values()]
    # A few may be dead at the start (behind a ReLU, or a bias in front of a norm).
    assert sum(moved) >= 0.9 * len(moved)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients.values())


def test_an_image_is_answered_alike_alone_and_in_a_batch(
    net: SegmentationNet, image: Image
) -> None:
    batch = image(net.least_side, 2 * net.least_side, batch=2)
    with torch.no_grad():
        torch.testing.assert_close(net(batch)[1:], net(batch[1:]), rtol=1e-4, atol=1e-5)


def test_the_same_seed_makes_the_same_net(
    config: NetConfig, net: SegmentationNet, build: Build
) -> None:
    first, second = net.state_dict(), build(config).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_tileable_tells_whether_an_answer_reaches_across_the_image(
    net: SegmentationNet, image: Image
) -> None:
    # A strip longer than the widest bounded field of view here: 318 pixels for U-Net++.
    strip = image(net.least_side, max(384, 3 * net.least_side), batch=1)
    changed = strip.clone()
    changed[..., : net.divisor] += 5.0
    with torch.no_grad():
        difference = (net(strip) - net(changed)).abs()
    assert difference[..., : net.divisor].max() > 0
    assert bool((difference[..., -net.divisor :] == 0).all()) == net.tileable


def test_what_the_net_says_of_its_dial_is_what_was_built(
    config: NetConfig, net: SegmentationNet
) -> None:
    assert net.export_refusal == export_refusal(config)
    assert net.exportable == (net.export_refusal is None)
    if config.architecture in SMP_ARCHITECTURES:
        assert (net.long_skips, net.widths) == ((), ())
        return
    assert len(net.long_skips) == len(net.widths) - 1 == config.levels
    skips = net.get_submodule("skips" if config.architecture == "unet" else "decoder.skips")
    names = {"Concat": "concat", "Add": "add", "AttentionGate": "attention", "NoSkip": "none"}
    assert net.long_skips == tuple(names[type(skip).__name__] for skip in skips.children())


@pytest.mark.parametrize("architecture", ["pspnet", "upernet"])
def test_what_exports_wrongly_is_refused_with_the_reason(architecture: str) -> None:
    refusal = export_refusal(NetConfig(architecture))
    assert refusal is not None
    assert "wrong at every other size" in refusal


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_the_exported_file_answers_as_the_net_does(name: str, build: Build, image: Image) -> None:
    net = build(EVERY[name])
    with torch.no_grad():  # norms that have seen something, so that folding them is put to the test
        net.train()(image(4 * net.divisor, 4 * net.divisor))
        net.eval()
    buffer = io.BytesIO()
    # torch.onnx warns and prints of its own accord.
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            (image(4 * net.divisor, 5 * net.divisor),),
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
            verbose=False,
        )
        assert program is not None
        program.save(buffer)
    session = ort.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0].name
    for height, width, batch in ((1, 2, 1), (3, 1, 3), (6, 9, 3)):
        x = image(max(height * net.divisor, net.least_side), width * net.least_side, batch)
        with torch.no_grad():
            expected = net(x).numpy()
        (answer,) = session.run(None, {feed: x.numpy()})
        assert answer.shape == expected.shape
        scale = np.abs(expected).max()
        assert scale > 0
        assert np.abs(answer - expected).max() <= 1e-4 * scale

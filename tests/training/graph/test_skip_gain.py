"""The dial: what a gain does to a net, to its file, and that the proof of it can fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from contract.errors import RequestInvalid
from contract.golden import golden_input
from contract.model import Model
from contract.spec import ModelSpec
from training.__main__ import main
from training.graph.assemble import ModelGraph
from training.graph.fp16 import half_nets
from training.graph.int8 import quantise
from training.graph.onnx_file import with_spec
from training.graph.prove import ExportWrong
from training.graph.prove_gain import proof_gains, prove_gain, scaled_skips
from training.graph.skip_gain import check_has_dial, products, stay_in_blocks
from training.nets.build import build_net
from training.nets.config import NetConfig

Traced = Callable[..., tuple[ModelGraph, onnx.ModelProto]]
SpecBuilder = Callable[..., ModelSpec]

RANGE = (0.0, 255.0)
SIZES = ((1, 1), (33, 47))
BOTH = ("labels", "probabilities")
SMP = NetConfig("smp-unet", widths=(4, 6, 8), long_skips="concat,add")


def opened(path: Path, model: onnx.ModelProto, spec: ModelSpec) -> Model:
    path.write_bytes(with_spec(model, spec))
    return Model.open(path, device="cpu", threads=1, prove=False)


def pictures(count: int) -> np.ndarray:
    return np.stack([golden_input(seed, (1, 45, 52), RANGE) for seed in range(count)])


@pytest.mark.parametrize("kind", ["concat", "add", "attention"])
def test_a_gain_scales_what_the_encoder_hands_over_before_it_is_joined(
    small_graph: Callable[..., ModelGraph], kind: str
) -> None:
    graph = small_graph(long_skips=kind)
    image = torch.from_numpy(pictures(4))
    gains = proof_gains(2)
    with torch.inference_mode():
        turned = graph.logits(image, skip_gain=torch.from_numpy(gains))
        rest = graph.logits(image, skip_gain=torch.ones(1, 2))
        plain = graph.logits(image)
        with scaled_skips(graph, gains):
            expected = graph.logits(image)
    assert torch.equal(rest, plain)
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-5)
    # All off, the finest off, the next off and mixed: no two are alike, and none is as trained.
    apart = [(turned[n] - plain[n]).abs().max() for n in range(4)]
    assert min(apart) > 1e-3


def test_levels_of_an_smp_encoder_begin_at_stride_2_and_take_gains_too() -> None:
    torch.manual_seed(0)
    net = build_net(SMP, channels=1, classes=2).eval()
    assert (net.skip_strides, net.long_skips) == ((2, 4), ("concat", "add"))
    image = torch.rand(2, 1, 32, 32)
    seen: list[torch.Tensor] = []
    hook = net.skips[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    with torch.inference_mode():
        net(image)
        net(image, torch.tensor([[1.0, 1.0], [1.0, 0.5]]))
    hook.remove()
    plain, turned = seen
    assert torch.equal(turned[0], plain[0])
    assert torch.equal(turned[1], plain[1] * 0.5)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (NetConfig(widths=(4, 6), long_skips="none"), "nothing to turn down"),
        (NetConfig("fpn"), "SmpNet has none of ours.*smp-unet"),
    ],
)
def test_a_net_without_a_dial_is_refused(net: NetConfig, words: str) -> None:
    with pytest.raises(RequestInvalid, match=words):
        check_has_dial(build_net(net, channels=1, classes=2))


@pytest.mark.slow
def test_the_file_at_rest_has_the_bits_of_one_without_the_dial(
    traced: Traced, spec_for: SpecBuilder, tmp_path: Path
) -> None:
    bare, without = traced()
    graph, trace = traced(gated=True)
    plain = opened(tmp_path / "plain.onnx", without, spec_for(bare))
    raw = opened(tmp_path / "raw.onnx", trace, spec_for(graph))
    blocks = opened(tmp_path / "blocks.onnx", stay_in_blocks(trace), spec_for(graph))
    assert len(products(trace)) == 2
    assert products(without) == []
    proof = prove_gain(graph, blocks, plain, intensity_range=RANGE, sizes=SIZES)
    assert proof.default_difference == 0
    assert proof.max_probability_error < 1e-5
    assert proof.cases == len(SIZES) * 4
    # Each image of a batch has its own gains, and the bits that it has alone.
    image, gains = pictures(4), proof_gains(2)
    batch = blocks.run(image, skip_gain=gains, outputs=BOTH)
    for name in BOTH:
        np.testing.assert_array_equal(
            batch[name], raw.run(image, skip_gain=gains, outputs=BOTH)[name]
        )
        for n in range(4):
            alone = blocks.run(image[n : n + 1], skip_gain=gains[n : n + 1], outputs=BOTH)
            np.testing.assert_array_equal(batch[name][n], alone[name][0])


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["levels exchanged", "another default", "no effect"])
def test_the_proof_can_fail(
    traced: Traced, spec_for: SpecBuilder, tmp_path: Path, wrong: str
) -> None:
    graph, trace = traced(gated=True)
    right = opened(tmp_path / "right.onnx", trace, spec_for(graph))
    if wrong == "levels exchanged":
        one, other = (node for node in trace.graph.node if node.input[:1] == ["skip_gain"])
        one.input[1], other.input[1] = other.input[1], one.input[1]  # from where
        one.input[2], other.input[2] = other.input[2], one.input[2]  # to where
    elif wrong == "another default":
        default = next(i for i in trace.graph.initializer if i.name == "skip_gain")
        default.CopyFrom(numpy_helper.from_array(np.full((1, 2), 0.5, np.float32), "skip_gain"))
    else:
        product = next(node for node in trace.graph.node if node.name in products(trace))
        product.op_type = "Identity"
        product.input.pop()
    spoilt = opened(tmp_path / "spoilt.onnx", trace, spec_for(graph))
    with pytest.raises(ExportWrong, match="at rest" if "default" in wrong else "turned"):
        prove_gain(graph, spoilt, right, intensity_range=RANGE, sizes=SIZES)


@pytest.mark.slow
def test_members_mirrors_a_working_size_and_a_level_without_a_skip(
    traced: Traced, spec_for: SpecBuilder, tmp_path: Path
) -> None:
    """All at once; ``none`` is counted as a level, and its gain changes nothing."""
    graph, trace = traced(
        gated=True,
        widths=(4, 4, 6),
        long_skips="none,attention",
        members=2,
        mirrors=("horizontal",),
        working_size=(40, 48),
    )
    model = opened(tmp_path / "model.onnx", trace, spec_for(graph))
    assert model.spec.skip_gain_strides == (1, 2)
    assert len(products(trace)) == 2 * 2  # members x views; one level has a skip
    proof = prove_gain(graph, model, model, intensity_range=RANGE, sizes=SIZES)
    assert proof.max_probability_error < 1e-5
    image = pictures(1)
    one = model.run(image, outputs=model.outputs)
    loose = model.run(image, skip_gain=np.array([[0, 1]], np.float32), outputs=model.outputs)
    for name, answer in one.items():
        np.testing.assert_array_equal(loose[name], answer)


@pytest.mark.slow
def test_int8_keeps_the_input_and_at_rest_the_bits(
    traced: Traced, spec_for: SpecBuilder, tmp_path: Path
) -> None:
    bare, without = traced()
    graph, trace = traced(gated=True)
    feeds = [{"image": image[None]} for image in pictures(6)]
    plain = opened(tmp_path / "p.int8.onnx", quantise(without, feeds), spec_for(bare))
    gated = opened(tmp_path / "g.int8.onnx", quantise(trace, feeds), spec_for(graph))
    full = opened(tmp_path / "full.onnx", trace, spec_for(graph))
    image, gains = pictures(4), np.minimum(proof_gains(2), 1)
    for given in (None, np.ones((1, 2), np.float32)):
        at_rest = gated.run(image, skip_gain=given, outputs=BOTH)
        for name, answer in plain.run(image, outputs=BOTH).items():
            np.testing.assert_array_equal(at_rest[name], answer)
    # Turned, it is no further from float than it is at rest.
    off = []
    for given in (np.ones_like(gains), gains):
        answers = [m.run(image, skip_gain=given, outputs=BOTH) for m in (gated, full)]
        off.append(np.abs(answers[0]["probabilities"] - answers[1]["probabilities"]).mean())
    assert off[1] < 2 * off[0]


def test_fp16_takes_gains(small_graph: Callable[..., ModelGraph]) -> None:
    graph = small_graph(long_skips="attention,add")
    half = half_nets(graph)
    image, gains = torch.from_numpy(pictures(4)), torch.from_numpy(proof_gains(2))
    with torch.inference_mode():
        answers = [one(image, skip_gain=gains)[1] for one in (half, graph)]
    torch.testing.assert_close(*answers, rtol=0, atol=2e-2)
    assert not torch.equal(*answers)


@pytest.mark.slow
def test_export_gated_proves_the_dial_and_says_so_in_spec_and_card(
    run_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    command = ["export", str(run_folder), "--name", "dial", "--to", str(tmp_path)]
    assert main([*command, "--gated", "--no-scores"]) == 0
    assert (
        "the dial: at rest bit for bit the file without it; turned in " in capsys.readouterr().out
    )
    folder = tmp_path / "dial" / "1"
    model = Model.open(folder / "model.onnx", device="cpu", threads=1)
    assert model.spec.skip_gain_strides == (1, 2)
    card = (folder / "card.md").read_text()
    assert "`skip_gain` (optional): float32 [1 or N, 2]" in card
    assert "finest first (1:1 concat, 1:2 concat)" in card
    assert "Without `skip_gain` the answers are bit for bit" in card
    assert sorted(path.name for path in folder.iterdir()) == ["card.md", "model.onnx"]

"""Which nodes are quantised, how, and what stays as it was; and the same for fp16."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, numpy_helper

from contract.model import Model
from contract.spec import ModelSpec
from training.graph.assemble import ModelGraph
from training.graph.fp16 import half_nets, trace_fp16
from training.graph.int8 import QUANTISED_OPERATORS, inner_nodes, quantise
from training.graph.onnx_file import with_spec

pytestmark = pytest.mark.slow

GraphBuilder = Callable[..., ModelGraph]
Traced = Callable[..., tuple[ModelGraph, onnx.ModelProto]]
SpecBuilder = Callable[..., ModelSpec]
BOTH = ("labels", "probabilities")


def feeds(count: int = 6) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(1)
    return [
        {"image": generator.uniform(0, 255, (1, 1, 40, 52)).astype(np.float32)}
        for _ in range(count)
    ]


def opened(path: Path, model: onnx.ModelProto, spec: ModelSpec) -> Model:
    path.write_bytes(with_spec(model, spec))
    return Model.open(path, device="cpu", threads=1, prove=False)


def float_convs(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions whose weights are not dequantised from int8."""
    from_int8 = {o for n in model.graph.node if n.op_type == "DequantizeLinear" for o in n.output}
    return [n.name for n in model.graph.node if n.op_type == "Conv" and n.input[1] not in from_int8]


@pytest.mark.parametrize(
    ("options", "nets"),
    [
        ({}, 1),
        ({"members": 2, "mirrors": ("horizontal",), "block": "residual", "widths": (4, 6)}, 4),
    ],
    ids=["plain", "two residual nets, mirrored"],
)
def test_all_between_the_first_and_the_last_convolution_is_int8_and_nothing_else(
    traced: Traced,
    spec_for: SpecBuilder,
    tmp_path: Path,
    options: dict[str, Any],
    nets: int,
) -> None:
    graph, whole = traced(**options)
    before = whole.SerializeToString(deterministic=True)
    model = quantise(whole, feeds())
    assert whole.SerializeToString(deterministic=True) == before
    # A residual block has a second way from its input: its 1 x 1 convolution is a first one, too.
    firsts = 2 if options else 1
    assert len(float_convs(model)) == nets * (firsts + 1)

    initialisers = {i.name: i for i in model.graph.initializer}
    weights = [i for i in initialisers.values() if i.data_type == TensorProto.INT8 and i.dims]
    filters = [i for i in weights if len(i.dims) == 4]
    assert filters
    # Two products of a byte and such a weight fit into 16 bits, where AVX2 adds them.
    greatest = max(np.abs(numpy_helper.to_array(f).astype(np.int16)).max() for f in filters)
    assert greatest == 64
    assert 2 * 255 * greatest <= np.iinfo(np.int16).max
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in {i.name for i in filters}:
            scale = initialisers[node.input[1]]
            assert list(scale.dims) == [initialisers[node.input[0]].dims[0]]  # one per channel
    points = [initialisers[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert {p.data_type for p in points} == {TensorProto.UINT8}

    # Outside the net no node has come and none has gone.
    inner = set(inner_nodes(whole))
    outside = Counter(n.op_type for n in whole.graph.node if n.name not in inner)
    kept = Counter(n.op_type for n in model.graph.node if n.name not in inner)
    del kept["QuantizeLinear"], kept["DequantizeLinear"]
    assert kept == outside
    assert {n.op_type for n in whole.graph.node if n.name in inner} <= set(QUANTISED_OPERATORS)

    spec = spec_for(graph)
    full = opened(tmp_path / "f.onnx", whole, spec)
    file = opened(tmp_path / "q.onnx", model, spec)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.onnx", "q.onnx"]
    # Sizes that were neither traced nor calibrated, with statistics of the caller's.
    statistics = np.array([[[90.0, 40.0]]], np.float32)
    for size in ((1, 1), (33, 47), (61, 20), (130, 99)):
        image = np.random.default_rng(2).uniform(0, 255, (2, 1, *size)).astype(np.float32)
        own, given = (
            file.run(image, statistics=s, outputs=BOTH)["probabilities"] for s in (None, statistics)
        )
        wanted = full.run(image, statistics=statistics, outputs=BOTH)["probabilities"]
        np.testing.assert_allclose(own.sum(axis=1), 1, atol=1e-6)
        assert np.abs(given - wanted).mean() < 0.05
        assert np.abs(given - own).max() > 1e-4

    # CPUs without VNNI give these bits too: onnxruntime's way around overflow changes none.
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    careful = ort.InferenceSession(tmp_path / "q.onnx", options, ["CPUExecutionProvider"])
    bright = np.full((1, 1, 40, 52), 255, np.float32)
    bright[..., ::2] = 0
    (wanted,) = careful.run(["probabilities"], {"image": bright})
    np.testing.assert_array_equal(file.run(bright, outputs=BOTH)["probabilities"], wanted)

    again = quantise(whole, feeds())
    assert with_spec(again, spec) == with_spec(model, spec)


def test_ranges_come_from_the_images_that_were_run(traced: Traced) -> None:
    _, whole = traced()

    def scales(readings: list[dict[str, np.ndarray]]) -> dict[str, float]:
        model = quantise(whole, readings)
        named = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        nodes = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
        return {n.input[0]: float(named[n.input[1]]) for n in nodes}

    # The net sees z-scores: one far outlier widens what follows the first convolution.
    usual = feeds(3)
    outlier = {"image": np.zeros((1, 1, 40, 52), np.float32)}
    outlier["image"][0, 0, 20, 20] = 255.0
    narrow, wide = scales(usual), scales([*usual, outlier])
    assert narrow.keys() == wide.keys()
    assert all(wide[name] >= narrow[name] for name in narrow)
    assert any(wide[name] > 2 * narrow[name] for name in narrow)


def test_quantising_says_nothing_and_leaves_logging_as_it_was(
    traced: Traced, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers = list(root.handlers)
    _, whole = traced()
    capfd.readouterr()
    quantise(whole, feeds(1))
    said = capfd.readouterr()
    assert said.out + said.err == ""
    assert root.handlers == handlers
    assert not root.disabled


def test_a_net_of_one_convolution_has_nothing_to_quantise() -> None:
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    kernel = numpy_helper.from_array(np.ones((2, 1, 1, 1), np.float32), "kernel")
    graph = onnx.helper.make_graph(
        [node("Conv", ["image", "kernel"], ["y"], name="only")],
        "one",
        [value("image", TensorProto.FLOAT, [1, 1, 4, 4])],
        [value("y", TensorProto.FLOAT, [1, 2, 4, 4])],
        [kernel],
    )
    with pytest.raises(ValueError, match="no layers between"):
        quantise(onnx.helper.make_model(graph), feeds(1))


@pytest.mark.parametrize(("norm", "members"), [("batch", 2), ("instance", 1)])
def test_fp16_halves_each_net_and_keeps_its_edges_and_norms_over_the_image(
    small_graph: GraphBuilder, spec_for: SpecBuilder, tmp_path: Path, norm: str, members: int
) -> None:
    graph = small_graph(norm=norm, members=members, widths=(4, 6))
    weights = {name: w.clone() for name, w in graph.state_dict().items()}
    model = trace_fp16(graph, channels=1)
    assert all(w.equal(weights[name]) for name, w in graph.state_dict().items())
    filters = [i for i in model.graph.initializer if len(i.dims) == 4]
    assert {i.data_type for i in filters} == {TensorProto.FLOAT16}
    halved = [type(m).__name__ for m in half_nets(graph).modules()]
    assert halved.count("HalfNet") == members
    assert ("FloatNorm" in halved) == (norm == "instance")
    spec = spec_for(graph)
    half = opened(tmp_path / "h.onnx", model, spec)  # which checks that the edges are float32
    assert half.takes_statistics
    # 16-bit intensities do not fit into fp16; they have to be normalised before.
    image = np.random.default_rng(3).integers(0, 65536, (2, 1, 45, 61)).astype(np.float32)
    with torch.inference_mode():
        labels, probabilities = (answer.numpy() for answer in graph(torch.from_numpy(image))[:2])
    b = half.run(image, outputs=BOTH)
    assert np.abs(probabilities - b["probabilities"]).max() < 0.02
    assert (labels != b["labels"]).mean() < 0.01
    np.testing.assert_allclose(b["probabilities"].sum(axis=1), 1, atol=1e-6)

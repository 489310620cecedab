"""Each export is one file that answers as PyTorch does; traced once per kind of graph."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import segmentation_models_pytorch as smp
import torch

from contract.errors import ModelError
from contract.model import Model
from contract.spec import METADATA_KEY, ModelSpec, Normalising
from training.graph.assemble import ModelGraph
from training.graph.onnx_file import trace, with_spec
from training.graph.prove import ExportWrong, prove_parity

pytestmark = pytest.mark.slow

SpecBuilder = Callable[..., ModelSpec]


Traced = Callable[..., tuple[ModelGraph, onnx.ModelProto]]


def written(path: Path, model: onnx.ModelProto, spec: ModelSpec) -> Path:
    path.write_bytes(with_spec(model, spec))
    return path


@pytest.mark.parametrize(
    ("options", "classes"),
    [
        ({}, 2),
        (
            {
                "long_skips": "none",
                "channels": 3,
                "normalising": Normalising(kind="fixed", mean=(100.0,) * 3, std=(50.0,) * 3),
            },
            4,
        ),
        ({"norm": "instance", "task": "multilabel"}, 3),
        (
            {
                "widths": (4, 6),
                "mirrors": ("horizontal", "vertical", "both"),
                "temperature": 1.7,
            },
            3,
        ),
        (
            {
                "members": 2,
                "working_size": (40, 56),
                "thresholds_prob": (0.2, 0.3, 0.5),
            },
            3,
        ),
        (
            {
                "widths": (4, 6),
                "task": "multilabel",
                "mirrors": ("horizontal",),
                "temperature": 0.6,
                "thresholds_prob": (0.3, 0.6),
            },
            2,
        ),
    ],
    ids=[
        "plain",
        "no skips, RGB, fixed",
        "instance norm, multilabel",
        "mirrors, temperature",
        "members, working size, thresholds",
        "multilabel, mirror, temperature, thresholds",
    ],
)
def test_file_and_checkpoint_agree_at_sizes_that_were_not_traced(
    traced: Traced,
    spec_for: SpecBuilder,
    tmp_path: Path,
    options: dict[str, object],
    classes: int,
) -> None:
    graph, file = traced(**({"classes": classes} if classes != 2 else {}), **options)
    channels = int(str(options.get("channels", 1)))
    thresholds = options.get("thresholds_prob")
    spec = spec_for(graph, channels=channels, classes=classes, thresholds_prob=thresholds)
    model = Model.open(written(tmp_path / "m.onnx", file, spec), device="cpu", prove=False)
    proof = prove_parity(graph, model, intensity_range=(0.0, 255.0))
    assert proof.cases >= 12
    assert proof.max_probability_error < 1e-4
    assert model.takes_statistics == graph.normalise.takes_statistics


def test_the_file_is_alone_says_its_dims_and_keeps_its_hash(
    traced: Traced, spec_for: SpecBuilder, tmp_path: Path
) -> None:
    graph, file = traced()
    spec = spec_for(graph)
    path = written(tmp_path / "m.onnx", file, spec)
    again = written(tmp_path / "again.onnx", trace(graph, channels=1), spec)
    assert path.read_bytes() == again.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.onnx", "m.onnx"]
    model = onnx.load(str(path))
    dims = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert dims == {
        "image": ["batch", 1, "height", "width"],
        "statistics": ["batch_or_1", 1, 2],
        "labels": ["batch", "height", "width"],
        "probabilities": ["batch", 2, "height", "width"],
    }
    assert [p.key for p in model.metadata_props] == [METADATA_KEY]
    assert str(Path(__file__).parents[3]).encode() not in path.read_bytes()


def test_five_lines_of_plain_onnxruntime_and_optional_statistics(
    traced: Traced, spec_for: SpecBuilder, tmp_path: Path
) -> None:
    graph, file = traced()
    path = written(tmp_path / "m.onnx", file, spec_for(graph))
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).uniform(0, 255, (2, 1, 31, 45)).astype(np.float32)
    own = session.run(["probabilities"], {"image": image})[0]
    nan = np.full((1, 1, 2), np.nan, dtype=np.float32)
    assert np.array_equal(own, session.run(None, {"image": image, "statistics": nan})[1])
    each = np.array([[[100.0, 30.0]], [[90.0, 60.0]]], dtype=np.float32)
    given = session.run(None, {"image": image, "statistics": each})[1]
    with torch.inference_mode():
        expected = graph(torch.from_numpy(image), torch.from_numpy(each))[1].numpy()
    np.testing.assert_allclose(given, expected, atol=1e-5)
    assert np.abs(given - own).max() > 1e-3


def test_an_image_does_not_depend_on_its_batch(
    traced: Traced, spec_for: SpecBuilder, tmp_path: Path
) -> None:
    graph, file = traced()
    model = Model.open(
        written(tmp_path / "m.onnx", file, spec_for(graph)), device="cpu", prove=False
    )
    batch = np.random.default_rng(0).uniform(0, 255, (3, 1, 33, 47)).astype(np.float32)
    together = model.run(batch, outputs=("labels", "probabilities"))
    for index in range(3):
        alone = model.run(batch[index : index + 1], outputs=("labels", "probabilities"))
        assert np.array_equal(alone["probabilities"][0], together["probabilities"][index])
        assert np.array_equal(alone["labels"][0], together["labels"][index])


def test_a_file_of_other_weights_is_found_out(
    traced: Traced, spec_for: SpecBuilder, tmp_path: Path
) -> None:
    graph, file = traced()
    model = Model.open(
        written(tmp_path / "m.onnx", file, spec_for(graph)), device="cpu", prove=False
    )
    with torch.no_grad():
        graph.net.head.bias[0] += 0.5  # type: ignore[union-attr, index, operator]
    with pytest.raises(ExportWrong, match="off by"):
        prove_parity(graph, model, intensity_range=(0.0, 255.0))


def test_an_architecture_that_exports_wrongly_is_found_out(
    spec_for: SpecBuilder, tmp_path: Path
) -> None:
    """PSPNet's adaptive pooling is frozen at the traced size; ``fit`` refuses it by name."""
    torch.manual_seed(0)
    net = smp.PSPNet("resnet18", encoder_weights=None, encoder_depth=3, in_channels=1, classes=2)
    net.divisor, net.least_side = 8, 64
    graph = ModelGraph(net, normalising=Normalising(kind="image"), task="multiclass").eval()
    file = trace(graph, channels=1)
    model = Model.open(
        written(tmp_path / "m.onnx", file, spec_for(graph)), device="cpu", prove=False
    )
    with pytest.raises((ExportWrong, ModelError)):
        prove_parity(graph, model, intensity_range=(0.0, 255.0))

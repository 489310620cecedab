"""Fixtures that every room's tests share."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, settings

from contract.spec import (
    METADATA_KEY,
    SCHEMA_VERSION,
    ModelSpec,
    NetDescription,
    Normalising,
    SegmentClass,
    Tiles,
)

# A machine that others load too must not make a right answer fail for being late.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

REPOSITORY_ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast tests first: a mistake shows within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """Folder that holds pyproject.toml."""
    return REPOSITORY_ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images, one folder per data set; tests that need it skip without it."""
    folder = Path(os.environ.get("LONGSKIP_SHARED", REPOSITORY_ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip("no real images here: LONGSKIP_SHARED does not name a folder with data/")
    return folder


class BuildThresholdModel(Protocol):
    """Type of the fixture ``build_threshold_model``; the options are described there."""

    def __call__(
        self,
        path: Path,
        *,
        name: str = "threshold",
        task: Literal["multiclass", "multilabel"] = "multiclass",
        channels: int = 1,
        classes: Sequence[str] = ("background", "bright"),
        threshold: float = 0.5,
        tiles: Tiles | None = None,
        whole_image_max_pixels: int = 1 << 20,
        tileable: bool = True,
        with_statistics: bool = True,
        with_dial: bool = False,
        break_golden: bool = False,
        break_spec: Literal["missing", "newer", "invalid"] | None = None,
        break_interface: Literal["labels type", "no probabilities", "fixed size"] | None = None,
    ) -> Path: ...


@pytest.fixture(scope="session")
def build_threshold_model() -> BuildThresholdModel:
    """Build small model files that keep every promise of the contract, in milliseconds.

    The model z-scores the image (by its own statistics, or by the optional input ``statistics``
    where ``with_statistics``), takes the mean of each pixel's 3 x 3 neighbourhood over all
    channels (zeros outside) and calls a pixel class k where that mean lies between
    ``threshold + k - 1`` and ``threshold + k``; multilabel class k where it lies above
    ``threshold + k``. ``with_disagreement`` adds that optional output: the probability of class 0
    (multilabel: of each) stands in for one. ``with_dial`` adds the optional input ``skip_gain`` of
    two levels: the first multiplies the z-scores, the second the logits. Missing folders of
    ``path`` are made; ``path`` is returned. The ``break_`` options make files that must be refused.
    """
    return _write_threshold_model


def _write_threshold_model(
    path: Path,
    *,
    name: str = "threshold",
    task: Literal["multiclass", "multilabel"] = "multiclass",
    channels: int = 1,
    classes: Sequence[str] = ("background", "bright"),
    threshold: float = 0.5,
    tiles: Tiles | None = None,
    whole_image_max_pixels: int = 1 << 20,
    tileable: bool = True,
    with_statistics: bool = True,
    with_disagreement: bool = False,
    with_dial: bool = False,
    break_golden: bool = False,
    break_spec: Literal["missing", "newer", "invalid"] | None = None,
    break_interface: Literal["labels type", "no probabilities", "fixed size"] | None = None,
) -> Path:
    # Imported here, so that the other rooms' tests need no onnxruntime to be collected.
    from contract.golden import OUTPUTS, make_golden
    from contract.model import Model

    spec = ModelSpec(
        name=name,
        task=task,
        classes=tuple(
            SegmentClass(name=label, colour=(40 * i % 256, 90 * i % 256, 0))
            for i, label in enumerate(classes)
        ),
        channels=channels,
        normalising=Normalising(kind="image"),
        whole_image_max_pixels=whole_image_max_pixels,
        tileable=tileable,
        tiles=tiles,
        net=NetDescription(
            architecture="threshold",
            long_skips=("concat", "add") if with_dial else (),
            parameters=9 * channels * len(classes),
        ),
        skip_gain_strides=(1, 2) if with_dial else (),
        licence="CC0-1.0",
        code_version="test",
    )
    graph = _threshold_graph(spec, threshold, with_statistics, break_interface)
    if with_disagreement:
        _add_disagreement(graph, spec)
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(metadata: dict[str, str]) -> None:
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10
        )
        onnx.helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())

    write({METADATA_KEY: spec.to_metadata()})
    tiled_by_own_statistics = tiles is not None and not with_statistics  # refused on opening
    if break_interface is None and not tiled_by_own_statistics:
        run = functools.partial(Model.open(path, device="cpu", prove=False).run, outputs=OUTPUTS)
        shape_chw = (channels, 48, 40)
        golden = make_golden(_zeros_of(run) if break_golden else run, 7, shape_chw, (0.0, 255.0))
        spec = spec.model_copy(update={"golden": golden})
    text = spec.to_metadata()
    if break_spec == "newer":
        text = text.replace(f'"schema_version":{SCHEMA_VERSION}', '"schema_version":99')
    elif break_spec == "invalid":
        text = text.replace(f'"channels":{channels}', '"channels":0')
    write({} if break_spec == "missing" else {METADATA_KEY: text})
    return path


def _add_disagreement(graph: onnx.GraphProto, spec: ModelSpec) -> None:
    space = ["batch", "height", "width"]
    if spec.task == "multiclass":
        first = onnx.numpy_helper.from_array(np.array(0, np.int64), "first")
        graph.initializer.append(first)
        copied = onnx.helper.make_node(
            "Gather", ["probabilities", "first"], ["disagreement"], axis=1
        )
    else:
        space.insert(1, len(spec.classes))
        copied = onnx.helper.make_node("Identity", ["probabilities"], ["disagreement"])
    graph.node.append(copied)
    real = onnx.TensorProto.FLOAT
    graph.output.append(onnx.helper.make_tensor_value_info("disagreement", real, space))


def _zeros_of(run: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    return lambda image: {key: np.zeros_like(array) for key, array in run(image).items()}


def _threshold_graph(
    spec: ModelSpec, threshold: float, with_statistics: bool, broken: str | None
) -> onnx.GraphProto:
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    number = onnx.numpy_helper.from_array
    channels, count = spec.channels, len(spec.classes)
    # Logit k is the sum over j <= k of (mean - threshold j), so that the argmax counts the
    # thresholds that the mean exceeds.
    first = np.arange(count) if spec.task == "multiclass" else np.ones(count)
    steps = threshold + np.arange(count)
    below = np.concatenate([[0], np.cumsum(steps)[:-1]]) if spec.task == "multiclass" else steps
    kernel = np.ones((count, channels, 3, 3)) * first[:, None, None, None] / (9 * channels)
    constants: dict[str, np.ndarray] = {
        "space": np.array([2, 3], np.int64),
        "least_std": np.array(1e-6, np.float32),
        "kernel": kernel.astype(np.float32),
        "bias": (-below).astype(np.float32),
    }
    nodes = [
        node("Cast", ["image"], ["wide"], to=onnx.TensorProto.DOUBLE),
        node("ReduceMean", ["wide", "space"], ["wide_mean"], keepdims=1),
        node("Sub", ["wide", "wide_mean"], ["deviation"]),
        node("Mul", ["deviation", "deviation"], ["squares"]),
        node("ReduceMean", ["squares", "space"], ["variance"], keepdims=1),
        node("Sqrt", ["variance"], ["wide_std"]),
        node("Cast", ["wide_mean"], ["own_mean"], to=onnx.TensorProto.FLOAT),
        node("Cast", ["wide_std"], ["own_std"], to=onnx.TensorProto.FLOAT),
    ]
    for index, moment in enumerate(("mean", "std") if with_statistics else ()):
        constants[f"{moment}_index"] = np.array(index, np.int64)
        nodes += [
            node("Gather", ["statistics", f"{moment}_index"], [f"flat_{moment}"], axis=2),
            node("Unsqueeze", [f"flat_{moment}", "space"], [f"given_{moment}"]),
            node("IsNaN", [f"given_{moment}"], [f"no_{moment}"]),
            node("Where", [f"no_{moment}", f"own_{moment}", f"given_{moment}"], [moment]),
        ]
    mean, std = ("mean", "std") if with_statistics else ("own_mean", "own_std")
    nodes += [
        node("Sub", ["image", mean], ["centred"]),
        node("Max", [std, "least_std"], ["divisor"]),
        node("Div", ["centred", "divisor"], ["z"]),
    ]
    dial = bool(spec.skip_gain_strides)
    seen, answered = ("turned_z", "whole_logits") if dial else ("z", "logits")
    for level in (0, 1) if dial else ():
        constants[f"level_{level}"] = np.array([level], np.int64)
        nodes += [
            node("Gather", ["skip_gain", f"level_{level}"], [f"flat_gain_{level}"], axis=1),
            node("Unsqueeze", [f"flat_gain_{level}", "space"], [f"gain_{level}"]),
        ]
    nodes += [node("Mul", ["z", "gain_0"], [seen])] if dial else []
    nodes.append(node("Conv", [seen, "kernel", "bias"], [answered], pads=[1, 1, 1, 1]))
    nodes += [node("Mul", [answered, "gain_1"], ["logits"])] if dial else []
    if spec.task == "multiclass":
        nodes += [
            node("Softmax", ["logits"], ["probabilities"], axis=1),
            node("ArgMax", ["logits"], ["winner"], axis=1, keepdims=0),
        ]
    else:
        constants["zero"] = np.array(0, np.float32)
        nodes += [
            node("Sigmoid", ["logits"], ["probabilities"]),
            node("Greater", ["logits", "zero"], ["winner"]),
        ]
    label_type = onnx.TensorProto.INT32 if broken == "labels type" else onnx.TensorProto.UINT8
    nodes.append(node("Cast", ["winner"], ["labels"], to=label_type))
    size = [64, 64] if broken == "fixed size" else ["height", "width"]
    planes = [count] if spec.task == "multilabel" else []
    real = onnx.TensorProto.FLOAT
    inputs = [value("image", real, ["batch", channels, *size])]
    outputs = [value("labels", label_type, ["batch", *planes, *size])]
    if broken != "no probabilities":
        outputs.append(value("probabilities", real, ["batch", count, *size]))
    if with_statistics:
        constants["statistics"] = np.full((1, channels, 2), np.nan, np.float32)
        inputs.append(value("statistics", real, ["statistics_batch", channels, 2]))
    if dial:
        constants["skip_gain"] = np.ones((1, 2), np.float32)
        inputs.append(value("skip_gain", real, ["gain_batch", 2]))
    initialisers = [number(array, key) for key, array in constants.items()]
    return onnx.helper.make_graph(nodes, "threshold", inputs, outputs, initialisers)

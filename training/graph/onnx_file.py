"""The ONNX file itself: traced with dynamic sizes, dims named, spec inside, one file."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import onnx
import torch
from onnx import helper, numpy_helper

from contract.spec import METADATA_KEY, ModelSpec
from training.graph.assemble import ModelGraph
from training.graph.norms import spell_out_norms

# Traced at a size that no divisor divides and that leaves more than one voxel at the bottleneck,
# so that nothing about it is mistaken for a constant.
EXAMPLE_BATCH = 2
EXAMPLE_REMAINDER = (11, 37)


def trace(graph: ModelGraph, *, channels: int) -> onnx.ModelProto:
    """Return ``graph`` as ONNX with dynamic N, H and W.

    ``statistics`` becomes an overridable initialiser whose default NaN means "this image's own";
    of a gated graph ``skip_gain`` becomes another, whose default is 1 at all levels.
    """
    step = 2 * graph.pad.least
    height, width = (step + rest for rest in EXAMPLE_REMAINDER)
    image = torch.linspace(0, 255, EXAMPLE_BATCH * channels * height * width)
    image = image.reshape(EXAMPLE_BATCH, channels, height, width)
    sizes = {0: "batch", 2: "height", 3: "width"}
    defaults: dict[str, torch.Tensor] = {}
    if graph.normalise.takes_statistics:
        defaults["statistics"] = torch.full((1, channels, 2), float("nan"))
    if graph.gain_levels:
        defaults["skip_gain"] = torch.ones(1, graph.gain_levels)
    with _quiet():
        program = torch.onnx.export(
            spell_out_norms(graph).eval(),
            (image,),
            kwargs=defaults,
            dynamo=True,
            external_data=False,
            input_names=["image", *defaults],
            output_names=list(graph.outputs),
            dynamic_shapes={"image": sizes, **dict.fromkeys(defaults)},
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    model: onnx.ModelProto = program.model_proto
    _name_dims(model, multilabel=graph.activate.task == "multilabel")
    for name, default in defaults.items():
        model.graph.initializer.append(numpy_helper.from_array(default.numpy(), name))
    _drop_traces_of_the_source(model)
    return model


def with_spec(model: onnx.ModelProto, spec: ModelSpec) -> bytes:
    """Return the bytes of ``model`` carrying ``spec``; the same inputs give the same bytes."""
    carrying = onnx.ModelProto()
    carrying.CopyFrom(model)
    del carrying.metadata_props[:]
    helper.set_model_props(carrying, {METADATA_KEY: spec.to_metadata()})
    carrying.producer_name, carrying.producer_version = "longskip", spec.code_version
    onnx.checker.check_model(carrying)
    serialised: bytes = carrying.SerializeToString(deterministic=True)
    return serialised


def _name_dims(model: onnx.ModelProto, *, multilabel: bool) -> None:
    """Replace expressions such as Min(height, 32*((height+31)//32)) by the names they equal."""
    names: dict[str, list[str | None]] = {
        "image": ["batch", None, "height", "width"],
        "statistics": ["batch_or_1", None, None],
        "skip_gain": ["batch_or_1", None],
        "labels": ["batch", None, "height", "width"]
        if multilabel
        else ["batch", "height", "width"],
        "probabilities": ["batch", None, "height", "width"],
    }
    names["disagreement"] = names["labels"]
    for value in [*model.graph.input, *model.graph.output]:
        for dim, name in zip(value.type.tensor_type.shape.dim, names[value.name], strict=True):
            if name is not None:
                dim.dim_param = name
    del model.graph.value_info[:]  # they repeat the expressions, and nothing needs them


def _drop_traces_of_the_source(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes about source files: paths, and bytes that differ."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress lines and advice to library authors off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

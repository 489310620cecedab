"""int8 variant: static quantisation of the net's inner layers, written as QDQ nodes.

Activations are uint8 and weights int8 with a scale per channel, the pair that a CPU with VNNI
multiplies four at a time. A CPU without it adds two products at a time in 16 bits, so weights stay
within ±64: two of 255 x 128 would be cut off there, and each kind of CPU would answer otherwise
(shipped models' probabilities by 0.07). Ranges come from running training images. What stays in
float: all before the net's first convolution and after its last, and these two themselves.
Quantising every node flipped 0.4 % of the labels and left probabilities that do not sum to 1; this
way it was 0.07 % at the same speed.
"""

import logging
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from training.graph.skip_gain import quantise_gains

Feeds = Mapping[str, NDArray[np.float32]]

# Other operators stay in float: quantising them all deletes optional inputs, which the graph
# holds as overridable initialisers.
QUANTISED_OPERATORS = ("Conv", "Concat", "MaxPool", "Resize", "Relu")


class _Readings(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, feeds: Iterable[Feeds]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        feeds = next(self._feeds, None)
        return None if feeds is None else dict(feeds)


def quantise(model: onnx.ModelProto, feeds: Iterable[Feeds]) -> onnx.ModelProto:
    """Return ``model`` with its inner layers in int8; ``model`` stays as it is.

    Args:
        model: a float32 graph as ``trace`` gives it.
        feeds: inputs by name, run one after the other; the least and greatest value that each
            tensor takes over all of them make its range.

    Raises:
        ValueError: there is nothing to quantise between the first and the last convolution.
    """
    inner = inner_nodes(model)
    if not inner:
        raise ValueError("the net has no layers between its first and its last convolution")
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    with tempfile.TemporaryDirectory(prefix="longskip-int8-") as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            copied,
            path,
            _Readings(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            nodes_to_quantize=inner,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        quantised = onnx.load(str(path))
    del quantised.graph.value_info[:]  # sizes as inferred here; nothing needs them
    quantise_gains(quantised)
    return quantised


def inner_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes to quantise: those between two convolutions.

    A convolution without one before it, or without one after it, is a net's first or last. So this
    also holds where several nets, or mirrored views of one, stand in the graph.
    """
    producer = {out: node for node in model.graph.node for out in node.output}
    users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            users[name].append(node)
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    after = _reach(convs, lambda node: [user for out in node.output for user in users[out]])
    before = _reach(convs, lambda node: [producer[i] for i in node.input if i in producer])
    return [
        node.name
        for node in model.graph.node
        if node.op_type in QUANTISED_OPERATORS and node.name in after and node.name in before
    ]


def _reach(
    start: Iterable[onnx.NodeProto], step: Callable[[onnx.NodeProto], list[onnx.NodeProto]]
) -> set[str]:
    """Return the names of all nodes that are one or more steps away from ``start``."""
    reached: set[str] = set()
    waiting = list(start)
    while waiting:
        for node in step(waiting.pop()):
            if node.name not in reached:
                reached.add(node.name)
                waiting.append(node)
    return reached


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence advice that does not hold here.

    onnxruntime asks for its own pre-processing, which fails on a Concat of dynamic sizes, and for
    the removal of initialisers from the inputs, which is what makes an input optional.
    """
    root = logging.getLogger()
    was_disabled, handler = root.disabled, logging.NullHandler()
    root.addHandler(handler)  # without one, logging.warning() would install its own for good
    root.disabled = True
    ort.set_default_logger_severity(3)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)
        root.disabled = was_disabled
        root.removeHandler(handler)

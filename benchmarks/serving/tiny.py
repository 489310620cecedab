"""A model that does next to nothing, so that the server's own cost is what shows."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from contract.adopt import adopt

NAME = "tiny"
SIDE_PX = 64
FIELDS = {
    "name": NAME,
    "channels": 3,
    "colour_order": "RGB",
    "classes": [
        {"name": "dark", "colour": [0, 0, 0]},
        {"name": "bright", "colour": [255, 255, 255]},
    ],
    "whole_image_max_pixels": 1_000_000,
    "licence": "Apache-2.0",
}


def make_tiny_model(models: Path) -> Path:
    """Write a threshold on the channels' mean as a model, and return its file."""
    graph = models / "tiny.onnx"
    models.mkdir(parents=True)
    onnx.save(_graph(), graph)
    return adopt(graph, FIELDS, to=models, intensity_range=(0.0, 255.0))


def _graph() -> onnx.ModelProto:
    nodes = [
        helper.make_node("ReduceMean", ["image", "channel_axis"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["mean", "threshold"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["bright"]),
        helper.make_node("Sub", ["one", "bright"], ["dark"]),
        helper.make_node("Concat", ["dark", "bright"], ["probabilities"], axis=1),
        helper.make_node("Greater", ["mean", "threshold"], ["above"]),
        helper.make_node("Squeeze", ["above", "channel_axis"], ["above_nhw"]),
        helper.make_node("Cast", ["above_nhw"], ["labels"], to=TensorProto.UINT8),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])
    outputs = [
        helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", "H", "W"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2, "H", "W"]),
    ]
    constants = [
        helper.make_tensor("channel_axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("threshold", TensorProto.FLOAT, [], [127.5]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
    ]
    graph = helper.make_graph(nodes, NAME, [image], outputs, constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, producer_name="longskip"
    )

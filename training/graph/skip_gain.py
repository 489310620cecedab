"""The dial of a file (optional): the input ``skip_gain``, and what it takes to keep it cheap.

The net multiplies what an encoder hands to a long skip by the gain of its level
(``training.nets.skips.gained``); here is what the ONNX graph needs for it beyond that.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from contract.errors import RequestInvalid
from training.nets.net import SegmentationNet

INPUT = "skip_gain"
# Operators that only bring the input into shape.
_SHAPING = ("Slice", "Gather", "Unsqueeze", "Reshape", "Cast", "Identity")
# 1 is a whole number of steps, so that an int8 file at rest has the bits of one without the dial,
# and contract.skip_gain.MOST_GAIN, which is 2, fits into a byte of them.
GAIN_STEP = 1 / 127


def check_has_dial(net: SegmentationNet) -> None:
    """Tell whether there is anything to turn.

    Raises:
        RequestInvalid: the net has no long skips of ours, or none at any level.
    """
    if not net.skip_strides:
        raise RequestInvalid(
            f"--gated makes a dial of long skips, and {type(net).__name__} has none of ours; "
            "leave --gated out, or train net.architecture unet or smp-unet"
        )
    if set(net.long_skips) == {"none"}:
        raise RequestInvalid(
            "--gated makes a dial of long skips, and this net was trained with none at every "
            "level: there is nothing to turn down. Leave --gated out"
        )


def products(model: onnx.ModelProto) -> list[str]:
    """Return the names of the multiplications by a level's gain, which is their second input."""
    shaped, found = {INPUT}, []
    for node in model.graph.node:  # in topological order, as ONNX demands
        if node.op_type in _SHAPING and node.input[0] in shaped:
            shaped.update(node.output)
        elif node.op_type == "Mul" and node.input[1] in shaped:
            found.append(node.name)
    return found


def stay_in_blocks(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which a max pool of one pixel, which changes nothing, follows each product.

    onnxruntime's CPU convolutions work on blocks of channels. It leaves that layout to multiply,
    and joins and convolves outside of it, too, unless an operator brings the product back: pooling
    does, without touching a bit. A U-Net of 1.8 million parameters took 4.6, 6.0 and 9.4 % more CPU
    time with gains than without at 256², 512² and 1024², with these pools 2.4, 4.2 and 4.8 %.
    """
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for name in products(copied):
        place, node = _find(copied, name)
        product, raw = node.output[0], f"{node.output[0]}_raw"
        node.output[0] = raw
        pool = helper.make_node(
            "MaxPool", [raw], [product], name=f"{raw}_kept", kernel_shape=[1, 1]
        )
        copied.graph.node.insert(place + 1, pool)
    return copied


def quantise_gains(model: onnx.ModelProto) -> None:
    """Let the products of an int8 ``model`` be computed on bytes, in place.

    A gain is rounded to steps of 1/127, of which 1 is a whole number. Left in float, each product
    would take its features out of their bytes and back: 6 % of the time in place of 1 to 2 %.
    """
    found = products(model)
    if not found:
        return
    scale, zero = f"{INPUT}_scale", f"{INPUT}_zero_point"
    model.graph.initializer.append(numpy_helper.from_array(np.array(GAIN_STEP, np.float32), scale))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), zero))
    for name in found:
        place, node = _find(model, name)
        gain, coded, rounded = node.input[1], f"{name}_gain_coded", f"{name}_gain_rounded"
        node.input[1] = rounded
        back = helper.make_node("DequantizeLinear", [coded, scale, zero], [rounded], name=rounded)
        model.graph.node.insert(place, back)
        there = helper.make_node("QuantizeLinear", [gain, scale, zero], [coded], name=coded)
        model.graph.node.insert(place, there)


def _find(model: onnx.ModelProto, name: str) -> tuple[int, onnx.NodeProto]:
    return next((n, node) for n, node in enumerate(model.graph.node) if node.name == name)

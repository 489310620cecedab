"""Check a graph's inputs and outputs against the contract, without running it."""

from collections.abc import Iterable

import onnxruntime as ort

from contract.errors import ModelBroken
from contract.optional_inputs import OPTIONAL_INPUTS
from contract.spec import ModelSpec

FLOAT32 = "tensor(float)"
UINT8 = "tensor(uint8)"
FREE = None
"""A dimension that the graph must leave open: batch and size."""


def check_interface(
    session: ort.InferenceSession, spec: ModelSpec, *, source: str, all_required: bool = False
) -> bool:
    """Compare names, types, ranks and fixed dimensions with the contract.

    Args:
        session: the opened file.
        spec: what the file says of itself.
        source: the file's name for error messages.
        all_required: its optional inputs were made inputs that each run is fed with.

    Returns:
        Whether there is the optional input ``statistics``.

    Raises:
        ModelBroken: what was found is off the contract.
    """
    space: list[int | None] = [FREE] * spec.dims
    classes = len(spec.classes)
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    optional = {node.name: node for node in session.get_overridable_initializers()}
    if all_required:
        optional |= {name: inputs.pop(name) for name in OPTIONAL_INPUTS if name in inputs}
    if set(inputs) != {"image"}:
        raise ModelBroken(
            f"{source} needs the inputs {sorted(inputs)}; the contract has one, 'image', and "
            "'statistics' and 'skip_gain' only as overridable initialisers"
        )
    _check_array(source, inputs["image"], FLOAT32, [[FREE, spec.channels, *space]])
    for name in ("labels", "probabilities"):
        if name not in outputs:
            raise ModelBroken(f"{source} has no output {name!r}, only {sorted(outputs)}")
    planes: list[int | None] = [classes] if spec.task == "multilabel" else []
    _check_array(source, outputs["labels"], UINT8, [[FREE, *planes, *space]])
    _check_array(source, outputs["probabilities"], FLOAT32, [[FREE, classes, *space]])
    if "disagreement" in outputs:
        _check_array(source, outputs["disagreement"], FLOAT32, [[FREE, *planes, *space]])
    _check_skip_gain(source, optional.get("skip_gain"), spec)
    statistics = optional.get("statistics")
    if statistics is not None:
        shapes: list[list[int | None]] = [[FREE, spec.channels, 2], [1, spec.channels, 2]]
        _check_array(source, statistics, FLOAT32, shapes)
    elif spec.tiles is not None and spec.normalising.kind == "image":
        raise ModelBroken(
            f"{source} is to be tiled and normalises by the image's own statistics, but has no "
            "input 'statistics': each tile would be normalised by its own. Export it with that "
            "input, or leave tiles out of its spec."
        )
    return statistics is not None


def _check_skip_gain(source: str, skip_gain: ort.NodeArg | None, spec: ModelSpec) -> None:
    levels = len(spec.skip_gain_strides)
    if (skip_gain is not None) != (levels > 0):
        there = "no" if skip_gain is None else "the"
        raise ModelBroken(
            f"{source} has {there} optional input 'skip_gain', but its spec names {levels} levels "
            "in skip_gain_strides; both or neither must be there"
        )
    if skip_gain is not None:
        _check_array(source, skip_gain, FLOAT32, [[FREE, levels], [1, levels]])


def _check_array(
    source: str, node: ort.NodeArg, dtype: str, shapes: Iterable[list[int | None]]
) -> None:
    shapes = list(shapes)
    if node.type != dtype:
        raise ModelBroken(f"{source}: {node.name!r} is {node.type}, expected {dtype}")
    # A graph may leave out an output's shape; the golden sample then tells.
    if node.shape and not any(_fits(node.shape, shape) for shape in shapes):
        expected = " or ".join(str(["?" if n is FREE else n for n in shape]) for shape in shapes)
        raise ModelBroken(
            f"{source}: {node.name!r} has shape {node.shape}, expected {expected}, where ? is a "
            "size that the graph leaves open"
        )


def _fits(found: list[int | str | None], expected: list[int | None]) -> bool:
    if len(found) != len(expected):
        return False
    for have, want in zip(found, expected, strict=True):
        fixed = isinstance(have, int)
        if want is FREE and fixed:
            return False
        # An open dimension may carry a fixed one, e.g. [N, K, H, W] without K written down.
        if fixed and have != want:
            return False
    return True

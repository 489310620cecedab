"""Where each layer of a net stands: in which part, how deep, and under which name people know it.

A layer is what has a matrix or a kernel of weights. Its depth is the number of layers on the
longest way from the image up to it, itself included, so that a shortcut's 1×1 convolution does not
count for the layers behind it. The net is run once on shapes alone; nothing is computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from training.nets.net import SegmentationNet
from training.nets.smp_unet import SmpUNet
from training.nets.unet import UNet

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)


@dataclass(frozen=True)
class LayerPlace:
    """One layer of a net.

    Attributes:
        name: of the module within the net.
        group: the part of the net, such as ``encoder level 2``; level 0 is the finest.
        place: the layer within it, such as ``encoder level 2, conv 3``; numbers begin at 1.
        depth: layers on the longest way from the image up to this one, itself included.
        main: whether it stands on the longest way through the whole net.
        spatial: whether its kernel is larger than one pixel.
    """

    name: str
    group: str
    place: str
    depth: int
    main: bool
    spatial: bool


@dataclass(frozen=True)
class _Way:
    """The longest way to a tensor; kernels larger than a pixel count before any other layer."""

    names: tuple[str, ...] = ()
    spatial: int = 0

    def further(self, name: str, module: nn.Module) -> "_Way":
        return _Way((*self.names, name), self.spatial + _is_spatial(module))

    @property
    def length(self) -> tuple[int, int]:
        return self.spatial, len(self.names)


class _Ways(TorchFunctionMode):
    """Knows the longest way to each tensor that a forward pass makes."""

    def __init__(self) -> None:
        super().__init__()
        self._ways: dict[int, _Way] = {}
        self._kept: list[Tensor] = []  # or another tensor could get the number of one that is gone

    def to(self, tensors: Any) -> _Way:
        """Return the longest of the ways to ``tensors``."""
        ways = [self._ways[id(t)] for t in tree_leaves(tensors) if id(t) in self._ways]
        return max(ways, key=lambda way: way.length, default=_Way())

    def note(self, tensors: Any, way: _Way) -> None:
        """Take ``way`` for the one that leads to ``tensors``."""
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self._ways[id(tensor)] = way
                self._kept.append(tensor)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        way = self.to((args, kwargs))
        made = func(*args, **(kwargs or {}))
        self.note(made, way)
        return made


def layer_places(net: SegmentationNet, *, channels: int) -> tuple[LayerPlace, ...]:
    """Return the layers of ``net`` in the order in which a forward pass meets them.

    Args:
        net: its mode, its weights and the random generators stay as they are.
        channels: C of the image.
    """
    modules = {name: module for name, module in net.named_modules() if isinstance(module, LAYERS)}
    ways, found = _Ways(), dict[str, _Way]()

    def follow(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            way = ways.to(inputs).further(name, module)
            ways.note(output, way)
            found.setdefault(name, way)

        return hook

    hooks = [module.register_forward_hook(follow(name)) for name, module in modules.items()]
    was_training = {module: module.training for module in net.modules()}
    try:
        net.eval()
        weight = next(net.parameters())
        with (
            FakeTensorMode(allow_non_fake_inputs=True),
            torch.compiler.set_stance("force_eager"),
            torch.no_grad(),
            ways,
        ):
            side = net.least_side
            image = torch.empty(1, channels, side, side, device=weight.device, dtype=weight.dtype)
            logits = net(image)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in was_training.items():
            module.training = training
    main = set(ways.to(logits).names)
    numbers: dict[str, int] = {}
    places = []
    for name, way in found.items():
        group = _group(net, name)
        kind = _kind(name, modules[name], main=name in main)
        number = numbers[f"{group}, {kind}"] = numbers.get(f"{group}, {kind}", 0) + 1
        places.append(
            LayerPlace(
                name=name,
                group=group,
                place=f"{group}, {kind} {number}",
                depth=len(way.names),
                main=name in main,
                spatial=_is_spatial(modules[name]),
            )
        )
    return tuple(places)


def _is_spatial(module: nn.Module) -> bool:
    return any(side > 1 for side in getattr(module, "kernel_size", ()))


def _kind(name: str, module: nn.Module, *, main: bool) -> str:
    if not main and ("shortcut" in name or "downsample" in name):
        return "shortcut"
    return "linear" if isinstance(module, nn.Linear) else "conv"


def _group(net: SegmentationNet, name: str) -> str:
    """Return the part of the net, in words where the net is one that we know."""
    # smp and timm put a whole model into an attribute of this name.
    first, *rest = [part for part in name.split(".") if part != "model"]
    if first in ("bottleneck", "head"):
        return first
    if isinstance(net, SmpUNet) and first == "decoder":
        first, *rest = rest  # its blocks and skips are those of our own decoder
        first = {"blocks": "decoder"}.get(first, first)
    if isinstance(net, UNet | SmpUNet) and rest and rest[0].isdigit():
        words = {"ups": "up to level", "skips": "skip level"}.get(first, f"{first} level")
        return f"{words} {rest[0]}"
    return f"{first} {rest[0]}" if len(rest) > 1 else first

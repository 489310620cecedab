"""Starting weights of our own nets."""

from collections.abc import Callable

from torch import nn

from training.nets.blocks import LEAKY_SLOPE
from training.nets.config import Init, NetConfig


def _he(conv: nn.Conv2d, config: NetConfig) -> None:
    # He 2015b eq. 10 and 15. The gain is that of a rectifier for every activation, because the
    # study crosses init with activation instead of correcting one by the other.
    slope = LEAKY_SLOPE if config.activation == "leaky" else 0.0
    nn.init.kaiming_normal_(conv.weight, a=slope, nonlinearity="leaky_relu")


def _xavier(conv: nn.Conv2d, config: NetConfig) -> None:
    nn.init.xavier_uniform_(conv.weight)


INITS: dict[Init, Callable[[nn.Conv2d, NetConfig], None] | None] = {
    "he": _he,
    "xavier": _xavier,
    "default": None,
}


def initialise(net: nn.Module, config: NetConfig) -> None:
    """Set every convolution's weight by ``config.init`` and its bias to 0, in place.

    ``default`` leaves PyTorch's own (uniform, He with slope √5; biases not 0). Norms keep
    weight 1 and bias 0.
    """
    set_weight = INITS[config.init]
    if set_weight is None:
        return
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            set_weight(module, config)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

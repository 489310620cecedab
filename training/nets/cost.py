"""What a net costs: parameters, multiply-accumulates, and widths that meet a parameter count."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

# The widest and narrowest scaling that is searched; a twin without skips lies near 1.06.
SMALLEST_FACTOR, LARGEST_FACTOR = 0.25, 4.0
HALVINGS = 40


def parameter_count(net: nn.Module) -> int:
    """Return the number of trainable values; running statistics of norms do not count."""
    return sum(parameter.numel() for parameter in net.parameters())


def macs(net: nn.Module, *, channels: int, size_hw: tuple[int, int]) -> int:
    """Return the multiply-accumulates of one image's forward pass, in eval mode.

    Convolutions and matrix products are counted, as FLOP counters do; norms, activations and
    resampling are not. Nothing is computed: the pass runs on shapes alone.

    Args:
        net: takes [1, C, H, W]; its mode is left as it was.
        channels: C.
        size_hw: (H, W) in pixels, multiples of the net's divisor.
    """
    was_training = net.training
    net.eval()
    try:
        with (
            FakeTensorMode(allow_non_fake_inputs=True),
            FlopCounterMode(display=False) as counter,
            torch.no_grad(),
        ):
            net(torch.empty(1, channels, *size_hw))
    finally:
        net.train(was_training)
    return int(counter.get_total_flops()) // 2


def match_parameters(
    widths: tuple[int, ...],
    *,
    count: Callable[[tuple[int, ...]], int],
    target: int,
    multiple_of: int = 1,
) -> tuple[int, ...]:
    """Scale all ``widths`` by one factor so that ``count`` comes nearest to ``target``.

    One factor keeps the net's proportions, so the twin stays the same kind of net. Each width is
    rounded to ``multiple_of``; what that leaves of a difference is for the caller to report.

    Args:
        widths: channels per level at factor 1.
        count: parameters of the net with the widths given; must not fall when they grow.
        target: the count to meet.
        multiple_of: what each width must be a multiple of (group norm).

    Raises:
        ValueError: the target lies outside factors 0.25 to 4.
    """

    def scaled(factor: float) -> tuple[int, ...]:
        # Halves go up, all of them: round() sends them to even, which made two widths part ways.
        steps = (math.floor(width * factor / multiple_of + 0.5) for width in widths)
        return tuple(max(1, step) * multiple_of for step in steps)

    low, high = SMALLEST_FACTOR, LARGEST_FACTOR
    if not count(scaled(low)) <= target <= count(scaled(high)):
        raise ValueError(
            f"no factor between {low} and {high} brings widths {widths} to {target} parameters"
        )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if scaled(low) == scaled(high):
            break
        if count(scaled(middle)) < target:
            low = middle
        else:
            high = middle
    return min((scaled(low), scaled(high)), key=lambda found: abs(count(found) - target))

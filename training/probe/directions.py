"""Random directions through a net's weights, filter-normalised (Li 2018, section 4).

A filter's scale means nothing where a norm follows: twice the weights, the same net. A random step
of fixed length would then shake a net of small weights more than one of large weights. So each
filter of the direction gets the length of the net's own filter: d_ij ← d_ij / ‖d_ij‖ · ‖θ_ij‖.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Direction = Mapping[str, Tensor]
LEAST_NORM = 1e-10


def filter_normalised(net: nn.Module, *, seed: int) -> dict[str, Tensor]:
    """Draw a direction: a tensor per parameter, by its name.

    Biases and the parameters of norms, all that has fewer than two axes, stay where they are, as
    in Li's own code. A filter is what makes one output channel (the first axis).

    Args:
        net: whose weights give the lengths.
        seed: the same net and seed give the same direction.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = {}
    for name, parameter in net.named_parameters():
        if parameter.ndim < 2:
            direction[name] = torch.zeros_like(parameter)
            continue
        weight = parameter.detach()
        drawn = torch.randn(weight.shape, generator=generator).to(weight)
        own, random = (t.flatten(1).norm(dim=1).clamp(min=LEAST_NORM) for t in (weight, drawn))
        scale = torch.where(own > LEAST_NORM, own / random, 0.0)
        direction[name] = drawn * scale.reshape(-1, *([1] * (weight.ndim - 1)))
    return direction


@contextmanager
def moved(net: nn.Module, *steps: tuple[float, Direction]) -> Iterator[None]:
    """Stand at the weights plus each direction times its length; back to the bit afterwards."""
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    try:
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                for length, direction in steps:
                    parameter.add_(direction[name], alpha=length)
        yield
    finally:
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter.copy_(before[name])

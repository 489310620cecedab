"""Sums over the processes of one training, so that its size is that of one batch, not of many."""

from typing import Any

import torch
from torch import Tensor


def process_count() -> int:
    """Return how many processes train together; 1 without a process group."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def sum_over_processes(values: Tensor) -> Tensor:
    """Return ``values`` added up over all processes; gradients flow back to each one's part."""
    if process_count() == 1:
        return values
    total: Tensor = _Sum.apply(values)
    return total


class _Sum(torch.autograd.Function):
    """Each process's loss depends on each one's part, so gradients are added up likewise."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total

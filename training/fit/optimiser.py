"""Optimiser and learning-rate schedule, chosen by name."""

from collections.abc import Callable

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from training.fit.config import OptimiserConfig

__all__ = ["SCHEDULES", "OptimiserConfig", "build_optimiser", "build_schedule"]


def build_optimiser(net: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Return the optimiser; only tensors with two or more axes are decayed."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.kind == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.99, nesterov=True)
    return torch.optim.AdamW(groups, lr=config.lr)


SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, OptimiserConfig, int], LRScheduler]] = {
    "onecycle": lambda optimiser, config, steps: torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=config.lr, total_steps=steps, pct_start=config.warmup_fraction
    ),
    "cosine": lambda optimiser, _, steps: torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, T_max=steps
    ),
    "poly": lambda optimiser, _, steps: torch.optim.lr_scheduler.PolynomialLR(
        optimiser, total_iters=steps, power=0.9
    ),
    "constant": lambda optimiser, _, __: torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0),
}


def build_schedule(
    optimiser: torch.optim.Optimizer, config: OptimiserConfig, *, steps: int
) -> LRScheduler:
    """Return the schedule over ``steps`` optimiser steps; it is stepped once per step."""
    return SCHEDULES[config.schedule](optimiser, config, max(steps, 1))

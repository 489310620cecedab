"""Optimiser and learning-rate schedule, chosen by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True)
class OptimiserConfig:
    """How weights move.

    Attributes:
        kind: AdamW, or SGD with Nesterov momentum 0.99 (nnU-Net's).
        lr: highest learning rate.
        weight_decay: decoupled for AdamW; weights of convolutions only, never biases or norms.
        schedule: onecycle (Smith 2018), cosine, poly ((1 - t)^0.9, nnU-Net's) or constant.
        warmup_fraction: share of all steps in which onecycle rises.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    lr: float = 2e-3
    weight_decay: float = 1e-2
    schedule: Literal["onecycle", "cosine", "poly", "constant"] = "onecycle"
    warmup_fraction: float = 0.15

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"optimiser.lr must be above 0, got {self.lr}")
        if not 0 <= self.weight_decay < 1:
            raise ValueError(f"optimiser.weight_decay must be in [0, 1), got {self.weight_decay}")
        if not 0 < self.warmup_fraction < 1:
            raise ValueError(
                f"optimiser.warmup_fraction must be in (0, 1), got {self.warmup_fraction}"
            )


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

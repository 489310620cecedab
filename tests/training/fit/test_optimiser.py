import pytest
import torch
from torch import nn

from training.fit.optimiser import SCHEDULES, OptimiserConfig, build_optimiser, build_schedule


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_only_convolution_weights_are_decayed(kind: str) -> None:
    optimiser = build_optimiser(net(), OptimiserConfig(kind=kind, weight_decay=0.1))  # type: ignore[arg-type]
    decayed = {p.ndim for g in optimiser.param_groups if g["weight_decay"] for p in g["params"]}
    kept = {p.ndim for g in optimiser.param_groups if not g["weight_decay"] for p in g["params"]}
    assert decayed == {4}
    assert kept == {1}
    assert sum(len(g["params"]) for g in optimiser.param_groups) == len(list(net().parameters()))


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_schedules_cover_all_steps_and_end_where_they_should(schedule: str) -> None:
    config = OptimiserConfig(lr=0.1, schedule=schedule)  # type: ignore[arg-type]
    optimiser = build_optimiser(net(), config)
    schedule_ = build_schedule(optimiser, config, steps=40)
    rates = []
    for _ in range(40):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule_.step() if len(rates) < 40 else None
    assert max(rates) == pytest.approx(0.1, rel=0.02)
    assert rates[-1] == pytest.approx(0.1) if schedule == "constant" else rates[-1] < 0.01
    if schedule == "onecycle":
        assert rates.index(max(rates)) in range(4, 8)  # 15 % of 40 steps


@pytest.mark.parametrize(
    ("field", "value"), [("lr", 0.0), ("weight_decay", 1.0), ("warmup_fraction", 0.0)]
)
def test_settings_out_of_range_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"optimiser.{field}"):
        OptimiserConfig(**{field: value})


def test_a_frozen_net_part_is_left_out() -> None:
    frozen = net()
    for parameter in frozen[0].parameters():  # type: ignore[index]
        parameter.requires_grad = False
    optimiser = build_optimiser(frozen, OptimiserConfig())
    held = {id(p) for g in optimiser.param_groups for p in g["params"]}
    assert not held & {id(p) for p in frozen[0].parameters()}  # type: ignore[index]
    assert torch.is_tensor(next(iter(optimiser.param_groups[0]["params"])))
